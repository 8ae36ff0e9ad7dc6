"""What strangers can do to a replica that listens: nothing."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct

import link_world
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from link_world import (
    SECRET,
    RawPeer,
    World,
    channel,
    party,
)

from agentkeeper.consensus import transport
from agentkeeper.consensus.links.channels import PlainChannel, SecretChannel
from agentkeeper.consensus.links.frames import encode, frame
from agentkeeper.consensus.links.link import CONNECT_TIMEOUT_S, connect
from agentkeeper.consensus.links.listener import Listener
from agentkeeper.consensus.links.refusals import Refusal
from agentkeeper.consensus.transport import MAX_STRANGERS

clock = link_world.clock
world = link_world.world


@pytest.fixture(params=[None, SECRET], ids=["plain", "secret"])
def guarded(request: pytest.FixtureRequest, world: World) -> World:
    """Two linked replicas a and b."""
    world.start("a", request.param)
    world.start("b", request.param)
    world.linked("a", "b")
    return world


def still_fine(world: World) -> None:
    """Check that both still talk, over the link that they had."""
    a, b = world.replicas["a"], world.replicas["b"]
    assert a.send("b", {"still": "fine"})
    assert b.send("a", {"still": "fine"})
    world.until(lambda: a.received("b") and b.received("a"))
    assert a.events == [("up", "b"), ("b", {"still": "fine"})]
    assert b.events == [("up", "a"), ("a", {"still": "fine"})]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Refusal.OVERSIZED),
        (struct.pack(">I", 4097), Refusal.OVERSIZED),
        (b"\xff" * 100_000, Refusal.OVERSIZED),
        (frame(b"\x00" * 32), Refusal.MALFORMED),
        (frame(b""), Refusal.MALFORMED),
        (frame(encode({})), Refusal.WRONG_PROTOCOL),
        (frame(encode({"type": "append_entries", "term": 9})), Refusal.WRONG_PROTOCOL),
    ],
)
def test_nonsense_ends_a_connection_and_nothing_else(
    guarded: World, data: bytes, reason: Refusal
) -> None:
    stranger = RawPeer(guarded, "a")
    stranger.send(data)
    stranger.until_ended()
    assert guarded.replicas["a"].transport.refused == {reason.value: 1}
    still_fine(guarded)


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_is_sent_raises_nothing(guarded: World, pieces: list[bytes]) -> None:
    stranger = RawPeer(guarded, "a")
    for data in pieces:
        stranger.send(data)
        guarded.step()
    stranger.socket.close()
    guarded.step()
    for replica in guarded.replicas.values():
        assert len(replica.events) == 1


@pytest.mark.parametrize(
    ("own", "target", "reason"),
    [
        ("x", "a", Refusal.UNKNOWN_PEER),
        ("a", "a", Refusal.OWN_ID),
        ("b", "c", Refusal.MISDIRECTED),
    ],
)
def test_who_is_not_expected_is_turned_away(
    guarded: World, own: str, target: str, reason: Refusal
) -> None:
    stranger = RawPeer(guarded, "a", PlainChannel(party(own, target)))
    stranger.send(stranger.channel.take_outgoing())
    stranger.until_ended()
    assert stranger.events == []
    assert guarded.replicas["a"].transport.refused == {reason.value: 1}
    still_fine(guarded)


def test_a_lower_id_must_not_dial(guarded: World) -> None:
    stranger = RawPeer(guarded, "b", PlainChannel(party("a", "b")))
    stranger.send(stranger.channel.take_outgoing())
    stranger.until_ended()
    assert guarded.replicas["b"].transport.refused == {"wrong_direction": 1}
    still_fine(guarded)


def test_one_who_does_not_know_the_secret_cannot_take_a_link_away(world: World) -> None:
    world.start("a", SECRET)
    world.start("b", SECRET)
    world.linked("a", "b")
    for guess in (None, "a wrong secret"):
        stranger = RawPeer(world, "a", channel(guess, party("b", "a")))
        stranger.send(stranger.channel.take_outgoing())
        stranger.until_ended()
    assert world.replicas["a"].transport.refused == {"malformed": 1, "forged": 1}
    still_fine(world)


def test_a_recorded_session_played_again_is_refused(world: World) -> None:
    a = world.start("a", SECRET)
    peer = RawPeer(world, "a", SecretChannel(party("b", "a"), SECRET)).introduced()
    peer.send(peer.channel.seal(encode({"n": 1})))
    world.until(lambda: a.received("b") == [{"n": 1}])
    again = RawPeer(world, "a")
    again.send(peer.sent)
    again.until_ended()
    assert a.events == [("up", "b"), ("b", {"n": 1})]
    assert a.transport.refused == {"forged": 1}
    # A part of it, played into the live connection, ends that at least.
    peer.send(peer.sent[-40:])
    peer.until_ended()
    assert a.events == [("up", "b"), ("b", {"n": 1}), ("down", "b")]


def test_a_peer_that_sends_no_messages_is_dropped(world: World) -> None:
    a = world.start("a")
    for body in (b"\xc1", encode({"n": 1})[:-1], b"\x91\x01"):
        peer = RawPeer(world, "a", PlainChannel(party("b", "a"))).introduced()
        peer.send(frame(body))
        peer.until_ended()
    assert a.events == [("up", "b"), ("down", "b")] * 3
    assert a.transport.refused == {"malformed": 3}


def test_a_silent_stranger_is_shown_the_door(guarded: World) -> None:
    stranger = RawPeer(guarded, "a")
    guarded.pass_time(0.9 * CONNECT_TIMEOUT_S)
    stranger.read()
    assert not stranger.ended
    guarded.pass_time(0.2 * CONNECT_TIMEOUT_S)
    stranger.until_ended()
    assert guarded.replicas["a"].transport.refused == {"late": 1}
    still_fine(guarded)


def test_one_who_dribbles_is_late_all_the_same(guarded: World) -> None:
    stranger = RawPeer(guarded, "a")
    stranger.send(struct.pack(">I", 4000))
    for _ in range(30):
        stranger.send(b"x")
        guarded.pass_time(CONNECT_TIMEOUT_S / 25, steps=5)
    stranger.until_ended()
    assert guarded.replicas["a"].transport.refused == {"late": 1}


def test_a_crowd_of_strangers_harms_nothing(guarded: World) -> None:
    a = guarded.replicas["a"].transport
    crowd = [RawPeer(guarded, "a") for _ in range(100)]
    guarded.until(lambda: a.refused["crowd"] == 100 - MAX_STRANGERS)
    still_fine(guarded)
    assert len(a._strangers) == MAX_STRANGERS
    guarded.replicas["b"].transport.destroy()
    guarded.start("b", guarded.replicas["b"].transport._settings.secret)
    guarded.linked("a", "b")
    for stranger in crowd:
        stranger.socket.close()


def test_a_crowd_that_leaves_at_once_harms_nothing(guarded: World) -> None:
    for _ in range(100):
        stranger = RawPeer(guarded, "a")
        stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stranger.socket.close()
    for _ in range(100):
        guarded.step()
    assert not guarded.replicas["a"].transport._strangers
    still_fine(guarded)


def test_without_descriptors_the_listener_waits_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = 0
    real = Listener._on_event

    def counted(self: Listener, fd: int, mask: int) -> None:
        nonlocal events
        events += 1
        real(self, fd, mask)

    monkeypatch.setattr(Listener, "_on_event", counted)
    a = world.start("a").transport
    host, port = world.addresses["a"].split(":")
    waiting = socket.socket()
    lowest_free = os.dup(0)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        waiting.connect((host, int(port)))
        world.step()
        assert a.refused == {"no_descriptor": 1}
        world.pass_time(0.05)
        assert a.refused == {"no_descriptor": 1}
        assert events == 1, "it does not wake up again and again"
        world.pass_time(0.1)
        assert a.refused == {"no_descriptor": 2}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    world.until(lambda: a._strangers)
    waiting.close()
    world.start("b")
    world.linked("a", "b")


def test_a_dialer_without_descriptors_tries_again(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.start("a")
    b = world.start("b")
    failures = iter(range(3))

    def scarce(ip: str, port: int) -> socket.socket:
        if next(failures, None) is not None:
            raise OSError(errno.EMFILE, "too many open files")
        return connect(ip, port)

    monkeypatch.setattr(transport, "connect", scarce)
    world.until(lambda: ("up", "a") in b.events)
    assert b.transport.refused == {"unreachable": 3}
