"""The replicated state: tables, counters, and what is derived from them."""

from __future__ import annotations

from collections.abc import Iterator

from agentkeeper.core import limits
from agentkeeper.core.codec import pack
from agentkeeper.core.deadlines import Deadlines, Kind
from agentkeeper.core.policies import PolicyIndex
from agentkeeper.core.queue import PendingQueue, ToolSet
from agentkeeper.core.records import (
    Agent,
    AgentStatus,
    Answer,
    Card,
    Election,
    Event,
    Lease,
    Policy,
    Replica,
    Session,
    Task,
    TaskStatus,
    Waiter,
)
from agentkeeper.core.table import Digest, SortedTable, Table

COUNTERS = (
    "time_ms",
    "wall_ms",
    "grace_from_ms",
    "grace_until_ms",
    "last_token",
    "last_order",
    "term_floor",
    "first_sequence",
    "last_sequence",
    "event_bytes",
    "cluster_version",
    "epoch",
    "epoch_due",
)
_COUNTERS_SINCE = {1: COUNTERS[:10], 2: COUNTERS}


def counters_of(version: int) -> tuple[str, ...]:
    """Names of the counters that states of a cluster version have."""
    return _COUNTERS_SINCE[version]


class Index:
    """Ids by some other id, for records that are found both ways. Iterated in sorted order only."""

    def __init__(self) -> None:
        self._ids: dict[str, set[tuple[str, int]]] = {}

    def add(self, owner: str, key: str, number: int = 0) -> None:
        """Note that `owner` has the record (`key`, `number`)."""
        self._ids.setdefault(owner, set()).add((key, number))

    def discard(self, owner: str, key: str, number: int = 0) -> None:
        """Forget it."""
        ids = self._ids.get(owner)
        if ids is not None:
            ids.discard((key, number))
            if not ids:
                del self._ids[owner]

    def count(self, owner: str) -> int:
        """How many `owner` has."""
        return len(self._ids.get(owner, ()))

    def of(self, owner: str) -> list[tuple[str, int]]:
        """All that `owner` has, sorted; a copy, so it may change meanwhile."""
        return sorted(self._ids.get(owner, ()))


