"""Every field of every request, with values on both sides of its bound. No daemon is needed here.

The table is what `test_bad_input_fields` sends; the tests in this file keep it complete.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits

AGENT = "@agent"
"""Stands for the id of an agent that is ALIVE."""
SWITCHES = ("exclusive", "progress")
"""Fields that have no bound."""
U32, U64 = 2**32 - 1, 2**64 - 1
OK, MISSING = frozenset({"OK"}), frozenset({"NOT_FOUND"})
ALONE = frozenset({"FAILED_PRECONDITION"})
"""What a daemon that has no other beside it says to a move of its leadership."""

CARD = pb.AgentCard(name="bad-input")
TOKEN = pb.FencingToken(value=7)
BASES: dict[str, Message] = {
    "RegistryService/Register": pb.RegisterRequest(card=CARD),
    "RegistryService/Heartbeat": pb.HeartbeatRequest(agent_id="nobody"),
    "RegistryService/Deregister": pb.DeregisterRequest(agent_id="nobody"),
    "RegistryService/GetAgent": pb.GetAgentRequest(agent_id="nobody"),
    "RegistryService/ListAgents": pb.ListAgentsRequest(),
    "RegistryService/Find": pb.FindRequest(),
    "RegistryService/Watch": pb.WatchRequest(),
    "LeaseService/AcquireLease": pb.AcquireLeaseRequest(task_id="job", agent_id=AGENT),
    "LeaseService/RenewLease": pb.RenewLeaseRequest(task_id="none", agent_id=AGENT, token=TOKEN),
    "LeaseService/ReleaseLease": pb.ReleaseLeaseRequest(
        task_id="none", agent_id=AGENT, token=TOKEN
    ),
    "LeaseService/VerifyToken": pb.VerifyTokenRequest(task_id="job", token=TOKEN),
    "LeaseService/GetLease": pb.GetLeaseRequest(task_id="none"),
    "LeaseService/ListLeases": pb.ListLeasesRequest(),
    "ElectionService/Campaign": pb.CampaignRequest(group="group", agent_id=AGENT),
    "ElectionService/Resign": pb.ResignRequest(group="group", agent_id=AGENT),
    "ElectionService/WatchElection": pb.WatchElectionRequest(group="group"),
    "ElectionService/GetElection": pb.GetElectionRequest(group="none"),
    "ElectionService/ListElections": pb.ListElectionsRequest(),
    "EntitlementsService/SetPolicy": pb.SetPolicyRequest(
        policy=pb.Policy(
            id="p", subject="s", action="a", resource="r", effect=pb.POLICY_EFFECT_ALLOW
        )
    ),
    "EntitlementsService/DeletePolicy": pb.DeletePolicyRequest(id="none"),
    "EntitlementsService/ListPolicies": pb.ListPoliciesRequest(),
    "EntitlementsService/CheckPolicy": pb.CheckPolicyRequest(subject="s", action="a", resource="r"),
    "EntitlementsService/ExplainPolicy": pb.ExplainPolicyRequest(
        subject="s", action="a", resource="r"
    ),
    "TaskService/CreateTask": pb.CreateTaskRequest(type="type"),
    "TaskService/ClaimTask": pb.ClaimTaskRequest(agent_id="nobody"),
    "TaskService/CompleteTask": pb.CompleteTaskRequest(task_id="none", agent_id=AGENT),
    "TaskService/FailTask": pb.FailTaskRequest(task_id="none", agent_id=AGENT),
    "TaskService/ExtendTask": pb.ExtendTaskRequest(task_id="none", agent_id=AGENT),
    "TaskService/RequeueTask": pb.RequeueTaskRequest(task_id="none"),
    "TaskService/GetTask": pb.GetTaskRequest(task_id="none"),
    "TaskService/ListTasks": pb.ListTasksRequest(),
    "SessionService/OpenSession": pb.OpenSessionRequest(),
    "SessionService/CloseSession": pb.CloseSessionRequest(session_id="none"),
    "ClusterService/Status": pb.StatusRequest(),
    "ClusterService/Summary": pb.SummaryRequest(),
    "ClusterService/MoveLeader": pb.MoveLeaderRequest(),
    "ClusterService/SaveSnapshot": pb.SaveSnapshotRequest(),
}
ABOUT_WHAT_IS_NOT_THERE = frozenset(
    method for method, base in BASES.items() if "none" in str(base) or "nobody" in str(base)
)


@dataclass(frozen=True)
class Row:
    """A field: requests that are within its bound, and requests beyond it with the field named."""

    method: str
    field: str
    accepted: tuple[Message, ...]
    refused: tuple[tuple[Message, str], ...]
    codes: frozenset[str]
    """What those within the bound may end with."""

    def __str__(self) -> str:
        return f"{self.method.partition('/')[2]}.{self.field}"


def changed(method: str, path: str, value: Any) -> Message:
    """The method's valid request with one field changed."""
    request = type(BASES[method])()
    request.CopyFrom(BASES[method])
    _put(request, path, value)
    return request


