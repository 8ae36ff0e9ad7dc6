"""The public names: their fields, their order, and what code of 0.1.x relies on."""

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any

import agentkeeper
from agentkeeper import errors, types
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert

FIELDS = {
    types.AgentCard: "name description version tools metadata",
    types.AgentInfo: "agent_id card status registered_at last_heartbeat_at",
    types.Lease: "task_id holder_agent_id token acquired_at expires_at",
    types.ElectionState: "group leader_agent_id term elected_at",
    types.Policy: "id subject action resource effect",
    types.CheckResult: "allowed reason",
    types.Task: "id type status input output required_tools max_retries retry_count"
    " claimed_by_agent_id failure_reason created_at claimed_at completed_at",
    types.WatchEvent: "topic sequence timestamp payload",
}


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.AgentKeeperError)
]


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_the_published_fields_come_first(kind):
    names = [field.name for field in dataclasses.fields(kind)]
    published = FIELDS[kind].split()
    assert names[: len(published)] == published
    extra = dataclasses.fields(kind)[len(published) :]
    assert all(
        f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        for f in extra
    )


def test_every_public_name_can_be_had():
    for name in agentkeeper.__all__:
        assert getattr(agentkeeper, name).__name__ == name
    assert set(agentkeeper.__all__) <= set(dir(agentkeeper))
    with pytest.raises(AttributeError, match="nonsense"):
        agentkeeper.nonsense  # noqa: B018


def test_enums_are_strings_that_name_their_class():
    assert types.AgentStatus.ALIVE == "ALIVE"
    assert str(types.AgentStatus.ALIVE) == "AgentStatus.ALIVE"
    assert types.PolicyEffect("DENY") is types.PolicyEffect.DENY


@pytest.mark.parametrize(
    "kind",
    KINDS,
    ids=lambda kind: kind.__name__,
)
def test_errors_are_grpc_errors_and_can_be_pickled(kind):
    error = kind("what went wrong", reason="why")
    assert isinstance(error, grpc.RpcError)
    assert isinstance(error.code(), grpc.StatusCode)
    assert error.code().name in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code(), copy.details(), copy.reason) == (
        kind,
        error.code(),
        "what went wrong",
        "why",
    )


def test_the_documented_tree_is_the_tree():
    assert all(kind.__name__ in errors.__doc__ for kind in KINDS)


def test_times_are_aware_and_absent_ones_are_none():
    task = pb.Task(id="t", status=pb.TASK_STATUS_PENDING)
    task.created_at.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    converted = convert.task_from(task)
    assert converted.created_at == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert converted.created_at.utcoffset() == timedelta(0)
    assert (converted.claimed_at, converted.completed_at) == (None, None)
    assert convert.election_from(pb.ElectionState(group="g")).elected_at is None


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (pb.AgentInfo(status=pb.AGENT_STATUS_DEAD, reason="timed_out"), types.AgentInfo),
        (
            pb.AgentRecovered(agent=pb.AgentInfo(status=pb.AGENT_STATUS_ALIVE)),
            types.AgentInfo,
        ),
        (pb.Lease(token=pb.FencingToken(value=7)), types.Lease),
        (pb.ElectionState(group="g"), types.ElectionState),
        (pb.TaskChanged(task=pb.Task(status=pb.TASK_STATUS_DEAD), reason="r"), types.Task),
        (pb.PolicyChanged(policy=pb.Policy(effect=pb.POLICY_EFFECT_DENY)), types.Policy),
        (pb.FindRequest(), type(None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_payloads(payload, kind):
    packed = Any()
    packed.Pack(payload)
    event = convert.event_from(pb.Event(topic="x", payload=packed, sequence_number=3))
    assert isinstance(event.payload, kind)
    assert (event.topic, event.sequence) == ("x", 3)


def test_values_newer_than_the_sdk_are_unknown():
    assert convert.agent_from(pb.AgentInfo(status=99)).status is types.AgentStatus.UNKNOWN
    assert convert.task_from(pb.Task(status=99)).status is types.TaskStatus.UNKNOWN
    assert convert.policy_from(pb.Policy(effect=99)).effect is types.PolicyEffect.UNKNOWN


def test_the_unknown_can_not_be_asked_for():
    with pytest.raises(ValueError, match="UNKNOWN"):
        convert.task_status_to("UNKNOWN")
    with pytest.raises(ValueError, match="UNKNOWN"):
        convert.effect_to("UNKNOWN")


@pytest.mark.parametrize("status", [s for s in types.TaskStatus if s != types.TaskStatus.UNKNOWN])
def test_statuses_go_both_ways(status):
    number = convert.task_status_to(status.value)
    assert convert.task_from(pb.Task(status=number)).status is status


def test_an_unknown_effect_is_refused_here():
    with pytest.raises(ValueError, match="MAYBE"):
        convert.effect_to("MAYBE")
