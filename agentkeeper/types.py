"""What the SDK returns: plain immutable dataclasses, never protobuf messages.

All times are aware UTC datetimes and label what happened by the servers' wall clocks; nothing is
decided by them. Durations are whole seconds. The enums' UNKNOWN stands for a value that is newer
than this SDK.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import SupportsIndex, cast, overload


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


class FindMode(str, Enum):  # noqa: UP042
    """How the agents that `find` returns were put in order."""

    UNRANKED = "UNRANKED"
    """There was no query: in order of registration."""
    LEXICAL = "LEXICAL"
    """By the words that query and agent share: there is no model, or it did not answer in time."""
    SEMANTIC = "SEMANTIC"
    """By meaning; identifiers in the query are found by their letters."""
    UNKNOWN = "UNKNOWN"
    """Also where the daemon is of an earlier version, which does not say."""


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
class FoundAgent(AgentInfo):  # noqa: PLW1641 - there is no hash: cards hold lists
    """An agent as `find` returns it. It equals the same `AgentInfo`, whatever its score."""

    score: float = 0.0
    """How well it fits the query: higher is better, 0 if nothing of the query does. Comparable
    within one answer only. 0 from daemons of earlier versions."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AgentInfo):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(AgentInfo))


class FoundAgents(list[AgentInfo]):
    """The answer of `find`: a list of `FoundAgent`, best first, that also says how they were found.

    A slice of it says so too.
    """

    def __init__(
        self,
        agents: Iterable[FoundAgent] = (),
        mode: FindMode = FindMode.UNKNOWN,
        pending: int = 0,
    ) -> None:
        super().__init__(agents)
        self.mode = mode
        """A `FindMode`: how they were put in order."""
        self.pending = pending
        """How many ALIVE agents that have the tools still wait for the vector that stands for their
        meaning. Until then they are ranked by their words."""

    # Its items are of the narrower type; to a type checker it still is the list that it always was.

    def __iter__(self) -> Iterator[FoundAgent]:
        return cast("Iterator[FoundAgent]", super().__iter__())

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> FoundAgent: ...

    @overload
    def __getitem__(self, index: slice, /) -> FoundAgents: ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> FoundAgent | FoundAgents:
        if isinstance(index, slice):
            picked = (self[i] for i in range(*index.indices(len(self))))
            return FoundAgents(picked, self.mode, self.pending)
        return cast("FoundAgent", super().__getitem__(index))


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
class LeaseInfo:
    """A held lease as operators see it, with those who wait for it."""

    lease: Lease
    """Its token only tells holders apart: it opens nothing by itself."""
    remaining_ms: int
    """By the cluster's clock; 0 for one whose end has come and is about to be worked off."""
    waiting_agent_ids: list[str]
    """Those in line, next first, at most 100 of them; empty in lists."""
    waiting: int
    """How many are in line."""


@dataclass(frozen=True, slots=True)
class ElectionState:
    """Who leads a group. `leader_agent_id` is empty while there is no candidate."""

    group: str
    leader_agent_id: str
    term: int
    """+1 at every election of the group."""
    elected_at: datetime | None


@dataclass(frozen=True, slots=True)
class Election:
    """A group with its candidates."""

    state: ElectionState
    candidate_agent_ids: list[str]
    """The leader first, then those who wait, next first; at most 100 of them."""
    candidates: int
    """How many there are."""


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
class Explanation:
    """The answer of `explain_policy`: that of `check_policy`, and how it came about."""

    allowed: bool
    reason: str
    policy_id: str
    """The policy that decided; empty where none matched."""
    matching: list[Policy]
    """All that match, DENY first, then by id; at most 100 of them."""
    matches: int
    """How many match."""


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
class Summary:
    """How much of everything there is."""

    agents_alive: int
    agents_unreachable: int
    agents_dead: int
    leases: int
    lease_waiters: int
    """Calls in line for a lease."""
    election_groups: int
    policies: int
    tasks_pending: int
    tasks_claimed: int
    tasks_completed: int
    tasks_dead: int
    oldest_pending_ms: int
    """How long the oldest PENDING task has waited; 0 if there is none."""
    sessions: int
    last_sequence: int
    """Of the last event."""
    first_sequence: int
    """Of the oldest event that is kept."""


@dataclass(frozen=True, slots=True)
class LeaderMoved:
    """Who leads after `move_leader`, and in which Raft term."""

    leader_node_id: str
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotSaved:
    """What `save_snapshot` has written."""

    path: str
    log_index: int
    """The log index that the snapshot reflects."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReplicaVitals:
    """What a replica last said of itself to another one, which it does every second."""

    role: ReplicaRole
    term: int
    commit_index: int
    applied_index: int
    not_ready_reason: str
    """Empty when it can serve linearizable calls."""
    version: str
    age_ms: int
    """How long ago it said so."""


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica of the cluster, as the one that was asked sees it."""

    node_id: str
    endpoint: str
    """Where clients reach it; empty until it has announced itself."""
    connected: bool
    match_index: int | None
    """How much of the log it is known to have; known to the leader only."""
    vitals: ReplicaVitals | None
    """None if nothing was heard of it lately."""


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
    cluster_version: int = 0
    """The version of formats and behaviour that all replicas have agreed on."""
    newest_version: int = 0
    """The newest version that this replica's build knows."""
    uptime_ms: int = 0
    """How long its process has run."""
    replicas: list[ReplicaView] = field(default_factory=list)
    """All replicas of the cluster, as this one sees them."""
