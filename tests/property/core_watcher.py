"""Invariants checked after every batch, whatever the model says."""

import copy
import hashlib

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.codec import pack, thaw, unpack
from agentkeeper.core.counts import count
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import (
    AgentStatus,
    Election,
    Lease,
    Refused,
    Task,
    TaskStatus,
    Waiting,
)
from agentkeeper.core.snapshot import capture, pack_snapshot, restore
from agentkeeper.core.state import TABLES

AGENTS_BY_STATUS = {
    AgentStatus.ALIVE: "agents_alive",
    AgentStatus.UNREACHABLE: "agents_unreachable",
    AgentStatus.DEAD: "agents_dead",
}
TASKS_BY_STATUS = {
    TaskStatus.PENDING: "tasks_pending",
    TaskStatus.CLAIMED: "tasks_claimed",
    TaskStatus.COMPLETED: "tasks_completed",
    TaskStatus.DEAD: "tasks_dead",
}
_BOUNDS = {
    "leases": "LEASES", "waiters": "LEASE_WAITERS", "elections": "GROUPS",
    "policies": "POLICIES", "events": "EVENTS", "replicas": "REPLICAS",
}  # fmt: skip


def digest_from_scratch(state):
    """The digest by a pass over everything, instead of by what changed."""
    total = 0
    for name in TABLES:
        table = getattr(state, name)
        for key in table:
            row = pack((name, key, table.get(key)))
            total += int.from_bytes(hashlib.blake2b(row, digest_size=16).digest(), "big")
    packed = pack((f"{total % 2**128:x}", state.counters()))
    return hashlib.blake2b(packed, digest_size=16).hexdigest()


def due_order(state):
    """All deadlines in the order in which they would be worked off."""
    deadlines, order = copy.deepcopy(state.deadlines), []
    while (due := deadlines.next()) is not None:
        order.append(due)
        deadlines.clear(due[1], due[2])
    return order


def derived(state):
    """All that is derived from the tables, in a form that can be compared."""
    indexes = (
        "agents_by_name", "leases_by_agent", "claims_by_agent", "groups_by_agent",
        "waiters_by_agent", "waiters_by_session",
    )  # fmt: skip
    return {
        "due": due_order(state),
        "counts": count(state),
        "queue": {tools: sorted(heap) for tools, heap in state.pending._heaps.items()},
        "lines": {task_id: list(line.items()) for task_id, line in state.lines.items()},
        "grants": state.grants,
        "policies": (state.policy_index._literal, state.policy_index._patterns),
        "tools": state.tool_sets,
        "keys": state.task_by_key,
        "bytes": (
            state.task_bytes,
            state.finished_bytes,
            state.cards_bytes,
            state.dead_cards_bytes,
        ),
        "tool sets": state.tool_set_uses,
        **{name: getattr(state, name)._ids for name in indexes},
    }


