"""What the SDK returns: plain immutable dataclasses, never protobuf messages.

All times are aware UTC datetimes and label what happened by the servers' wall clocks; nothing is
decided by them. Durations are whole seconds. The enums' UNKNOWN stands for a value that is newer
than this SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class AgentStatus(str, Enum):  # noqa: UP042 - str() must name the class, as it always has
    """How an agent is doing. DEAD is final."""

    ALIVE = "ALIVE"
    UNREACHABLE = "UNREACHABLE"
    """Missed one heartbeat deadline; the next heartbeat makes it ALIVE again."""
    DEAD = "DEAD"
    UNKNOWN = "UNKNOWN"


class TaskStatus(str, Enum):  # noqa: UP042
    """Where a task is in its life."""

    PENDING = "PENDING"
    CLAIMED = "CLAIMED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    DEAD = "DEAD"
    """Failed for good; `requeue_task` makes it PENDING again."""
    UNKNOWN = "UNKNOWN"


class PolicyEffect(str, Enum):  # noqa: UP042
    """What a matching policy does. Any DENY that matches overrides every ALLOW."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    UNKNOWN = "UNKNOWN"


class ReplicaRole(str, Enum):  # noqa: UP042
    """What a replica of the daemon is in its present Raft term."""

    UNKNOWN = "UNKNOWN"
    FOLLOWER = "FOLLOWER"
    CANDIDATE = "CANDIDATE"
    LEADER = "LEADER"


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing an agent says it can do."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What an agent says about itself when it registers."""

    name: str
    description: str
    version: str
    tools: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    capabilities: list[Capability] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """A registered agent as the cluster knows it."""

    agent_id: str
    card: AgentCard
    status: AgentStatus
    registered_at: datetime
    last_heartbeat_at: datetime
    reason: str = ""
    """Why the agent is DEAD: "deregistered", "timed_out" or "superseded"; empty before."""
    ttl_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to work on `task_id`, told from all others by its fencing token."""

    task_id: str
    holder_agent_id: str
    token: int
    """Fencing token: higher than any given out before."""
    acquired_at: datetime
    expires_at: datetime
    """A label; the lease ends by the cluster's own clock, never earlier than its ttl."""
    ttl_seconds: int = 0
    reason: str = ""
    """In events: why it was released other than by its holder, e.g. "holder_died"."""


@dataclass(frozen=True, slots=True)
class ElectionState:
    """Who leads a group. `leader_agent_id` is empty while there is no candidate."""

    group: str
    leader_agent_id: str
    term: int
    """+1 at every election of the group."""
    elected_at: datetime | None


@dataclass(frozen=True, slots=True)
class Policy:
    """Which subject may (or must not) do which action on which resource; `*` matches anything."""

    id: str
    subject: str
    action: str
    resource: str
    effect: PolicyEffect


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The answer of `check_policy`; `reason` names the policy that decided."""

    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Task:
    """A unit of work in the queue."""

    id: str
    type: str
    status: TaskStatus
    input: bytes
    output: bytes
    required_tools: list[str]
    max_retries: int
    retry_count: int
    """How often it was tried again after a failure."""
    claimed_by_agent_id: str
    failure_reason: str
    created_at: datetime
    claimed_at: datetime | None
    completed_at: datetime | None
    claim_token: int = 0
    """Fencing token of the present claim; 0 when unclaimed."""
    priority: int = 0
    """Higher is claimed first."""
    idempotency_key: str = ""
    expired_claims: int = 0
    """Claims that ended without an answer."""
    ttl_seconds: int = 0
    """How long a claim lasts unless extended."""


EventPayload = AgentInfo | Lease | ElectionState | Task | Policy | None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of the bus.

    `sequence` rises over all topics; pass the last one handled to `watch(after=...)` to go on
    from there. `payload` is None for a kind of event that this version of the SDK does not know.
    """

    topic: str
    sequence: int
    timestamp: datetime
    payload: EventPayload
    reason: str = ""
    """Why, where there is more to say than the topic does."""


@dataclass(frozen=True, slots=True)
class WatchGap:
    """Events that a watch can no longer deliver, because the cluster keeps only the newest.

    Gone are those with `after < sequence < oldest`; the watch goes on with `oldest`. One that is
    lower than `after` means that the daemon has lost its memory, as one without a data directory
    does when it stops, and counts from 1 again.
    """

    after: int
    oldest: int


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What one replica of the daemon says about itself, without asking the others."""

    endpoint: str
    node_id: str
    role: ReplicaRole
    term: int
    commit_index: int
    applied_index: int
    last_log_index: int
    leader_node_id: str
    """Empty while none is known."""
    leader_endpoint: str
    version: str
    not_ready_reason: str
    """Why linearizable calls can't be served now; empty when they can."""
    digest: str
    """Of the state at `applied_index`; equal on all replicas at the same index."""
