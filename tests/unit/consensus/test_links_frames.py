"""Frames, messages in them, and how refusals are told."""

from __future__ import annotations

import contextlib
import logging
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import link_world
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_world import Clock

from agentkeeper.consensus import limits
from agentkeeper.consensus.links.frames import (
    MAX_CONTAINERS,
    MAX_INTRODUCTION_BYTES,
    MAX_LIST_ITEMS,
    MAX_MESSAGE_BYTES,
    FrameReader,
    decode,
    decode_introduction,
    encode,
    frame,
)
from agentkeeper.consensus.links.refusals import WARN_AGAIN_S, LinkError, Refusal, Refusals

clock = link_world.clock


def frames_of(reader: FrameReader) -> list[bytes]:
    return list(iter(reader.next, None))


@given(st.lists(st.binary(max_size=40)), st.data())
def test_frames_come_out_whole_however_they_are_split(bodies: list[bytes], data: Any) -> None:
    stream = b"".join(map(frame, bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = FrameReader(40), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[begin:end])
        found += frames_of(reader)
    assert found == bodies


@given(st.integers(41, 2**32 - 1))
def test_a_frame_that_is_too_long_is_refused_by_its_length_alone(length: int) -> None:
    reader = FrameReader(40)
    reader.feed(frame(b"good") + struct.pack(">I", length))
    assert reader.next() == b"good"
    with pytest.raises(LinkError) as refused:
        reader.next()
    assert refused.value.reason is Refusal.OVERSIZED


def test_a_truncated_frame_never_comes_out() -> None:
    whole = frame(b"abc")
    for end in range(len(whole)):
        reader = FrameReader(40)
        reader.feed(whole[:end])
        assert reader.next() is None


MESSAGES = st.dictionaries(
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
        lambda inner: st.lists(inner, max_size=5),
    ),
    max_size=8,
)


@given(MESSAGES)
def test_messages_survive_the_way(message: dict[str, Any]) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_refused(body: bytes) -> None:
    with contextlib.suppress(LinkError):  # and nothing else may be raised
        message = decode(body)
        assert isinstance(message, dict)
        assert all(isinstance(key, str) for key in message)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({b"type": 2}),
        msgpack.packb({"a": 1}) + b"\x00",
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"a": msgpack.Timestamp(0)}),
        msgpack.packb({"a": "x" * 5000}),
        msgpack.packb({"a": [0] * (MAX_LIST_ITEMS + 1)}),
        msgpack.packb({str(number): 0 for number in range(300)}),
        b"\x81\xa1a" + b"\x91" * 100_000 + b"\x90",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\x81\xa1a\xc6\xff\xff\xff\xff",
        b"\x81\xa1\xff\x01",
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(LinkError):
        decode(body)


def peak_bytes(decoder: Callable[[bytes], object], body: bytes) -> int:
    """Let a decoder refuse `body`, and give the memory that this took at most."""
    tracemalloc.start()
    try:
        with pytest.raises(LinkError):
            decoder(body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "nested",
    [
        b"\xdc\x20\x00",
        b"\xdc\x00\x10",
        b"\xdd\x00\x00\x10\x00",
        b"\x9f",
        b"\xdf\x00\x00\x01\x00\xa0",
        b"\x8f\xa0",
        b"\x81\xa0",
    ],
)
def test_no_introduction_takes_much_more_than_its_size(nested: bytes) -> None:
    body = (nested * MAX_INTRODUCTION_BYTES)[:MAX_INTRODUCTION_BYTES]
    for begin in (b"", b"\x81\xa1a"):
        assert peak_bytes(decode_introduction, (begin + body)[:MAX_INTRODUCTION_BYTES]) < 2**17


@pytest.mark.parametrize("value", [[], "x" * 257, bytes(65), {str(at): 0 for at in range(17)}])
def test_an_introduction_holds_little(value: object) -> None:
    assert decode_introduction(encode({"a": "x" * 256, "b": bytes(64)}))
    if value == []:
        assert decode_introduction(encode({"a": []})) == {"a": []}
        value = [0]
    with pytest.raises(LinkError):
        decode_introduction(encode({"a": value}))


@pytest.mark.parametrize("item", [b"\x90", b"\x80", b"\x91\x90"])
def test_a_peers_message_holds_so_many_containers_at_most(item: bytes) -> None:
    body = b"\x81\xa1a\xdc\x03\xe8" + (b"\xdc\x10\x00" + item * 4096) * 1000
    assert len(body) > 4_000_000
    assert peak_bytes(decode, body) < 2**21


def test_a_peers_containers_may_be_as_many_as_an_append_needs() -> None:
    within = [[0]] * MAX_LIST_ITEMS
    assert decode(encode({"a": within, "b": [[0]] * (MAX_CONTAINERS - MAX_LIST_ITEMS - 3)}))
    with pytest.raises(LinkError):
        decode(encode({"a": within, "b": [[0]] * (MAX_CONTAINERS - MAX_LIST_ITEMS - 2)}))


def test_a_peers_nested_lists_take_a_bounded_amount() -> None:
    assert peak_bytes(decode, b"\xdc\x10\x00" * 100_000) < 2**26


def test_the_largest_append_fits() -> None:
    small = [(bytes(limits.MAX_APPEND_BYTES // 4096), 2**40 + at, 2**40) for at in range(4095)]
    entries = [*small, (bytes(limits.MAX_PAYLOAD_BYTES + 1), 2**40 + 4095, 2**40)]
    body = encode({"type": "append_entries", "term": 2**40, "entries": entries})
    assert len(body) <= MAX_MESSAGE_BYTES
    assert len(decode(body)["entries"]) == 4096


def test_refusals_are_all_counted_and_seldom_logged(
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = Refusals()
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            refusals.note(Refusal.FORGED, "this went wrong")
        refusals.note(Refusal.LATE, "and that")
        refusals.note(None, "but this is normal")
        clock.now += WARN_AGAIN_S + 1
        refusals.note(Refusal.FORGED, "this went wrong again")
    assert refusals.counts == {"forged": 6, "late": 1}
    assert [record.message for record in caplog.records] == [
        "this went wrong",
        "and that",
        "this went wrong again (4 more like this since the last such warning)",
    ]
