"""The table of fields, sent to one daemon: within its bound each is accepted, beyond refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from agentkeeper.core import limits

from .test_bad_input_daemon import Daemon, Outcome, in_message
from .test_bad_input_table import AGENT, BASES, ROWS, Row, changed, fields_of, is_map

NOT_UTF8 = {
    "no first byte": b"\xff",
    "cut off": b"name\xe2\x82",
    "overlong": b"\xc0\x80",
    "surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("fields")) as daemon:
        yield daemon
        daemon.check_log()


@pytest.fixture(scope="module")
def agent_id(daemon: Daemon) -> str:
    return daemon.register("the one that lives")


@pytest.mark.parametrize("row", [row for row in ROWS if row.accepted], ids=str)
def test_within_its_bound_a_field_is_accepted(row: Row, daemon: Daemon, agent_id: str) -> None:
    for request in row.accepted:
        sent = request
        if getattr(request, "agent_id", "") == AGENT:
            sent = type(request)()
            sent.CopyFrom(request)
            sent.agent_id = agent_id
        outcome = daemon.call(row.method, sent.SerializeToString())
        assert outcome.code in row.codes, (outcome, str(request)[:200])


@pytest.mark.parametrize("row", [row for row in ROWS if row.refused], ids=str)
def test_beyond_its_bound_a_field_is_refused_by_name(row: Row, daemon: Daemon) -> None:
    for request, field in row.refused:
        outcome = daemon.call_without_effect(row.method, request.SerializeToString())
        check_bad_field(outcome, field)


def check_bad_field(outcome: Outcome, field: str) -> None:
    assert outcome.code == "INVALID_ARGUMENT", outcome
    assert outcome.metadata["agentkeeper-definite"] == "true"
    assert outcome.metadata["agentkeeper-reason"] == "bad_field"
    named = outcome.metadata["agentkeeper-field"]
    assert named.startswith(field) if field.endswith("[") else named == field, outcome
    assert outcome.details.startswith(named.split("[")[0]), outcome
    assert len(outcome.details) < 300


STRINGS = [
    (method, path)
    for method, base in BASES.items()
    for path, field in fields_of(base.DESCRIPTOR)
    if field.type == FieldDescriptor.TYPE_STRING
]


@pytest.mark.parametrize(("method", "path"), STRINGS, ids=lambda value: value)
def test_every_string_must_be_utf8(method: str, path: str, daemon: Daemon) -> None:
    for bad in NOT_UTF8.values():
        data, named = wire_of(method, path, bad)
        check_bad_field(daemon.call_without_effect(method, data), named)
        # The same beside all that the method needs, and twice.
        whole = BASES[method].SerializeToString()
        outcome = daemon.call_without_effect(method, whole + data + data)
        check_bad_field(outcome, named)
        # Of a field that is there twice the last counts; the first is then not told apart.
        outcome = daemon.call_without_effect(method, data + whole)
        assert outcome.code == "INVALID_ARGUMENT", outcome
        assert outcome.metadata["agentkeeper-field"] in (named, "request")


def wire_of(method: str, path: str, value: bytes) -> tuple[bytes, str]:
    """Bytes of a request with `value` in one of its strings, and the name of that string."""
    descriptor = BASES[method].DESCRIPTOR
    numbers, named = [], ""
    for part in path.split("."):
        field = descriptor.fields_by_name[part]
        descriptor = field.message_type
        numbers.append(field.number)
        named += f".{part}" + ("[0]" if field.is_repeated or is_map(field) else "")
    data = value
    for number in reversed(numbers):
        data = in_message(number, data)
    return data, named[1:]


def test_the_second_of_a_list_is_named(daemon: Daemon) -> None:
    good = BASES["RegistryService/Find"].SerializeToString() + in_message(2, b"fine")
    outcome = daemon.call_without_effect("RegistryService/Find", good + in_message(2, b"\xff"))
    check_bad_field(outcome, "tools[1]")
    entries = [in_message(6, in_message(1, key) + in_message(2, b"v")) for key in (b"k", b"\xff")]
    card = in_message(1, in_message(1, b"name") + b"".join(entries))
    outcome = daemon.call_without_effect("RegistryService/Register", card)
    check_bad_field(outcome, "card.metadata[1].key")


@pytest.mark.parametrize(
    ("method", "path", "item"),
    [
        ("RegistryService/Register", "card.tools", "aa"),
        ("RegistryService/Register", "card.tools", ""),
        ("RegistryService/ListAgents", "statuses", 1),
        ("RegistryService/ListAgents", "tools", "aa"),
        ("RegistryService/Find", "tools", "aa"),
        ("RegistryService/Watch", "topics", "aa"),
        ("TaskService/CreateTask", "required_tools", "aa"),
    ],
)
def test_a_million_items_are_refused(method: str, path: str, item: Any, daemon: Daemon) -> None:
    data = changed(method, path, [item] * 1_000_000).SerializeToString()
    assert len(data) < limits.REQUEST_BYTES
    outcome = daemon.call_without_effect(method, data)
    check_bad_field(outcome, path)
    assert "1000000 entries" in outcome.details
