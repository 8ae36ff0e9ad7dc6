"""Requests and their metadata from bytes and strings; what can't be read names its field."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server.caller import CONSISTENCY, MIN_INDEX, REQUEST, SEEN, SESSION, Caller
from agentkeeper.server.decode import PLAIN_BYTES, decode, has_more_fields
from agentkeeper.server.errors import CallError

from .helpers import refusal_of


def field_of(data: bytes) -> str:
    with pytest.raises(CallError) as caught:
        decode(pb.RegisterRequest, data)
    assert caught.value.code == "INVALID_ARGUMENT"
    return caught.value.field


def with_card(data: bytes) -> bytes:
    return b"\x0a" + bytes([len(data)]) + data


@pytest.mark.parametrize(
    ("card", "field"),
    [
        (b"\x0a\x01\xff", "card.name"),
        (b"\x12\x02\xc0\x80", "card.description"),
        (b"\x0a\x01a\x2a\x01b\x2a\x01\xff", "card.tools[1]"),
        (b"\x22\x03\x0a\x01a\x22\x03\x12\x01\xff", "card.capabilities[1].description"),
        (b"\x32\x06\x0a\x01\xff\x12\x01v", "card.metadata[0].key"),
        (b"\x32\x06\x0a\x01k\x12\x01\xff", "card.metadata[0].value"),
    ],
)
def test_the_field_that_is_not_utf8_is_named(card: bytes, field: str) -> None:
    assert field_of(with_card(card)) == field


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a", b"\x0a\x05a", b"\x08", b"\x0a\x01\x0a", b"\x0b"]
)
def test_what_is_no_message_at_all(data: bytes) -> None:
    assert field_of(data) == "request"


@given(st.binary(max_size=80))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for kind in (pb.RegisterRequest, pb.FindRequest, pb.SetPolicyRequest, pb.RenewLeaseRequest):
        error = refusal_of(partial(decode, kind, data))
        assert error is None or error.field


@given(st.text(), st.text())
def test_what_is_well_formed_is_read(name: str, tool: str) -> None:
    request = pb.RegisterRequest(card=pb.AgentCard(name=name, tools=[tool], metadata={name: tool}))
    assert decode(pb.RegisterRequest, request.SerializeToString()) == request


def test_no_metadata() -> None:
    assert Caller.from_metadata([("user-agent", "x")], 5.0) == Caller(deadline_s=5.0)


def test_all_metadata() -> None:
    given_metadata = [
        (SESSION, "s"),
        (REQUEST, "7"),
        (SEEN, "3"),
        (CONSISTENCY, "stale"),
        (MIN_INDEX, "9"),
    ]
    expected = Caller(session_id="s", number=7, seen=3, deadline_s=None, stale=True, min_index=9)
    assert Caller.from_metadata(given_metadata, None) == expected


@given(st.sampled_from([REQUEST, SEEN, MIN_INDEX]), st.text(max_size=20) | st.from_regex("[0-9]+"))
def test_numbers(key: str, text: str) -> None:
    fits = text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= limits.COUNTER_MAX
    error = refusal_of(lambda: Caller.from_metadata([(key, text)], None))
    assert (error is None) == fits
    assert error is None or error.field == key


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({SESSION: "s" * (limits.SESSION_ID_BYTES + 1), REQUEST: "1"}, SESSION),
        ({SESSION: "s"}, REQUEST),
        ({SESSION: "s", REQUEST: "0"}, REQUEST),
        ({CONSISTENCY: "eventual"}, CONSISTENCY),
    ],
)
def test_bad_metadata(metadata: dict[str, str], field: str) -> None:
    with pytest.raises(CallError) as caught:
        Caller.from_metadata(metadata.items(), None)
    assert caught.value.field == field


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 2**64 - 1)), st.integers(0, 20))
def test_fields_are_counted(requests: list[bytes], ids: list[int], bound: int) -> None:
    frame = pb.CallFrame(calls=[pb.Call(request=r, id=7) for r in requests], cancelled=ids)
    count = len(requests) + bool(ids)
    assert has_more_fields(frame.SerializeToString(), bound) == (count > bound)


@given(st.binary(max_size=200), st.integers(0, 5))
def test_fields_of_any_bytes_are_counted_without_an_error(data: bytes, bound: int) -> None:
    has_more_fields(data, bound)


def test_all_kinds_of_fields_are_counted() -> None:
    kinds = [b"\x08\xff\xff\x01", b"\x11" + bytes(8), b"\x12\x02ab", b"\x1d" + bytes(4)]
    data = b"".join(kinds)
    assert has_more_fields(data, 3)
    assert not has_more_fields(data, 4)


def test_what_a_call_says_of_itself() -> None:
    call = pb.Call(session_id="s", request_number=7, seen=3, timeout_ms=1_500, min_index=9)
    expected = Caller(session_id="s", number=7, seen=3, deadline_s=101.5, min_index=9)
    assert Caller.from_call(call, 100.0) == expected
    assert Caller.from_call(pb.Call(stale=True), 100.0) == Caller(stale=True)


@pytest.mark.parametrize("size", [0, 10, 2_000, 100_000])
def test_nothing_is_kept_of_a_request_but_what_it_says(size: int) -> None:
    said = pb.ClaimTaskRequest(agent_id="a", wait_ms=5).SerializeToString()
    given = said + pb.CreateTaskRequest(input=b"z" * size).SerializeToString()
    decoded = decode(pb.ClaimTaskRequest, given)
    assert (decoded.agent_id, decoded.wait_ms) == ("a", 5)
    assert decoded.ByteSize() <= max(len(said), PLAIN_BYTES)


@pytest.mark.parametrize("group", [b"\xa3\x06\xa4\x06", b"\xa3\x06", b"\xa4\x06", b"\x0e", b"\x0f"])
def test_groups_hide_nothing_from_the_bound(group: bytes) -> None:
    assert has_more_fields(group + b"\x0a\x00" * 1_000, 500)
    assert not has_more_fields(b"\x0a\x00" * 500, 500)