def _put(message: Any, path: str, value: Any) -> None:
    head, _, rest = path.partition(".")
    field: FieldDescriptor = message.DESCRIPTOR.fields_by_name[head]
    inner = getattr(message, head)
    if is_map(field):
        entries = {value: "x"} if rest == "key" else {"key": value} if rest else value
        inner.update(entries)
    elif field.is_repeated and rest:
        _put(inner[0] if len(inner) else inner.add(name="capability"), rest, value)
    elif field.is_repeated:
        del inner[:]
        inner.extend(value)
    elif rest:
        _put(inner, rest, value)
    elif field.message_type is not None:
        message.ClearField(head)
        if value is not None:
            inner = getattr(message, head)
            inner.CopyFrom(value)
    else:
        setattr(message, head, value)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def row(
    method: str,
    path: str,
    accepted: Iterable[Any],
    refused: Iterable[Any],
    *,
    named: str = "",
    codes: frozenset[str] | None = None,
) -> Row:
    if codes is None:
        codes = MISSING if method in ABOUT_WHAT_IS_NOT_THERE else OK
    return Row(
        method,
        path,
        tuple(changed(method, path, value) for value in accepted),
        tuple((changed(method, path, value), named or path) for value in refused),
        codes,
    )


def text(method: str, path: str, bound: int, *, empty: bool = False, **more: Any) -> Row:
    """A name or id: one line, at most `bound` bytes."""
    within = ["a" * bound, "é" * (bound // 2), "🚀" * (bound // 4), "\u2028\u202e \ufeff"]
    return row(
        method,
        path,
        [*within, ""] if empty else within,
        [*_bad_text(bound), "a\tb", "a\nb", *([] if empty else [""])],
        **more,
    )


def prose(method: str, path: str, bound: int, **more: Any) -> Row:
    """A text for people, which may be empty and have several lines."""
    within = ["", "a" * bound, "é" * (bound // 2), "tab\tline\r\nline"]
    return row(method, path, within, _bad_text(bound), **more)


def _bad_text(bound: int) -> list[str]:
    too_long = ["a" * (bound + 1), "é" * (bound // 2 + 1), "🚀" * (bound // 4 + 1)]
    return [*too_long, "\0", "a\0", "\x01b", "a\x1f", "\x7f", "\x85", "a\x9f"]


def each(method: str, path: str, bound: int, *, empty: bool = False) -> Row:
    """The items of a list of names; the second is at fault."""
    within = [["a" * bound], ["ok", "é" * (bound // 2)], *([[""]] if empty else [])]
    beyond = [["ok", bad] for bad in [*_bad_text(bound), "a\nb", *([] if empty else [""])]]
    return row(method, path, within, beyond, named=f"{path}[1]")


def count(method: str, path: str, bound: int, item: Callable[[int], Any]) -> Row:
    """How many there may be."""
    full, over = [item(i) for i in range(bound)], [item(i) for i in range(bound + 1)]
    return row(method, path, [[], full], [over, [*over, *over]])


def number(
    method: str, path: str, low: int, high: int, extremes: Iterable[int] = (U32,), **more: Any
) -> Row:
    return row(method, path, [low, high], [high + 1, *extremes], **more)


def ttl(method: str) -> Row:
    return number(method, "ttl_seconds", 0, limits.TTL_SECONDS_MAX)


def keys(method: str, bound: int) -> Row:
    """Page tokens of a list by key."""
    within = ["", "a", "a" * bound, "é" * (bound // 2)]
    return row(method, "page_token", within, [*_bad_text(bound), "a\nb"])


def orders(method: str) -> Row:
    """Page tokens of a list by order of arrival."""
    digits = limits.PAGE_TOKEN_BYTES
    bad = ["9" * (digits + 1), "x", "-1", "1 ", "٣", "1\0", "0x1", "²"]
    return row(method, "page_token", ["", "0", "9" * digits], bad)


def card_of(size: int) -> pb.AgentCard:
    """A card whose every field is within its own bound, of `size` bytes in all."""
    long = pb.Capability(name="c", description="d" * limits.DESCRIPTION_BYTES)
    card = pb.AgentCard(name="large", description="d" * 8_000, capabilities=[long] * 7)
    card.description += "d" * (size - card.ByteSize())
    assert card.ByteSize() == size
    assert len(card.description) <= limits.DESCRIPTION_BYTES
    return card


def _registry() -> Iterator[Row]:
    r = "RegistryService/Register"
    card, name = "card", limits.NAME_BYTES
    large = limits.CARD_BYTES
    yield row(r, card, [card_of(large)], [card_of(large + 1)])
    yield row(r, card, [], [None], named="card.name")
    yield text(r, "card.name", name)
    yield prose(r, "card.description", limits.DESCRIPTION_BYTES)
    yield text(r, "card.version", name, empty=True)
    yield count(r, "card.capabilities", limits.CAPABILITIES, lambda i: pb.Capability(name=f"c{i}"))
    first = "card.capabilities[0]"
    yield text(r, "card.capabilities.name", name, named=f"{first}.name")
    yield prose(
        r,
        "card.capabilities.description",
        limits.DESCRIPTION_BYTES,
        named=f"{first}.description",
    )
    yield count(r, "card.tools", limits.TOOLS, lambda i: f"tool-{i}")
    yield each(r, "card.tools", name)
    entries = [{f"k{i}": "v" for i in range(limits.METADATA_ENTRIES + extra)} for extra in (0, 1)]
    yield row(r, "card.metadata", [{}, entries[0]], [entries[1]])
    yield text(r, "card.metadata.key", name, named="card.metadata[")
    yield prose(r, "card.metadata.value", limits.METADATA_VALUE_BYTES, named="card.metadata['key']")
    yield ttl(r)
    yield row(r, "on_name_conflict", [0, 1], [3, 99, -1, 2**31 - 1])
    for method in ("Heartbeat", "Deregister", "GetAgent"):
        yield text(f"RegistryService/{method}", "agent_id", limits.AGENT_ID_BYTES)
    listing = "RegistryService/ListAgents"
    yield row(listing, "statuses", [[], [1], [3, 1, 2], [2] * limits.STATUSES], [])
    yield count(listing, "statuses", limits.STATUSES, lambda i: i % 3 + 1)
    for bad in (0, 4, -1, 2**31 - 1):
        yield row(listing, "statuses", [], [[1, bad]], named="statuses[1]")
    yield text(listing, "name_prefix", name, empty=True)
    yield count(listing, "tools", limits.TOOLS, lambda i: f"tool-{i}")
    yield each(listing, "tools", name)
    yield number(listing, "limit", 0, limits.LIST_LIMIT_MAX)
    yield orders(listing)
    find, watch = "RegistryService/Find", "RegistryService/Watch"
    yield prose(find, "query", limits.QUERY_BYTES)
    yield count(find, "tools", limits.TOOLS, lambda i: f"tool-{i}")
    yield each(find, "tools", name)
    yield number(find, "limit", 0, limits.FIND_LIMIT_MAX)
    yield count(watch, "topics", limits.TOPICS, lambda i: f"topic.{i}")
    yield each(watch, "topics", limits.TOPIC_BYTES, empty=True)
    yield row(watch, "after_sequence", [0], [limits.COUNTER_MAX, U64])
    yield row(watch, "progress", [False, True], [])


def _leases() -> Iterator[Row]:
    acquire = "LeaseService/AcquireLease"
    yield text(acquire, "task_id", limits.TASK_ID_BYTES)
    for method in ("RenewLease", "ReleaseLease"):
        codes = MISSING | {"PERMISSION_DENIED"}  # the row above has acquired some
        yield text(f"LeaseService/{method}", "task_id", limits.TASK_ID_BYTES, codes=codes)
    for method in ("AcquireLease", "RenewLease", "ReleaseLease"):
        full = f"LeaseService/{method}"
        yield text(full, "agent_id", limits.AGENT_ID_BYTES, codes=MISSING)
    yield text("LeaseService/VerifyToken", "task_id", limits.TASK_ID_BYTES)
    for method in ("RenewLease", "ReleaseLease", "VerifyToken"):
        full = f"LeaseService/{method}"
        yield row(full, "token", [TOKEN], [None], named="token.value")
        yield row(
            full, "token.value", [1, limits.COUNTER_MAX], [0, limits.COUNTER_MAX + 1, 2**63, U64]
        )
    yield text("LeaseService/GetLease", "task_id", limits.TASK_ID_BYTES, codes=OK | MISSING)
    listing = "LeaseService/ListLeases"
    yield text(listing, "task_id_prefix", limits.TASK_ID_BYTES, empty=True)
    yield text(listing, "holder_agent_id", limits.AGENT_ID_BYTES, empty=True)
    yield number(listing, "limit", 0, limits.LIST_LIMIT_MAX)
    yield keys(listing, limits.TASK_ID_BYTES)
    yield ttl(acquire)
    yield ttl("LeaseService/RenewLease")
    yield number(acquire, "wait_ms", 0, limits.WAIT_MS_MAX)
    yield row(acquire, "exclusive", [False, True], [])


def _elections_and_policies() -> Iterator[Row]:
    for method in ("Campaign", "Resign"):
        full = f"ElectionService/{method}"
        yield text(full, "group", limits.NAME_BYTES)
        yield text(full, "agent_id", limits.AGENT_ID_BYTES, codes=MISSING)
    yield text("ElectionService/WatchElection", "group", limits.NAME_BYTES)
    yield row("ElectionService/WatchElection", "after_sequence", [0], [limits.COUNTER_MAX, U64])
    yield row("ElectionService/WatchElection", "progress", [False, True], [])
    group, listing = "ElectionService/GetElection", "ElectionService/ListElections"
    yield text(group, "group", limits.NAME_BYTES, codes=OK | MISSING)
    yield text(listing, "group_prefix", limits.NAME_BYTES, empty=True)
    yield number(listing, "limit", 0, limits.LIST_LIMIT_MAX)
    yield keys(listing, limits.NAME_BYTES)
    put, check = "EntitlementsService/SetPolicy", "EntitlementsService/CheckPolicy"
    yield row(put, "policy", [], [None], named="policy.id")
    yield text(put, "policy.id", limits.NAME_BYTES)
    for field in ("subject", "action", "resource"):
        yield text(put, f"policy.{field}", limits.PATTERN_BYTES)
        yield text(check, field, limits.PATTERN_BYTES)
        yield text("EntitlementsService/ExplainPolicy", field, limits.PATTERN_BYTES)
    yield row(put, "policy.effect", [1, 2], [0, 3, 99, -1, 2**31 - 1])
    yield text("EntitlementsService/DeletePolicy", "id", limits.NAME_BYTES, codes=OK | MISSING)
    listing = "EntitlementsService/ListPolicies"
    yield text(listing, "subject_prefix", limits.PATTERN_BYTES, empty=True)
    yield number(listing, "limit", 0, limits.LIST_LIMIT_MAX)
    yield keys(listing, limits.NAME_BYTES)


def _tasks() -> Iterator[Row]:
    create = "TaskService/CreateTask"
    blob = bytes(limits.BLOB_BYTES)
    yield text(create, "type", limits.NAME_BYTES)
    yield row(create, "input", [b"", b"\xff\0", blob], [blob + b"x", blob * 3])
    yield count(create, "required_tools", limits.TOOLS, lambda i: f"tool-{i}")
    yield each(create, "required_tools", limits.NAME_BYTES)
    yield number(create, "max_retries", 0, limits.RETRIES_MAX)
    yield ttl(create)
    top = limits.PRIORITY_MAX
    yield number(create, "priority", -top, top, (-top - 1, 2**31 - 1, -(2**31)))
    yield text(create, "idempotency_key", limits.NAME_BYTES, empty=True)
    yield text("TaskService/ClaimTask", "agent_id", limits.AGENT_ID_BYTES)
    yield number("TaskService/ClaimTask", "wait_ms", 0, limits.WAIT_MS_MAX)
    for method in ("CompleteTask", "FailTask", "ExtendTask"):
        full = f"TaskService/{method}"
        yield text(full, "task_id", limits.TASK_ID_BYTES)
        yield text(full, "agent_id", limits.AGENT_ID_BYTES)
        yield number(full, "claim_token", 0, limits.COUNTER_MAX, (2**63, U64))
    yield row("TaskService/CompleteTask", "output", [b"", blob], [blob + b"x"])
    yield prose("TaskService/FailTask", "reason", limits.REASON_BYTES)
    yield ttl("TaskService/ExtendTask")
    for method in ("RequeueTask", "GetTask"):
        yield text(f"TaskService/{method}", "task_id", limits.TASK_ID_BYTES)
    listing = "TaskService/ListTasks"
    yield row(listing, "status", range(6), [6, 99, -1, 2**31 - 1])
    yield number(listing, "limit", 0, limits.LIST_LIMIT_MAX)
    yield text(listing, "type", limits.NAME_BYTES, empty=True)
    yield text(listing, "claimed_by_agent_id", limits.AGENT_ID_BYTES, empty=True)
    yield orders(listing)


def _sessions_and_cluster() -> Iterator[Row]:
    yield ttl("SessionService/OpenSession")
    yield text("SessionService/CloseSession", "session_id", limits.SESSION_ID_BYTES)
    move = "ClusterService/MoveLeader"
    yield text(move, "to_node_id", limits.NODE_ID_BYTES, empty=True, codes=ALONE)


ROWS = (*_registry(), *_leases(), *_elections_and_policies(), *_tasks(), *_sessions_and_cluster())


def fields_of(message: Descriptor, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """All fields of a message with their paths, those of messages in it included."""
    for field in message.fields:
        yield f"{prefix}{field.name}", field
        if field.message_type is not None:
            yield from fields_of(field.message_type, f"{prefix}{field.name}.")


def test_every_method_is_in_the_table() -> None:
    services = pb.DESCRIPTOR.services_by_name.values()
    methods = {f"{s.name}/{m.name}": m.input_type.full_name for s in services for m in s.methods}
    # The shared stream carries the others' requests; what is its own has tests in test_exchange.
    assert methods.pop("ExchangeService/Exchange") == pb.CallFrame.DESCRIPTOR.full_name
    assert methods == {name: base.DESCRIPTOR.full_name for name, base in BASES.items()}


def test_every_field_of_every_request_has_a_row() -> None:
    expected = {
        (method, path) for method, base in BASES.items() for path, _ in fields_of(base.DESCRIPTOR)
    }
    assert expected == {(row.method, row.field) for row in ROWS}


def test_every_row_has_both_sides() -> None:
    for method, field in {(row.method, row.field) for row in ROWS}:
        rows = [row for row in ROWS if (row.method, row.field) == (method, field)]
        assert any(row.accepted for row in rows) or field == "policy", (method, field)
        assert any(row.refused for row in rows) or field in SWITCHES, (method, field)