class Watcher:
    """Remembers what must never be taken back, and checks each batch against it."""

    def __init__(self, state):
        self.state = state
        self.last_token = self.last_sequence = 0
        self.terms = {}  # highest term ever told of, by group
        self.first_answers = {}
        self.leases = {}  # as they were after the batch before
        self.pending_since = {}  # by the wall clock, of each task when it last became PENDING

    def check(self, batch, results, events):
        self._events(events)
        self._tokens_and_terms(events)
        self._lease_ends(batch, events)
        self._answers(batch, results)
        self._the_dead_hold_nothing()
        self._counts()
        self._bounds()
        assert self.state.digest() == digest_from_scratch(self.state)

    def check_restored(self):
        """A restored state is the same in everything, derived things included."""
        other, index = restore(b"".join(pack_snapshot(capture(self.state, 17))))
        assert index == 17
        assert other.digest() == self.state.digest()
        assert derived(other) == derived(self.state)
        order = due_order(self.state)
        assert order == sorted(order)

    def _events(self, events):
        for event in events:
            assert event.sequence == self.last_sequence + 1, "gap between events"
            self.last_sequence = event.sequence
            if event.topic in ("task.created", "task.requeued"):
                self.pending_since[event.subject] = event.wall_ms
        state = self.state
        assert list(state.events) == list(range(state.first_sequence, self.last_sequence + 1))
        assert state.last_sequence == self.last_sequence
        assert state.event_bytes == sum(len(e.payload) for e in state.events.values())
        assert state.event_bytes <= limits.EVENT_BYTES

    def _tokens_and_terms(self, events):
        for event in events:
            row = unpack(event.payload)
            if event.topic in ("lease.acquired", "task.claimed"):
                lease = event.topic == "lease.acquired"
                record = thaw(Lease if lease else Task, row)
                token = record.token if lease else record.claim_token
                assert token > self.last_token, "token did not grow"
                self.last_token = token
            elif event.topic == "leader.changed":
                election = thaw(Election, row)
                before = self.terms.get(election.group, 0)
                if election.leader:
                    assert election.term > before, "two leaders in one term"
                else:
                    assert election.term == before
                self.terms[election.group] = election.term

    def _lease_ends(self, batch, events):
        """Each lease ends by an event of its own, for a reason that holds, not before its time."""
        state, standing = self.state, dict(self.leases)
        released = {x.body.token for x in batch.commands if isinstance(x.body, c.ReleaseLease)}
        withdraws = any(isinstance(x.body, c.Withdraw) for x in batch.commands)
        for event in events:
            if not event.topic.startswith("lease."):
                continue
            lease = thaw(Lease, unpack(event.payload))
            held = standing.get(lease.task_id)
            if event.topic == "lease.acquired":
                # Somebody may hold it already only where a holder acquires again.
                assert held is None or held.holder == lease.holder, "two holders"
                standing[lease.task_id] = lease
                continue
            assert held is not None
            assert held.token == lease.token
            if event.topic == "lease.renewed":
                standing[lease.task_id] = lease
                continue
            del standing[lease.task_id]
            if event.topic == "lease.expired":
                assert state.time_ms >= max(lease.deadline_ms, held.deadline_ms), "ended early"
            elif event.reason == "holder_died":
                holder = state.agents.get(lease.holder)
                assert holder is None or holder.status == AgentStatus.DEAD
            else:
                given_up = withdraws or lease.grant is not None
                assert given_up if event.reason else lease.token in released
        current = {x.task_id: x for x in state.leases.values()}
        assert {k: x.token for k, x in standing.items()} == {k: x.token for k, x in current.items()}
        self.leases = current

    def _answers(self, batch, results):
        """A retry gets the first answer, or is told that it can't be known any more."""
        ended = set()
        for command, result in zip(batch.commands, results, strict=True):
            if isinstance(command.body, c.OpenSession | c.CloseSession):
                ended.add(command.body.session_id)
            key = (command.session_id, command.number)
            first = self.first_answers.get(key)
            refused = isinstance(result, Refused)
            if not command.session_id or command.session_id in ended:
                continue
            if refused and result.reason in (
                "number_reused", "outcome_unknown", "session_expired", "withdrawn", "identity"
            ):  # fmt: skip
                continue
            if first is not None:
                assert (type(result), result) == (type(first), first), "a retry ran again"
            elif not isinstance(result, Waiting) and self._stored(key) == result:
                self.first_answers[key] = result
        gone = {s for s, _ in self.first_answers if s not in self.state.sessions or s in ended}
        self.first_answers = {k: v for k, v in self.first_answers.items() if k[0] not in gone}

    def _stored(self, key):
        answer = self.state.answers.get(key)
        return answer and answer.result

    def _the_dead_hold_nothing(self):
        state = self.state
        living = {a.agent_id for a in state.agents.values() if a.status != AgentStatus.DEAD}
        assert set(state.tool_sets) == living
        assert {x.holder for x in state.leases.values()} <= living
        assert {x.agent_id for x in state.waiters.values()} <= living
        assert {a for g in state.elections.values() for a in g.candidates} <= living
        claimed = [t for t in state.tasks.values() if t.status == TaskStatus.CLAIMED]
        assert {t.claimed_by for t in claimed} <= living

    def _counts(self):
        counts = count(self.state)
        agents = [a.status for a in self.state.agents.values()]
        tasks = [t.status for t in self.state.tasks.values()]
        for status, name in AGENTS_BY_STATUS.items():
            assert getattr(counts, name) == agents.count(status), name
        for status, name in TASKS_BY_STATUS.items():
            assert getattr(counts, name) == tasks.count(status), name
        pending = [t for t in self.state.tasks.values() if t.status == TaskStatus.PENDING]
        since = [self.pending_since[t.task_id] for t in pending]
        assert self.state.pending.waits_since_ms() == min(since, default=None)

    def _bounds(self):
        state = self.state
        for table, bound in _BOUNDS.items():
            assert len(getattr(state, table)) <= getattr(limits, bound), table
        dead = state.deadlines.count(Kind.DEAD_AGENT)
        finished = state.deadlines.count(Kind.FINISHED_TASK)
        assert dead <= limits.DEAD_AGENTS
        assert len(state.agents) - dead <= limits.AGENTS
        assert finished <= limits.FINISHED_TASKS
        assert len(state.tasks) - finished <= limits.TASKS
        assert state.task_bytes <= limits.TASK_BYTES
        assert max(map(len, state.lines.values()), default=0) <= limits.LEASE_WAITERS_EACH
        assert len(state.tool_set_uses) <= limits.TOOL_SETS
        assert state.policy_index.patterns <= limits.PATTERN_SUBJECTS
        assert state.cards_bytes <= limits.CARDS_BYTES
        own = sum(s.identity.startswith("replica:") for s in state.sessions.values())
        assert len(state.sessions) - own <= limits.SESSIONS
        for agent_id in state.tool_sets:
            assert state.leases_by_agent.count(agent_id) <= limits.LEASES_EACH
            assert state.groups_by_agent.count(agent_id) <= limits.GROUPS_EACH
            assert state.claims_by_agent.count(agent_id) <= limits.CLAIMS_EACH
        for group in state.elections.values():
            assert len(group.candidates) <= limits.CANDIDATES_EACH
        for session_id, number in state.answers:
            session = state.sessions.get(session_id)
            assert session is not None
            assert session.seen < number <= session.seen + session.window
        assert set(state.inputs) | set(state.outputs) <= set(state.tasks)
