"""What the client of 0.1.x returns: plain dataclasses, made from its own messages."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from .legacy_proto import CLASSES, PACKAGE, enum_name


class AgentStatus(str, Enum):  # noqa: UP042 - as in 0.1.x
    ALIVE = "ALIVE"
    UNREACHABLE = "UNREACHABLE"
    DEAD = "DEAD"


class TaskStatus(str, Enum):  # noqa: UP042
    PENDING = "PENDING"
    CLAIMED = "CLAIMED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    DEAD = "DEAD"


class PolicyEffect(str, Enum):  # noqa: UP042
    ALLOW = "ALLOW"
    DENY = "DENY"


@dataclass(frozen=True)
class AgentCard:
    name: str
    description: str
    version: str
    tools: list[str]
    metadata: dict[str, str]


@dataclass(frozen=True)
class AgentInfo:
    agent_id: str
    card: AgentCard
    status: AgentStatus
    registered_at: datetime
    last_heartbeat_at: datetime


@dataclass(frozen=True)
class Lease:
    task_id: str
    holder_agent_id: str
    token: int
    acquired_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class ElectionState:
    group: str
    leader_agent_id: str
    term: int
    elected_at: datetime | None


@dataclass(frozen=True)
class Policy:
    id: str
    subject: str
    action: str
    resource: str
    effect: PolicyEffect


@dataclass(frozen=True)
class CheckResult:
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Task:
    id: str
    type: str
    status: TaskStatus
    input: bytes
    output: bytes
    required_tools: list[str]
    max_retries: int
    retry_count: int
    claimed_by_agent_id: str
    failure_reason: str
    created_at: datetime
    claimed_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True)
class WatchEvent:
    topic: str
    sequence: int
    timestamp: datetime
    payload: AgentInfo | Lease | ElectionState | None


def _time(message: Any, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    return getattr(message, field).ToDatetime(tzinfo=UTC)


def agent_info(message: Any) -> AgentInfo:
    card = message.card
    return AgentInfo(
        agent_id=message.agent_id,
        card=AgentCard(
            name=card.name,
            description=card.description,
            version=card.version,
            tools=list(card.tools),
            metadata=dict(card.metadata),
        ),
        status=AgentStatus(enum_name("AgentStatus", message.status)),
        registered_at=_time(message, "registered_at"),
        last_heartbeat_at=_time(message, "last_heartbeat_at"),
    )


def lease(message: Any) -> Lease:
    return Lease(
        task_id=message.task_id,
        holder_agent_id=message.holder_agent_id,
        token=message.token.value,
        acquired_at=_time(message, "acquired_at"),
        expires_at=_time(message, "expires_at"),
    )


def election_state(message: Any) -> ElectionState:
    return ElectionState(
        group=message.group,
        leader_agent_id=message.leader_agent_id,
        term=message.term,
        elected_at=_time(message, "elected_at"),
    )


def policy(message: Any) -> Policy:
    return Policy(
        id=message.id,
        subject=message.subject,
        action=message.action,
        resource=message.resource,
        effect=PolicyEffect(enum_name("PolicyEffect", message.effect)),
    )


def task(message: Any) -> Task:
    return Task(
        id=message.id,
        type=message.type,
        status=TaskStatus(enum_name("TaskStatus", message.status)),
        input=message.input,
        output=message.output,
        required_tools=list(message.required_tools),
        max_retries=message.max_retries,
        retry_count=message.retry_count,
        claimed_by_agent_id=message.claimed_by_agent_id,
        failure_reason=message.failure_reason,
        created_at=_time(message, "created_at"),
        claimed_at=_time(message, "claimed_at"),
        completed_at=_time(message, "completed_at"),
    )


_PAYLOADS = {"AgentInfo": agent_info, "Lease": lease, "ElectionState": election_state}


def watch_event(message: Any) -> WatchEvent:
    """An event; its payload is None for messages that 0.1.x does not know."""
    full_name = message.payload.type_url.rpartition("/")[2]
    package, _, name = full_name.rpartition(".")
    payload = None
    if package == PACKAGE and name in _PAYLOADS:
        payload = _PAYLOADS[name](CLASSES[name].FromString(message.payload.value))
    return WatchEvent(
        topic=message.topic,
        sequence=message.sequence_number,
        timestamp=_time(message, "occurred_at"),
        payload=payload,
    )
