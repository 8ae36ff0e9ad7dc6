"""Transports of several replicas over loopback, in one thread, with a clock that tests move."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import link_world
import pytest
from certificates import Authority
from link_world import (
    SECRET,
    SILENCE_S,
    RawPeer,
    World,
    free_port,
    party,
)
from pysyncobj.poller import POLL_EVENT_TYPE

from agentkeeper.consensus import limits
from agentkeeper.consensus.config import TlsFiles
from agentkeeper.consensus.links import link
from agentkeeper.consensus.links.channels import PlainChannel
from agentkeeper.consensus.links.frames import MAX_MESSAGE_BYTES, encode
from agentkeeper.consensus.links.refusals import Refusal
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.transport import NoTransport, PeerNode

clock = link_world.clock
world = link_world.world

LARGE = {"type": "large", "data": bytes(limits.MAX_PAYLOAD_BYTES)}


@pytest.fixture(params=["plain", "secret", "tls"])
def guards(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str | TlsFiles | None]:
    if request.param == "tls":
        authority = Authority(tmp_path)
        return {name: authority.issue(name) for name in "abc"}
    return dict.fromkeys("abc", SECRET if request.param == "secret" else None)


def test_replicas_find_each_other_and_talk(
    world: World,
    guards: dict[str, str | TlsFiles | None],
) -> None:
    a, b = world.start("a", guards["a"]), world.start("b", guards["b"])
    assert not a.send("b", {"n": 0}), "not linked yet"
    world.linked("a", "b")
    for source, to, sink in ((a, "b", b), (b, "a", a)):
        own = "a" if source is a else "b"
        sent = [{"n": number} for number in range(300)] + [LARGE, {"n": "last"}]
        assert all(source.send(to, message) for message in sent)
        began = world.clock.now
        world.until(lambda k=sink, own=own: {"n": "last"} in k.received(own))
        assert world.clock.now - began < SILENCE_S / 4, "no keep-alive had to push the rest"
        assert sink.received(own) == sent
        assert source.transport.unsent_bytes(source.nodes[to]) == 0
    assert not a.transport.refused
    assert not b.transport.refused


def test_idle_links_stay(world: World, guards: dict[str, str | TlsFiles | None]) -> None:
    a, b = world.start("a", guards["a"]), world.start("b", guards["b"])
    world.linked("a", "b")
    world.pass_time(10 * SILENCE_S, steps=400)
    assert (a.events, b.events) == ([("up", "b")], [("up", "a")])


def test_what_the_engine_refuses_is_counted_with_the_rest(world: World) -> None:
    a = world.start("a")
    a.transport.note(Refusal.UNINTRODUCED, "it sent something too early")
    assert a.transport.refused == {"unintroduced": 1}


def test_a_taken_address_is_reported(world: World) -> None:
    world.start("a")
    with pytest.raises(StartError, match=rf"cannot listen .* {world.addresses['a']}.* in use.*set"):
        world.start("a")
    world.addresses["a"] = "nowhere.invalid.:7400"
    with pytest.raises(StartError, match="cannot be used"):
        world.start("a")


@pytest.mark.parametrize(("gone", "stays"), ["ab", "ba"])
def test_a_replica_that_starts_anew_is_linked_anew(world: World, gone: str, stays: str) -> None:
    world.start(gone, SECRET)
    replica = world.start(stays, SECRET)
    world.linked("a", "b")
    world.stop(gone)
    world.until(lambda: replica.events == [("up", gone), ("down", gone)])
    assert not replica.send(gone, {"n": 1})
    world.start(gone, SECRET)
    world.until(lambda: replica.events == [("up", gone), ("down", gone), ("up", gone)])
    assert replica.send(gone, {"n": 1})


def test_a_peer_that_introduces_itself_anew_has_lost_its_older_link(world: World) -> None:
    a = world.start("a")
    older = RawPeer(world, "a", PlainChannel(party("b", "a"))).introduced()
    older.send(PlainChannel.seal(older.channel, encode({"n": 1})))
    world.until(lambda: a.received("b") == [{"n": 1}])
    newer = RawPeer(world, "a", PlainChannel(party("b", "a"))).introduced()
    older.send(older.channel.seal(encode({"n": 2})))
    newer.send(newer.channel.seal(encode({"n": 3})))
    world.until(lambda: a.received("b")[-1] == {"n": 3})
    older.until_ended()
    assert a.events == [
        ("up", "b"),
        ("b", {"n": 1}),
        ("down", "b"),
        ("up", "b"),
        ("b", {"n": 3}),
    ]
    assert a.transport.refused == {"replaced": 1}
    newer.socket.close()
    world.until(lambda: a.events[-1] == ("down", "b"))


def test_a_silent_link_is_dropped(world: World) -> None:
    a, b = world.start("a", SECRET), world.start("b", SECRET)
    world.linked("a", "b")
    world.replicas.pop("b")
    world.pass_time(0.9 * SILENCE_S)
    assert a.events == [("up", "b")]
    world.pass_time(0.2 * SILENCE_S)
    assert a.events == [("up", "b"), ("down", "b")]
    assert a.transport.refused == {"silent": 1}
    world.replicas["b"] = b
    world.until(lambda: a.events[-1] == ("up", "b"))


def test_time_in_which_this_process_did_not_run_is_no_silence(world: World) -> None:
    a = world.start("a", SECRET)
    world.start("b", SECRET)
    world.linked("a", "b")
    world.clock.now += 10 * SILENCE_S
    a.transport.rejuvenate(10 * SILENCE_S)
    a.raft.step()
    assert a.events == [("up", "b")]
    a.transport.rejuvenate(10 * SILENCE_S)
    del world.replicas["b"]
    world.pass_time(1.1 * SILENCE_S)
    assert a.events[-1] == ("down", "b"), "a span too long does not reach into the future"


def test_a_peer_that_does_not_read_is_dropped_in_the_end(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_LINK_BUFFER_BYTES", 2**23)
    a = world.start("a")
    peer = RawPeer(world, "a", PlainChannel(party("b", "a"))).introduced()
    while a.send("b", LARGE):
        world.step()
    unsent = a.transport.unsent_bytes(a.nodes["b"])
    assert 2**23 < unsent <= 2**23 + len(encode(LARGE)) + 4
    assert a.transport.refused == {"unsent": 1}
    world.until(
        lambda: peer.send(peer.channel.seal(b"")) or a.events[-1] == ("down", "b"),  # it does live
        span_s=SILENCE_S / 25,
    )
    assert a.events == [("up", "b"), ("down", "b")]
    assert a.transport.refused == {"unsent": 1, "stuck": 1}
    assert a.transport.unsent_bytes(a.nodes["b"]) == 0
    peer.socket.close()


def test_a_peer_that_had_nothing_to_read_is_given_its_time(world: World) -> None:
    a = world.start("a")
    peer = RawPeer(world, "a", PlainChannel(party("b", "a"))).introduced()
    for _ in range(3):
        peer.send(peer.channel.seal(b""))
        world.pass_time(0.9 * SILENCE_S)
    filled = a.transport._links["b"]
    with contextlib.suppress(BlockingIOError):
        while True:
            filled._socket.send(bytes(2**20))
    assert a.send("b", {"n": 1})
    assert a.transport.unsent_bytes(a.nodes["b"])
    filled.check(SILENCE_S)
    assert a.events == [("up", "b")]
    peer.socket.close()


def test_a_slow_reader_is_not_dropped(world: World) -> None:
    a = world.start("a")
    peer = RawPeer(world, "a", PlainChannel(party("b", "a"))).introduced()
    for _ in range(4):
        assert a.send("b", LARGE)
    for _ in range(200):
        peer.read()
        peer.send(peer.channel.seal(b""))
        world.pass_time(SILENCE_S / 10, steps=5)
    assert a.events == [("up", "b")]
    peer.socket.close()


def test_messages_that_are_too_large_are_not_sent(world: World) -> None:
    a = world.start("a")
    world.start("b")
    world.linked("a", "b")
    assert not a.send("b", {"data": bytes(MAX_MESSAGE_BYTES)})
    assert a.transport.refused == {"unsent": 1}
    assert a.send("b", {"n": 1})
    world.until(lambda: world.replicas["b"].received("a") == [{"n": 1}])


def test_one_who_sends_much_does_not_starve_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "READ_BYTES", 4096)
    world.addresses["c"] = f"127.0.0.1:{free_port()}"
    a, b, c = (world.start(name) for name in "abc")
    world.linked("a", "b", "c")
    filler = bytes(1000)
    for _ in range(40):
        assert b.send("a", {"n": filler})
    assert b.send("a", {"n": "last"})
    assert c.send("a", {"n": "other"})
    a.raft.step()
    assert 0 < len(a.received("b")) <= 4, "it read what it may and no more"
    assert a.received("c") == [{"n": "other"}]
    while a.received("b")[-1] != {"n": "last"}:
        before = len(a.received("b"))
        a.raft.step()
        assert len(a.received("b")) > before, "what is left was not forgotten"


def test_what_the_engine_raises_gets_through(world: World) -> None:
    a, b = world.start("a"), world.start("b")
    world.linked("a", "b")

    def fail(node: object, message: object) -> None:
        raise OSError("the disk is gone")

    a.transport.setOnMessageReceivedCallback(fail)
    b.send("a", {"n": 1})
    with pytest.raises(OSError, match="the disk is gone"):
        world.until(lambda: False)


def test_destroy_is_silent_and_can_be_repeated(world: World) -> None:
    a, b = world.start("a"), world.start("b")
    world.linked("a", "b")
    b.transport.destroy()
    b.transport.destroy()
    b.raft.step()
    assert b.events == [("up", "a")]
    assert not b.transport.ready
    assert not b.send("a", {})
    world.until(lambda: a.events[-1] == ("down", "b"))
    world.pass_time(1.0)
    assert a.events == [("up", "b"), ("down", "b")], "it does not dial any more"


def test_an_event_that_comes_too_late_is_ignored(world: World) -> None:
    a, b = world.start("a"), world.start("b")
    world.linked("a", "b")
    closed = a.transport._links["b"]
    b.send("a", {"n": 1})
    closed.close()  # as another link's event in the same poll may do
    closed._on_event(0, POLL_EVENT_TYPE.READ | POLL_EVENT_TYPE.WRITE)
    world.clock.now += 1.0
    closed.check(0.0)
    assert a.events == [("up", "b")]


def test_a_replica_that_is_not_there_is_not_dialled_all_the_time(world: World) -> None:
    world.addresses["a"] = "255.255.255.255:7400"
    b = world.start("b")
    world.pass_time(2.0, steps=400)
    assert 10 <= b.transport.refused[Refusal.UNREACHABLE] <= 21


def test_a_listener_that_closes_everything_within_a_callback(world: World) -> None:
    a, b = world.start("a"), world.start("b")
    world.linked("a", "b")
    a.transport.setOnMessageReceivedCallback(
        lambda node, message: (a.events.append(message), a.transport.destroy())
    )
    for number in range(3):
        assert b.send("a", {"n": number})
    world.until(lambda: b.events[-1] == ("down", "a"))
    assert a.events == [("up", "b"), {"n": 0}]


def test_another_secret_keeps_out(world: World) -> None:
    a, b = world.start("a", SECRET), world.start("b", "another one")
    world.until(lambda: a.transport.refused["forged"] > 1 and b.transport.refused["turned_away"])
    assert a.events == b.events == []


def test_renewed_certificates_are_used_without_a_restart(world: World, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    b = world.start("b", authority.issue("b", expired=True))
    a = world.start("a", authority.issue("a"))
    world.until(lambda: a.transport.refused["tls"] > 1 and b.transport.refused["tls"] > 1)
    authority.issue("b")
    world.linked("a", "b")


def test_missing_certificates_are_tried_again(world: World, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("x")
    there = {
        name: dataclasses.replace(
            files, certificate=tmp_path / f"{name}.pem", key=tmp_path / f"{name}.key"
        )
        for name in "ab"
    }
    a, b = world.start("a", there["a"]), world.start("b", there["b"])
    world.until(lambda: b.transport.refused["tls_files"] > 1)
    authority.issue("b")
    world.until(lambda: a.transport.refused["tls_files"] > 1)
    assert a.events == b.events == []
    authority.issue("a")
    world.linked("a", "b")


def test_alone_there_is_nobody_to_talk_to() -> None:
    node = PeerNode("a", f"127.0.0.1:{free_port()}")
    alone = NoTransport(node)
    alone.rejuvenate(1.0)
    assert not alone.send(node, {})
    assert alone.unsent_bytes(node) == 0
    assert not alone.refused