class State:
    """Everything replicas agree on.

    Tables and counters are the state; deadlines, indexes and queues are derived from them and
    rebuilt after a restore. Only the modules of this package change it, through `apply`.
    """

    def __init__(self) -> None:  # noqa: PLR0915  # a line for each table, counter and index
        self._digest = Digest()
        d = self._digest
        self.agents: Table[str, Agent] = Table("agents", d)
        self.leases: SortedTable[Lease] = SortedTable("leases", d)
        self.waiters: Table[tuple[str, int], Waiter] = Table("waiters", d)
        self.elections: SortedTable[Election] = SortedTable("elections", d)
        self.policies: SortedTable[Policy] = SortedTable("policies", d)
        self.tasks: Table[str, Task] = Table("tasks", d)
        self.inputs: Table[str, bytes] = Table("inputs", d)
        self.outputs: Table[str, bytes] = Table("outputs", d)
        self.sessions: Table[str, Session] = Table("sessions", d)
        self.answers: Table[tuple[str, int], Answer] = Table("answers", d)
        self.events: Table[int, Event] = Table("events", d)
        self.replicas: Table[str, Replica] = Table("replicas", d)

        self.time_ms = 0
        """The cluster clock, as of the last batch."""
        self.wall_ms = 0
        self.grace_from_ms = 0
        self.grace_until_ms = 0
        """What had not expired at the former time does not expire before the latter."""
        self.last_token = 0
        self.last_order = 0
        self.term_floor = 0
        """Highest term of any election group that has been forgotten."""
        self.first_sequence = 1
        """Sequence number of the oldest event kept (or of the next, if none is)."""
        self.last_sequence = 0
        self.event_bytes = 0
        self.cluster_version = 1
        """The encoding everything is written in, and the behaviour that goes with it."""
        self.epoch = 0
        """Which life of this data it is: raised when a snapshot begins a new cluster (`epoch`)."""
        self.epoch_due = 0
        """1 from a restored snapshot until the first entry of the new cluster; 0 otherwise."""

        self.deadlines = Deadlines()
        self.pending = PendingQueue()
        self.policy_index = PolicyIndex()
        self.tool_sets: dict[str, frozenset[str]] = {}
        """Tools of every agent that is not DEAD, in order of registration."""
        self.agents_by_name = Index()
        """Agents that are not DEAD."""
        self.leases_by_agent = Index()
        self.claims_by_agent = Index()
        self.groups_by_agent = Index()
        self.waiters_by_agent = Index()
        self.waiters_by_session = Index()
        self.grants: dict[tuple[str, int], str] = {}
        """Lease keys by the waiting request they were granted to, until it confirms."""
        self.lines: dict[str, dict[int, Waiter]] = {}
        """Waiters of each lease by their place, which rises in order of insertion."""
        self.task_by_key: dict[str, str] = {}
        self.tool_set_uses: dict[ToolSet, int] = {}
        """How many unfinished tasks require each set of tools."""
        self.cards_bytes = 0
        self.dead_cards_bytes = 0
        """Of `cards_bytes`: the part that makes room when it is needed."""
        self.task_bytes = 0
        """Size of all inputs, outputs and names of required tools."""
        self.finished_bytes = 0
        """The part of it that finished tasks take up, which may be forgotten."""
        self.unreachable_agents = 0
        self.dead_tasks = 0
        self.emitted: list[Event] = []
        """Events of the batch being applied."""

    def tables(self) -> Iterator[tuple[str, Table[object, object]]]:
        """All tables by name, in a fixed order."""
        for name in TABLES:
            yield name, getattr(self, name)

    def expired(self, deadline_ms: int) -> bool:
        """Whether a deadline has passed: at or after it, and not in a new leader's grace."""
        if self.time_ms < deadline_ms:
            return False
        return self.time_ms >= self.grace_until_ms or deadline_ms <= self.grace_from_ms

    def next_due_ms(self) -> int | None:
        """When the earliest deadline falls due; None if there is none."""
        first = self.deadlines.next()
        if first is None or first[0] <= self.grace_from_ms:
            return None if first is None else first[0]
        return max(first[0], self.grace_until_ms)

    def next_token(self) -> int:
        """A fencing token above all given out before."""
        self.last_token += 1
        return self.last_token

    def next_order(self) -> int:
        """A number above all given out before, for orders of arrival."""
        self.last_order += 1
        return self.last_order

    def emit(self, topic: str, subject: str, record: object, reason: str = "") -> int:
        """Add an event; the oldest make room for it. Returns its sequence number."""
        self.last_sequence += 1
        event = Event(self.last_sequence, topic, subject, reason, self.wall_ms, pack(record))
        self.events.put(event.sequence, event)
        self.event_bytes += len(event.payload)
        self.emitted.append(event)
        while len(self.events) > limits.EVENTS or self.event_bytes > limits.EVENT_BYTES:
            oldest = self.events.drop(self.first_sequence)
            self.first_sequence += 1
            if oldest is not None:
                self.event_bytes -= len(oldest.payload)
        return event.sequence

    def live_agents(self) -> int:
        """Agents that are ALIVE or UNREACHABLE."""
        return len(self.tool_sets)

    def digest(self) -> str:
        """Hex digest of all tables and counters; equal on all replicas at the same index."""
        return self._digest.value(self.counters())

    def counters(self) -> tuple[int, ...]:
        """Values of the counters that there are in this cluster version."""
        return tuple(getattr(self, name) for name in counters_of(self.cluster_version))

    def fold_digest(self) -> None:
        """Bring the digest up to date, if much has changed since it was."""
        if self._digest.backlog >= limits.DIGEST_BACKLOG:
            self._digest.fold()

    def derive(self) -> None:
        """Rebuild what is derived, after the tables were filled from a snapshot."""
        for agent in self.agents.values():
            self.derive_agent(agent)
            size = card_bytes(agent.card)
            self.cards_bytes += size
            self.dead_cards_bytes += size if agent.status == AgentStatus.DEAD else 0
        for lease in self.leases.values():
            self.derive_lease(lease)
        for waiter in sorted(self.waiters.values(), key=lambda w: w.place):
            self.derive_waiter(waiter)
        for election in self.elections.values():
            for agent_id in election.candidates:
                self.groups_by_agent.add(agent_id, election.group)
            if not election.candidates:
                self.deadlines.set(Kind.EMPTY_GROUP, election.group, election.deadline_ms)
        for policy in self.policies.values():
            self.policy_index.put(policy)
        for task in self.tasks.values():
            self.derive_task(task)
            self.task_bytes += self.bytes_of(task)
            if task.status in UNFINISHED:
                self.use_tool_set(task.required_tools, 1)
        for session in self.sessions.values():
            self.deadlines.set(Kind.SESSION, session.session_id, session.deadline_ms)

    def derive_agent(self, agent: Agent) -> None:
        """Index an agent that was just put into its table."""
        if agent.status == AgentStatus.DEAD:
            self.deadlines.set(Kind.DEAD_AGENT, agent.agent_id, agent.deadline_ms)
        else:
            self.deadlines.set(Kind.AGENT, agent.agent_id, agent.deadline_ms)
            self.unreachable_agents += agent.status == AgentStatus.UNREACHABLE
            self.tool_sets[agent.agent_id] = frozenset(agent.card.tools)
            self.agents_by_name.add(agent.card.name, agent.agent_id)

    def derive_lease(self, lease: Lease) -> None:
        """Index a lease that was just put into its table."""
        self.deadlines.set(Kind.LEASE, lease.task_id, lease.deadline_ms)
        self.leases_by_agent.add(lease.holder, lease.task_id)
        if lease.grant is not None:
            self.grants[lease.grant] = lease.task_id

    def derive_waiter(self, waiter: Waiter) -> None:
        """Index a waiter that was just put into its table."""
        self.deadlines.set(Kind.WAITER, waiter_key(waiter), waiter.deadline_ms)
        self.waiters_by_agent.add(waiter.agent_id, waiter.session_id, waiter.number)
        self.waiters_by_session.add(waiter.session_id, waiter.session_id, waiter.number)
        self.lines.setdefault(waiter.task_id, {})[waiter.place] = waiter

    def use_tool_set(self, tools: ToolSet, change: int) -> None:
        """Count an unfinished task in (1) or out (-1)."""
        uses = self.tool_set_uses.get(tools, 0) + change
        if uses:
            self.tool_set_uses[tools] = uses
        else:
            del self.tool_set_uses[tools]

    def derive_task(self, task: Task) -> None:
        """Index a task that was just put into its table."""
        if task.idempotency_key:
            self.task_by_key[task.idempotency_key] = task.task_id
        if task.status == TaskStatus.PENDING:
            self.pending.add(task, self.wall_ms)
        elif task.status == TaskStatus.CLAIMED:
            self.deadlines.set(Kind.CLAIM, task.task_id, task.deadline_ms)
            self.claims_by_agent.add(task.claimed_by, task.task_id)
        else:
            self.deadlines.set(Kind.FINISHED_TASK, task.task_id, task.deadline_ms)
            self.dead_tasks += task.status == TaskStatus.DEAD
            self.finished_bytes += self.bytes_of(task)

    def bytes_of(self, task: Task) -> int:
        """What a task counts towards `limits.TASK_BYTES`."""
        blobs = len(self.inputs.get(task.task_id) or b"") + len(
            self.outputs.get(task.task_id) or b""
        )
        return blobs + sum(map(len, task.required_tools))


UNFINISHED = (TaskStatus.PENDING, TaskStatus.CLAIMED)


def card_bytes(card: Card) -> int:
    """What a card counts towards `limits.CARDS_BYTES`."""
    return len(pack(card))


TABLES = (
    "agents",
    "leases",
    "waiters",
    "elections",
    "policies",
    "tasks",
    "inputs",
    "outputs",
    "sessions",
    "answers",
    "events",
    "replicas",
)


def waiter_key(waiter: Waiter) -> str:
    """The id under which a waiter's deadline is kept."""
    return f"{waiter.session_id}/{waiter.number}"
