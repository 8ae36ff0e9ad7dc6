"""Messages between replicas, and the mapping of refusals to statuses."""

import grpc
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.core import refusals
from agentkeeper.core.records import Refused
from agentkeeper.server import errors
from agentkeeper.server.messages import (
    AskIndex,
    Digest,
    Forward,
    Forwarded,
    MalformedMessageError,
    Message,
    TellIndex,
    pack_message,
    unpack_message,
)

MESSAGES = [
    Forward(1, b"\0\xff"),
    Forwarded(2, True),
    Forwarded(2, False),
    AskIndex(3),
    TellIndex(4, 5),
    TellIndex(4, None),
    Digest(4_096, "5" * 32, answers=False),
]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_messages_survive_the_way(message: Message) -> None:
    back = unpack_message(pack_message(message))
    assert back == message
    assert type(back) is type(message)


def unpack_or_refuse(data: bytes) -> None:
    try:
        message = unpack_message(data)
    except MalformedMessageError:
        return
    assert isinstance(message[0], int)
    if isinstance(message, Digest):
        assert isinstance(message.digest, str)
        assert isinstance(message.answers, bool)
    if isinstance(message, Forward):
        assert isinstance(message.commands, bytes)
    if isinstance(message, TellIndex):
        assert message.read_index is None or isinstance(message.read_index, int)


@given(st.binary(max_size=64))
def test_any_bytes(data: bytes) -> None:
    unpack_or_refuse(data)


@given(PLAIN)
def test_any_value(value: object) -> None:
    try:
        data = msgpack.packb(value)
    except (ValueError, OverflowError):
        return
    unpack_or_refuse(data)


@given(st.lists(st.integers(-2, 6) | PLAIN, max_size=4))
def test_rows_that_are_almost_messages(row: list[object]) -> None:
    try:
        data = msgpack.packb(row)
    except (ValueError, OverflowError):
        return
    unpack_or_refuse(data)


@pytest.mark.parametrize(
    "row",
    [
        [],
        [0],
        [0, 1],
        [0, 1, 5],
        [0, 1, "text"],
        [0, "1", b""],
        [0, 1, b"", 2],
        [-1, 1, 2],
        [True, 1, True],
        [1, 1, 1],
        [2],
        [3, 1, "1"],
        [4, 1],
        [4, 1, b"digest", False],
        [4, "1", "digest", False],
        [4, 1, "digest", 0],
        [5, 1],
        5,
        None,
        {},
    ],
    ids=repr,
)
def test_malformed_messages(row: object) -> None:
    with pytest.raises(MalformedMessageError):
        unpack_message(msgpack.packb(row))


def test_deep_and_strange_bytes() -> None:
    for data in (b"\x91" * 100_000, b"\xc1", b"\xc7\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xa1\xff"):
        with pytest.raises(MalformedMessageError):
            unpack_message(data)


CODES = {
    name: value
    for name, value in vars(refusals).items()
    if isinstance(value, str) and name == value
}


def test_every_code_of_a_refusal_is_a_status() -> None:
    assert {"NOT_FOUND", "PERMISSION_DENIED", "ALREADY_EXISTS", "ABORTED"} <= set(CODES)
    assert set(CODES) <= {status.name for status in grpc.StatusCode} - {"OK"}


def test_codes_have_the_numbers_of_grpc() -> None:
    statuses = {status.name: status.value[0] for status in grpc.StatusCode}
    assert statuses == {"OK": 0, **errors.NUMBERS}


@pytest.mark.parametrize(
    ("refusal", "definite"),
    [
        (refusals.not_found("agent", "x"), True),
        (refusals.stale_token("x"), True),
        (refusals.limit("agents", 5), True),
        (refusals.session_expired("x"), False),
        (refusals.outcome_unknown(5), False),
        (refusals.WITHDRAWN_REQUEST, True),
    ],
)
def test_refusals_of_the_state_machine(refusal: Refused, definite: bool) -> None:
    error = errors.refused(refusal)
    assert error.code in CODES
    assert (error.reason, error.message) == (refusal.reason, refusal.message)
    assert error.definite is definite


def test_errors_of_the_service_layer() -> None:
    made = [
        ("INVALID_ARGUMENT", errors.bad_field("f", "bad")),
        ("UNAVAILABLE", errors.unavailable("no leader")),
        ("RESOURCE_EXHAUSTED", errors.overloaded("too much")),
    ]
    for code, error in made:
        assert error.code == code
        assert error.definite
    assert errors.overloaded("too much").reason == "overloaded"
    assert not errors.outcome_unknown("lost").definite
    assert errors.outcome_unknown("lost").code == "UNAVAILABLE"
    assert errors.too_large("less").code == "RESOURCE_EXHAUSTED"
