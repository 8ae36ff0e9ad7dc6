"""Between the state's records and the messages of the public API."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import codec, limits
from agentkeeper.core import records as r
from agentkeeper.core.state import State
from agentkeeper.server import validation as v
from agentkeeper.server.errors import bad_field


def timestamp(wall_ms: int) -> Timestamp | None:
    """A label; None for a time that has not come."""
    if not wall_ms:
        return None
    return Timestamp(seconds=wall_ms // 1000, nanos=wall_ms % 1000 * 1_000_000)


def card_from(card: pb.AgentCard) -> r.Card:
    """A validated card. Raises `CallError` naming the field."""
    v.count(card.capabilities, "card.capabilities", limits.CAPABILITIES)
    v.count(card.metadata, "card.metadata", limits.METADATA_ENTRIES)
    if len(card.tools) <= limits.TOOLS and card.ByteSize() > limits.CARD_BYTES:
        raise bad_field("card", f"longer than {limits.CARD_BYTES} bytes")
    return r.Card(
        name=v.line(card.name, "card.name", limits.NAME_BYTES),
        description=v.prose(card.description, "card.description", limits.DESCRIPTION_BYTES),
        version=v.line(card.version, "card.version", limits.NAME_BYTES, empty=True),
        capabilities=tuple(
            r.Capability(
                v.line(c.name, f"card.capabilities[{i}].name", limits.NAME_BYTES),
                v.prose(
                    c.description,
                    f"card.capabilities[{i}].description",
                    limits.DESCRIPTION_BYTES,
                ),
            )
            for i, c in enumerate(card.capabilities)
        ),
        tools=v.lines(card.tools, "card.tools", limits.TOOLS, limits.NAME_BYTES),
        metadata=tuple(
            (
                v.line(key, f"card.metadata[{key!r:.80}]", limits.NAME_BYTES),
                v.prose(value, f"card.metadata[{key!r:.80}]", limits.METADATA_VALUE_BYTES),
            )
            for key, value in sorted(card.metadata.items())
        ),
    )


def card(record: r.Card) -> pb.AgentCard:
    """A card."""
    return pb.AgentCard(
        name=record.name,
        description=record.description,
        version=record.version,
        capabilities=[pb.Capability(name=n, description=d) for n, d in record.capabilities],
        tools=record.tools,
        metadata=dict(record.metadata),
    )


def agent(record: r.Agent) -> pb.AgentInfo:
    """An agent."""
    return pb.AgentInfo(
        agent_id=record.agent_id,
        card=card(record.card),
        status=record.status,  # type: ignore[arg-type]  # the numbers are those of the API
        registered_at=timestamp(record.registered_wall_ms),
        last_heartbeat_at=timestamp(record.heartbeat_wall_ms),
        reason=record.reason,
        ttl_seconds=record.ttl_ms // 1000,
    )


def lease(record: r.Lease, reason: str = "") -> pb.Lease:
    """A lease; one without a token is somebody else's."""
    token = pb.FencingToken(value=record.token) if record.token else None
    return pb.Lease(
        task_id=record.task_id,
        holder_agent_id=record.holder,
        token=token,
        acquired_at=timestamp(record.acquired_wall_ms),
        expires_at=timestamp(record.expires_wall_ms),
        reason=reason,
        ttl_seconds=record.ttl_ms // 1000,
    )


def election(record: r.Election) -> pb.ElectionState:
    """An election's present state."""
    return pb.ElectionState(
        group=record.group,
        leader_agent_id=record.leader,
        term=record.term,
        elected_at=timestamp(record.elected_wall_ms),
    )


def policy(record: r.Policy) -> pb.Policy:
    """A policy."""
    return pb.Policy(
        id=record.policy_id,
        subject=record.subject,
        action=record.action,
        resource=record.resource,
        effect=record.effect,  # type: ignore[arg-type]  # the numbers are those of the API
    )


def task(record: r.Task, state: State | None = None) -> pb.Task:
    """A task, with its input and output if `state` is given."""
    return pb.Task(
        id=record.task_id,
        type=record.type,
        input=None if state is None else state.inputs.get(record.task_id),
        output=None if state is None else state.outputs.get(record.task_id),
        status=record.status,  # type: ignore[arg-type]  # the numbers are those of the API
        required_tools=record.required_tools,
        max_retries=record.max_retries,
        retry_count=record.retry_count,
        claimed_by_agent_id=record.claimed_by,
        failure_reason=record.failure_reason,
        created_at=timestamp(record.created_wall_ms),
        claimed_at=timestamp(record.claimed_wall_ms),
        completed_at=timestamp(record.completed_wall_ms),
        claim_token=record.claim_token,
        priority=record.priority,
        idempotency_key=record.idempotency_key,
        expired_claims=record.expired_claims,
        ttl_seconds=record.ttl_ms // 1000,
    )


def event(record: r.Event) -> pb.Event:
    """An event with its payload packed under the message's own full name."""
    message = pb.Event(
        topic=record.topic,
        sequence_number=record.sequence,
        occurred_at=timestamp(record.wall_ms),
    )
    message.payload.Pack(_payload(record))
    return message


def _payload(record: r.Event) -> Message:
    kind, _, what = record.topic.partition(".")
    row: Any = codec.unpack(record.payload)
    if kind == "agent":
        info = agent(codec.thaw(r.Agent, row))
        return pb.AgentRecovered(agent=info) if what == "recovered" else info
    if kind == "lease":
        return lease(codec.thaw(r.Lease, row), record.reason)
    if kind == "leader":
        return election(codec.thaw(r.Election, row))
    if kind == "task":
        return pb.TaskChanged(task=task(codec.thaw(r.Task, row)), reason=record.reason)
    return pb.PolicyChanged(policy=policy(codec.thaw(r.Policy, row)))
