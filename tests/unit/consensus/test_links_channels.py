"""Channels without sockets: introductions, sealing, and everything that must be refused."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from certificates import Authority
from hypothesis import given, settings
from hypothesis import strategies as st
from link_world import SECRET, channel, introduce, party

from agentkeeper.consensus.config import TlsFiles
from agentkeeper.consensus.links import channels
from agentkeeper.consensus.links.channels import Channel, PlainChannel, SecretChannel
from agentkeeper.consensus.links.frames import MAX_MESSAGE_BYTES, decode, encode, frame
from agentkeeper.consensus.links.introduction import Introduced
from agentkeeper.consensus.links.refusals import LinkError, Refusal

Guard = str | TlsFiles | None


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TlsFiles]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    return {name: authority.issue(name) for name in "abc"}


@pytest.fixture(params=["plain", "secret", "tls"])
def guards(request: pytest.FixtureRequest, certified: dict[str, TlsFiles]) -> dict[str, Guard]:
    return {
        "plain": dict.fromkeys("abc", None),
        "secret": dict.fromkeys("abc", SECRET),
        "tls": certified,
    }[request.param]


def pair(guards: dict[str, Guard]) -> tuple[Channel, Channel]:
    """Make b, who dials, and a."""
    return channel(guards["b"], party("b", "a")), channel(guards["a"], party("a"))


def secret_pair() -> tuple[Channel, Channel]:
    made = pair(dict.fromkeys("abc", SECRET))
    introduce(*made)
    return made


def refusal(act: Callable[[], object]) -> Refusal | None:
    with pytest.raises(LinkError) as refused:
        act()
    return refused.value.reason


def test_both_learn_who_the_other_is_and_can_talk(guards: dict[str, Guard]) -> None:
    dialer, acceptor = pair(guards)
    assert introduce(dialer, acceptor) == (Introduced("a"), Introduced("b"))
    for source, sink in ((dialer, acceptor), (acceptor, dialer)):
        bodies = [b"one", b"two" * 1000, bytes(MAX_MESSAGE_BYTES)]
        stream = b"".join(source.seal(body) for body in (b"", *bodies))
        assert list(sink.receive(stream)) == bodies, "an empty one is not a message"
        assert refusal(lambda s=source, k=sink: list(k.receive(s.seal(bytes(5 * 2**20))))) is (
            Refusal.OVERSIZED
        )


def test_byte_by_byte_is_as_good(guards: dict[str, Guard]) -> None:
    dialer, acceptor = pair(guards)
    events: dict[Channel, list[object]] = {dialer: [], acceptor: []}
    for _ in range(6):
        for source, sink in ((dialer, acceptor), (acceptor, dialer)):
            for byte in source.take_outgoing():
                events[sink] += sink.receive(bytes([byte]))
    for byte in dialer.seal(b"hello"):
        events[acceptor] += acceptor.receive(bytes([byte]))
    assert events[acceptor] == [Introduced("b"), b"hello"]
    assert events[dialer] == [Introduced("a")]


def answers(sink: Channel, data: bytes) -> bytes:
    assert list(sink.receive(data)) == []
    return sink.take_outgoing()


@pytest.mark.parametrize(
    ("own", "target", "change", "reason"),
    [
        ("b", "a", ("protocol", 2), Refusal.WRONG_PROTOCOL),
        ("b", "a", ("protocol", None), Refusal.WRONG_PROTOCOL),
        ("x", "a", ("from", "x"), Refusal.UNKNOWN_PEER),
        ("b", "a", ("from", "a"), Refusal.OWN_ID),
        ("b", "c", ("to", "c"), Refusal.MISDIRECTED),
        ("b", "a", ("from", 7), Refusal.MALFORMED),
        ("b", "a", ("from", "x" * 300), Refusal.MALFORMED),
        ("b", "a", ("from", ""), Refusal.MALFORMED),
        ("b", "a", ("to", None), Refusal.MALFORMED),
        ("b", "a", ("more", ["x"]), Refusal.MALFORMED),
        ("b", "a", ("more", bytes(65)), Refusal.MALFORMED),
    ],
)
@pytest.mark.parametrize("guard", [None, SECRET])
def test_who_is_not_let_in(
    guard: Guard, own: str, target: str, change: tuple[str, object], reason: Refusal
) -> None:
    dialer, acceptor = channel(guard, party(own, target)), channel(guard, party("a"))
    hello = decode(dialer.take_outgoing()[4:])
    hello.update([change])
    assert refusal(lambda: list(acceptor.receive(frame(encode(hello))))) is reason


def test_the_lower_id_must_not_dial() -> None:
    dialer, acceptor = PlainChannel(party("a", "b")), PlainChannel(party("b"))
    assert refusal(lambda: introduce(dialer, acceptor)) is Refusal.WRONG_DIRECTION


def test_a_dialer_notices_that_it_reached_somebody_else() -> None:
    dialer = PlainChannel(party("c", "a"))
    answer = PlainChannel(party("b")).party.answer({})
    assert refusal(lambda: list(dialer.receive(frame(answer)))) is Refusal.MISDIRECTED


def test_nobody_proves_anything_to_one_with_another_secret() -> None:
    dialer, acceptor = SecretChannel(party("b", "a"), "one"), SecretChannel(party("a"), "other")
    proof = answers(dialer, answers(acceptor, dialer.take_outgoing()))
    assert refusal(lambda: list(acceptor.receive(proof))) is Refusal.FORGED
    assert acceptor.take_outgoing() == b"", "a stranger gets nothing to guess the secret by"


@pytest.mark.parametrize("proof", [bytes(32), b"", b"\xff" * 33])
def test_the_acceptor_has_to_prove_itself_too(proof: bytes) -> None:
    dialer, acceptor = SecretChannel(party("b", "a"), SECRET), SecretChannel(party("a"), SECRET)
    answers(dialer, answers(acceptor, dialer.take_outgoing()))
    assert refusal(lambda: list(dialer.receive(frame(proof)))) is Refusal.FORGED


def test_a_reflected_introduction_is_refused() -> None:
    dialer = SecretChannel(party("b", "a"), SECRET)
    acceptor = SecretChannel(party("a"), SECRET)
    proof = answers(dialer, answers(acceptor, dialer.take_outgoing()))
    assert refusal(lambda: list(dialer.receive(proof))) is Refusal.FORGED


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1, *value[1:]])


def test_what_was_said_in_the_introduction_cannot_be_changed() -> None:
    for changed in ("more", "nonce", "key"):
        dialer, acceptor = SecretChannel(party("b", "a"), SECRET), SecretChannel(party("a"), SECRET)
        answer = decode(answers(acceptor, dialer.take_outgoing())[4:])
        answer[changed] = flipped(answer.get(changed, b"more"))
        proof = answers(dialer, frame(encode(answer)))
        assert refusal(lambda a=acceptor, p=proof: list(a.receive(p))) is Refusal.FORGED


@pytest.mark.parametrize("key", ["nonce", "key"])
@pytest.mark.parametrize("value", [None, b"short", "x" * 32])
def test_nonces_and_keys_have_to_be_there(key: str, value: object) -> None:
    acceptor = SecretChannel(party("a"), SECRET)
    hello = decode(SecretChannel(party("b", "a"), SECRET).take_outgoing()[4:])
    hello[key] = value
    assert refusal(lambda: list(acceptor.receive(frame(encode(hello))))) is Refusal.MALFORMED


def test_a_key_that_agrees_on_what_everyone_knows_is_refused() -> None:
    acceptor = SecretChannel(party("a"), SECRET)
    hello = decode(SecretChannel(party("b", "a"), SECRET).take_outgoing()[4:])
    hello["key"] = bytes(32)
    assert refusal(lambda: list(acceptor.receive(frame(encode(hello))))) is Refusal.FORGED


def test_a_recorded_connection_cannot_be_played_again() -> None:
    dialer, acceptor = SecretChannel(party("b", "a"), SECRET), SecretChannel(party("a"), SECRET)
    hello = dialer.take_outgoing()
    proof = answers(dialer, answers(acceptor, hello))
    assert list(acceptor.receive(proof)) == [Introduced("b")]
    again = SecretChannel(party("a"), SECRET)
    assert answers(again, hello)
    assert refusal(lambda: list(again.receive(proof))) is Refusal.FORGED


@pytest.mark.parametrize("order", [(0, 0), (1,), (1, 0), (0, 2)])
def test_sealed_frames_open_in_their_place_only(order: tuple[int, ...]) -> None:
    dialer, acceptor = secret_pair()
    sealed = [dialer.seal(b"%d" % number) for number in range(3)]
    opened: list[object] = []

    def play() -> None:
        for number in order:
            opened.extend(acceptor.receive(sealed[number]))

    assert refusal(play) is Refusal.FORGED
    assert opened in ([], [b"0"])


def test_sealed_frames_open_at_the_other_end_of_their_link_only() -> None:
    dialer, acceptor = secret_pair()
    _, stranger = secret_pair()
    sealed = dialer.seal(b"x")
    assert refusal(lambda: list(dialer.receive(sealed))) is Refusal.FORGED
    assert refusal(lambda: list(stranger.receive(sealed))) is Refusal.FORGED
    assert refusal(lambda: list(acceptor.receive(frame(b"")))) is Refusal.FORGED


def test_equal_messages_look_different_and_reveal_nothing() -> None:
    dialer, _ = secret_pair()
    first, second = dialer.seal(b"attack at dawn"), dialer.seal(b"attack at dawn")
    assert first != second
    assert b"attack" not in first


def test_keys_are_renewed_on_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "NEW_KEY_FRAMES", 3)
    dialer, acceptor = secret_pair()
    keys = {acceptor._opening._key: 0}  # type: ignore[attr-defined]
    bodies = [b"%d" % number for number in range(10)]
    for body in bodies:
        assert list(acceptor.receive(dialer.seal(body))) == [body]
        keys[acceptor._opening._key] = 0  # type: ignore[attr-defined]
    assert len(keys) == 4


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_damage_never_yields_anything_but_what_was_sent(bodies: list[bytes], data: Any) -> None:
    dialer, acceptor = secret_pair()
    stream = bytearray(b"".join(map(dialer.seal, bodies)))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    opened: list[object] = []
    with contextlib.suppress(LinkError):  # none if a length grew: the rest never comes then
        opened.extend(acceptor.receive(bytes(stream)))
    ends = itertools.accumulate(4 + len(body) + 16 for body in bodies)
    assert opened == bodies[: sum(end <= at for end in ends)]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.booleans())
@settings(deadline=None)
@pytest.mark.parametrize("kind", ["plain", "secret", "tls"])
def test_garbage_yields_nothing(
    certified: dict[str, TlsFiles], kind: str, garbage: bytes, cuts: list[int], dials: bool
) -> None:
    guard = {"plain": None, "secret": SECRET, "tls": certified["b"]}[kind]
    for data in (garbage, frame(garbage)):
        end = channel(guard, party("b", "a" if dials else None))
        pieces = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        with contextlib.suppress(LinkError):  # and nothing else may be raised
            for begin, stop in itertools.pairwise(pieces):
                assert list(end.receive(data[begin:stop])) == []


FIELDS = st.sampled_from(["protocol", "from", "to", "more", "nonce", "key"])
VALUES = st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.binary(max_size=40)


@given(st.dictionaries(FIELDS, VALUES | st.lists(VALUES, max_size=2), min_size=1))
@settings(deadline=None)
@pytest.mark.parametrize("dials", [True, False])
def test_any_introduction_is_taken_or_refused(dials: bool, changes: dict[str, Any]) -> None:
    for guard in (None, SECRET):
        mine = channel(guard, party("b", "a" if dials else None))
        theirs = channel(guard, party("a") if dials else party("c", "b"))
        said = theirs.take_outgoing()
        if dials:
            said = taken(theirs, mine.take_outgoing())
        changed = frame(encode({**decode(said[4:]), **changes}))
        with contextlib.suppress(LinkError):  # and nothing else may be raised
            events = list(mine.receive(changed))
            assert all(isinstance(event, Introduced) for event in events)
            assert guard is None or not events, "nobody is introduced without a proof"


def taken(sink: Channel, data: bytes) -> bytes:
    list(sink.receive(data))
    return sink.take_outgoing()


def test_a_stranger_costs_no_key_before_it_has_said_who_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = 0
    draw = channels._draw

    def counted() -> Any:
        nonlocal drawn
        drawn += 1
        return draw()

    monkeypatch.setattr(channels, "_draw", counted)
    acceptor = SecretChannel(party("a"), SECRET)
    assert refusal(lambda: list(acceptor.receive(frame(encode({"from": "b"}))))) is not None
    assert drawn == 0
