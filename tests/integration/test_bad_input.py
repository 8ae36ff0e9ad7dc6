"""Bad input that is no single field's: metadata, garbage, unknown things, hostile meanings."""

import random
import re
import string
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits

from .test_bad_input_daemon import Daemon, Outcome, in_message, varint
from .test_bad_input_fields import check_bad_field
from .test_bad_input_table import BASES

SESSION, REQUEST = "agentkeeper-session", "agentkeeper-request"
SEEN, CONSISTENCY, MIN_INDEX = (
    "agentkeeper-seen",
    "agentkeeper-consistency",
    "agentkeeper-min-index",
)
HEARTBEAT = pb.HeartbeatRequest(agent_id="nobody").SerializeToString()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("bad-input")) as daemon:
        yield daemon
        daemon.check_log()


@pytest.fixture
def session(daemon: Daemon) -> str:
    outcome = daemon.call("SessionService/OpenSession", b"")
    return pb.OpenSessionResponse.FromString(outcome.response).session_id


def sent(daemon: Daemon, method: str, request: Message, /, **metadata: Any) -> Outcome:
    given = [(f"agentkeeper-{key.replace('_', '-')}", str(v)) for key, v in metadata.items()]
    return daemon.call(method, request.SerializeToString(), given)


NUMBERS = ["-1", "1.5", "x", "0x1", "", "1e3", "+1", str(2**53), str(2**64), "9" * 500]


@pytest.mark.parametrize("key", [REQUEST, SEEN, MIN_INDEX])
@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: repr(value)[:24])
def test_numbers_in_metadata(key: str, value: str, daemon: Daemon) -> None:
    metadata = [(SESSION, "s"), (REQUEST, "1"), (key, value)]
    outcome = daemon.call_without_effect("RegistryService/Heartbeat", HEARTBEAT, metadata)
    check_bad_field(outcome, key)


def test_metadata_at_its_bounds(daemon: Daemon) -> None:
    last = str(limits.COUNTER_MAX)
    for metadata in (
        [(SESSION, "s" * limits.SESSION_ID_BYTES), (REQUEST, last), (SEEN, last)],
        [(SESSION, "s"), (REQUEST, "1"), (SEEN, "0")],
    ):
        outcome = daemon.call("RegistryService/Heartbeat", HEARTBEAT, metadata)
        assert outcome.code == "FAILED_PRECONDITION", outcome
        assert outcome.metadata["agentkeeper-reason"] == "session_expired"
    read = BASES["RegistryService/GetAgent"].SerializeToString()
    for metadata in ([(CONSISTENCY, "stale"), (MIN_INDEX, "0")], [(CONSISTENCY, "linearizable")]):
        assert daemon.call("RegistryService/GetAgent", read, metadata).code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ([(SESSION, "s" * (limits.SESSION_ID_BYTES + 1)), (REQUEST, "1")], SESSION),
        ([(SESSION, "s" * 5_000), (REQUEST, "1")], SESSION),
        ([(SESSION, "s")], REQUEST),
        ([(SESSION, "s"), (REQUEST, "0")], REQUEST),
        ([(SESSION, "s"), (REQUEST, "1"), (REQUEST, "x")], REQUEST),
        ([(CONSISTENCY, "sometimes")], CONSISTENCY),
        ([(CONSISTENCY, "")], CONSISTENCY),
        ([(CONSISTENCY, "STALE")], CONSISTENCY),
        ([(CONSISTENCY, "s" * 5_000)], CONSISTENCY),
    ],
    ids=str,
)
def test_bad_metadata_is_refused_by_name(
    metadata: list[tuple[str, str]], field: str, daemon: Daemon
) -> None:
    for method in ("RegistryService/Heartbeat", "RegistryService/Watch", "ClusterService/Status"):
        data = BASES[method].SerializeToString()
        check_bad_field(daemon.call_without_effect(method, data, metadata), field)


def test_metadata_of_others_is_passed_over(daemon: Daemon) -> None:
    metadata = [("x-other", "v" * 4_000), ("x-other-bin", b"\xff\0"), ("agentkeeper-new", "?")]
    assert daemon.call("RegistryService/Find", b"", metadata).code == "OK"
    # A request number without a session means nothing.
    assert daemon.call("RegistryService/Find", b"", [(REQUEST, "7")]).code == "OK"


def test_a_request_number_beyond_the_window(daemon: Daemon, session: str) -> None:
    create = pb.CreateTaskRequest(type="window")
    inside, beyond = limits.SESSION_WINDOW, limits.SESSION_WINDOW + 1
    outcome = sent(daemon, "TaskService/CreateTask", create, session=session, request=beyond)
    assert outcome.code == "RESOURCE_EXHAUSTED", outcome
    assert outcome.metadata["agentkeeper-definite"] == "true"
    outcome = sent(daemon, "TaskService/CreateTask", create, session=session, request=inside)
    assert outcome.code == "OK", outcome


REUSES = [
    ("RegistryService/Register", pb.RegisterRequest(card=pb.AgentCard(name="a"))),
    ("EntitlementsService/SetPolicy", BASES["EntitlementsService/SetPolicy"]),
    ("TaskService/CreateTask", pb.CreateTaskRequest(type="t")),
    ("ElectionService/Campaign", pb.CampaignRequest(group="reuse", agent_id="@")),
    ("LeaseService/AcquireLease", pb.AcquireLeaseRequest(task_id="reuse", agent_id="@")),
    ("LeaseService/AcquireLease", pb.AcquireLeaseRequest(task_id="r", agent_id="@", wait_ms=9_000)),
    ("RegistryService/Heartbeat", pb.HeartbeatRequest(agent_id="@")),
]
NEVER_FIRST = [
    ("RegistryService/Register", pb.RegisterRequest(card=pb.AgentCard(name="b"))),
    ("TaskService/CreateTask", pb.CreateTaskRequest(type="another")),
    ("TaskService/ClaimTask", pb.ClaimTaskRequest(agent_id="@")),
    ("LeaseService/RenewLease", BASES["LeaseService/RenewLease"]),
    ("LeaseService/ReleaseLease", BASES["LeaseService/ReleaseLease"]),
    ("TaskService/CompleteTask", BASES["TaskService/CompleteTask"]),
    ("TaskService/ExtendTask", BASES["TaskService/ExtendTask"]),
]


@pytest.mark.parametrize("first", range(len(REUSES)))
def test_a_request_number_used_for_another_request(
    first: int, daemon: Daemon, session: str
) -> None:
    """The answer kept under the number is another request's: it must not get out."""
    agent_id = daemon.register("reuser")

    def ask(method: str, request: Message) -> Outcome:
        if getattr(request, "agent_id", "") == "@":
            copy: Any = type(request)()
            copy.CopyFrom(request)
            copy.agent_id = agent_id
            request = copy
        return sent(daemon, method, request, session=session, request=1)

    method, request = REUSES[first]
    assert ask(method, request).code == "OK"
    before = daemon.call("TaskService/ListTasks", b"").response
    for other, another in (*REUSES, *NEVER_FIRST):
        outcome = ask(other, another)
        if another is request:
            assert outcome.code == "OK", (other, outcome)
        else:
            assert outcome.code == "FAILED_PRECONDITION", (other, outcome)
            assert outcome.metadata["agentkeeper-reason"] == "number_reused"
            assert outcome.metadata["agentkeeper-definite"] == "true"
    assert daemon.call("TaskService/ListTasks", b"").response == before


def test_tokens_that_are_not_the_present_one(daemon: Daemon) -> None:
    agent_id = daemon.register("holder")
    ask = pb.AcquireLeaseRequest(task_id="guarded", agent_id=agent_id, ttl_seconds=3_600)
    outcome = daemon.call("LeaseService/AcquireLease", ask.SerializeToString())
    lease = pb.AcquireLeaseResponse.FromString(outcome.response).lease
    for token in (lease.token.value - 1, lease.token.value + 1, limits.COUNTER_MAX):
        if token > 0:
            for outcome in _use_token(daemon, lease, token):
                assert outcome.code == "PERMISSION_DENIED", outcome
                assert outcome.metadata["agentkeeper-definite"] == "true"
    for token in (0, limits.COUNTER_MAX + 1, 2**63, 2**64 - 1):
        for outcome in _use_token(daemon, lease, token):
            check_bad_field(outcome, "token.value")
    assert _use_token(daemon, lease, lease.token.value)[0].code == "OK"


def _use_token(daemon: Daemon, lease: pb.Lease, token: int) -> list[Outcome]:
    given = {
        "task_id": lease.task_id,
        "agent_id": lease.holder_agent_id,
        "token": pb.FencingToken(value=token),
    }
    return [
        sent(daemon, "LeaseService/RenewLease", pb.RenewLeaseRequest(**given)),
        sent(daemon, "LeaseService/ReleaseLease", pb.ReleaseLeaseRequest(**given)),
    ]


def test_a_storm_of_wildcards_decides_as_plain_ones(daemon: Daemon) -> None:
    """Patterns on which a matcher that backtracks would never end."""
    storms = ["*" * 512, "a*" * 256, "*a" * 256, "a" * 511 + "*", "*a*b" * 128, "ab*" * 170]
    texts = ["a" * 512, "b" * 512, "ab" * 256, "a" * 511 + "b", "ba" * 256]
    for i, storm in enumerate(storms):
        policy = pb.Policy(id=f"storm-{i}", subject=storm, action=storm, resource=storm, effect=1)
        request = pb.SetPolicyRequest(policy=policy)
        assert sent(daemon, "EntitlementsService/SetPolicy", request).code == "OK"
    for text in texts:
        check = pb.CheckPolicyRequest(subject=text, action=text, resource=text)
        outcome = sent(daemon, "EntitlementsService/CheckPolicy", check)
        assert outcome.code == "OK", outcome
        verdict = pb.CheckPolicyResponse.FromString(outcome.response)
        fitting = [i for i, storm in enumerate(storms) if _fits(storm, text)]
        assert fitting
        assert verdict.reason == f'allowed by policy "storm-{fitting[0]}"'


def _fits(pattern: str, text: str) -> bool:
    """By a table of all prefixes: slow, and plainly right."""
    reached = {0}
    for character in pattern:
        if character == "*":
            reached = set(range(min(reached), len(text) + 1)) if reached else reached
        else:
            reached = {i + 1 for i in reached if i < len(text) and text[i] == character}
    return len(text) in reached


def test_the_reasons_of_hostile_names_fit_the_metadata(daemon: Daemon) -> None:
    """Refusals repeat names, which must not make them too long to be delivered."""
    for name in ("🚀" * 128, "\u202e" * 170, "%" * 512, '"' * 512, "\\" * 512):
        outcome = sent(daemon, "TaskService/GetTask", pb.GetTaskRequest(task_id=name))
        assert outcome.code == "NOT_FOUND", outcome
        assert outcome.metadata["agentkeeper-reason"] == "not_found"
        card = pb.AgentCard(name="a", metadata={name + "\0": "v"})
        outcome = sent(daemon, "RegistryService/Register", pb.RegisterRequest(card=card))
        assert outcome.code == "INVALID_ARGUMENT", outcome
        assert outcome.metadata["agentkeeper-field"].startswith("card.metadata[")


@pytest.mark.parametrize("method", [m for m, base in BASES.items() if base.DESCRIPTOR.fields])
def test_truncated_and_random_bytes(method: str, daemon: Daemon) -> None:
    """Cut anywhere and filled with anything, a request is answered by a status, never INTERNAL."""
    if method == "TaskService/ClaimTask":
        base = pb.ClaimTaskRequest(agent_id="nobody").SerializeToString()
    else:
        base = BASES[method].SerializeToString() or in_message(1, b"x")
    draw = random.Random(method)
    garbage = [draw.randbytes(draw.randrange(1, 60)) for _ in range(40)]
    garbage += [b"\xff" * 20, b"\x0a\x7f", b"\x08" * 9, b"\x0b" * 400, varint(2**64 - 1) * 3]
    for data in [*(base[:cut] for cut in range(len(base))), *garbage]:
        outcome = daemon.call(method, data, timeout_s=5.0)
        assert outcome.code not in ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"), (data, outcome)
        if outcome.code == "INVALID_ARGUMENT":
            assert outcome.metadata["agentkeeper-field"]
    outcome = daemon.call_without_effect(method, base + b"\x0a\x7f")
    check_bad_field(outcome, "request")
    assert type(BASES[method]).__name__ in outcome.details


def test_unknown_fields_are_passed_over(daemon: Daemon) -> None:
    unknown = in_message(1_000, b"\xff\xfe") + varint(1_001 << 3) + varint(2**64 - 1)
    unknown += varint(1_002 << 3 | 1) + bytes(8) + varint(1_003 << 3 | 5) + bytes(4)
    for method in ("RegistryService/Register", "TaskService/CreateTask", "RegistryService/Find"):
        data = BASES[method].SerializeToString() + unknown
        assert daemon.call(method, data).code == "OK"
    nested = in_message(1, in_message(1, b"name") + unknown)
    assert daemon.call("RegistryService/Register", nested).code == "OK"


def test_unknown_methods(daemon: Daemon) -> None:
    draw = random.Random("methods")
    names = ["".join(draw.choices(string.printable[:62], k=30)) for _ in range(20)]
    for method in ("RegistryService/Nope", "NopeService/Register", "/", "", *names):
        assert daemon.call_without_effect(method, b"").code == "UNIMPLEMENTED"


def test_oversized_messages(daemon: Daemon) -> None:
    for size in (limits.REQUEST_BYTES + 1, 3 * limits.REQUEST_BYTES):
        for method in ("RegistryService/Register", "RegistryService/Watch"):
            outcome = daemon.call_without_effect(method, in_message(99, bytes(size)))
            assert outcome.code == "RESOURCE_EXHAUSTED", outcome
    filling = in_message(99, bytes(limits.REQUEST_BYTES - 6))
    assert len(filling) == limits.REQUEST_BYTES
    assert daemon.call("RegistryService/Find", filling).code == "OK"


@pytest.mark.parametrize("method", ["RegistryService/Watch", "ElectionService/WatchElection"])
def test_a_watch_from_the_future(method: str, daemon: Daemon) -> None:
    daemon.register("somebody")
    request: Any = type(BASES[method])()
    request.CopyFrom(BASES[method])
    request.after_sequence = 2**40
    outcome = daemon.call_without_effect(method, request.SerializeToString())
    check_bad_field(outcome, "after_sequence")
    last = int(re.findall(r"last event is (\d+)", outcome.details)[0])
    request.after_sequence = last
    assert daemon.call(method, request.SerializeToString()).code == "OK"
    request.after_sequence = last + 1
    outcome = daemon.call_without_effect(method, request.SerializeToString())
    check_bad_field(outcome, "after_sequence")
