"""What is in the state, and how full everything is that has a bound. Nothing is counted by looking
at the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agentkeeper.core import counts, limits
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.state import State
from agentkeeper.server.dispatch import Surroundings
from agentkeeper.server.metrics.families import Reading, gauge, gauges
from agentkeeper.server.replica import Replica

_OF_STATE: Final[tuple[tuple[str, int, Callable[[State], int]], ...]] = (
    ("agents", limits.AGENTS, lambda s: s.live_agents()),
    ("cards_bytes", limits.CARDS_BYTES, lambda s: s.cards_bytes - s.dead_cards_bytes),
    ("leases", limits.LEASES, lambda s: len(s.leases)),
    ("lease_waiters", limits.LEASE_WAITERS, lambda s: len(s.waiters)),
    (
        "groups",
        limits.GROUPS,
        lambda s: len(s.elections) - s.deadlines.count(Kind.EMPTY_GROUP),
    ),
    ("policies", limits.POLICIES, lambda s: len(s.policies)),
    ("pattern_subjects", limits.PATTERN_SUBJECTS, lambda s: s.policy_index.patterns),
    (
        "tasks",
        limits.TASKS,
        lambda s: len(s.tasks) - s.deadlines.count(Kind.FINISHED_TASK),
    ),
    ("task_bytes", limits.TASK_BYTES, lambda s: s.task_bytes - s.finished_bytes),
    ("tool_sets", limits.TOOL_SETS, lambda s: len(s.tool_set_uses)),
    ("sessions", limits.SESSIONS, lambda s: len(s.sessions)),
)
"""Those that refuse what is beyond them. What only makes room for it (finished tasks, DEAD agents,
kept events, empty groups) is not told: it is full as a rule, and nobody is harmed."""
_OF_REPLICA: Final[tuple[tuple[str, int, Callable[[Replica, Surroundings], int]], ...]] = (
    ("pending_commands", limits.PENDING_COMMANDS, lambda r, a: r.proposer.pending),
    ("claim_waiters", limits.CLAIM_WAITERS, lambda r, a: r.claims.count),
    ("watchers", limits.WATCHERS, lambda r, a: r.hub.watchers),
    ("concurrent_calls", limits.CONCURRENT_CALLS, lambda r, a: a.calls.working),
    ("waiting_calls", limits.WAITING_CALLS, lambda r, a: a.calls.waiting),
    ("under_way_bytes", limits.UNDER_WAY_BYTES, lambda r, a: a.calls.bytes),
    ("owed_commands", limits.OWED_COMMANDS, lambda r, a: len(r.owed)),
    ("streams", limits.STREAMS, lambda r, a: len(a.unread.streams)),
    ("unread_bytes", limits.UNREAD_BYTES, lambda r, a: a.unread.bytes),
)


class Contents:
    """`wall_ms` reads the wall clock: what the age of a task is told by."""

    def __init__(self, replica: Replica, around: Surroundings, wall_ms: Callable[[], int]) -> None:
        self._replica = replica
        self._around = around
        self._wall_ms = wall_ms

    def read(self) -> Iterator[Reading]:
        """See `Source.read`: the state is that after the last applied entry."""
        state = self._replica.state
        yield from self._counts(state)
        yield gauge(
            "agentkeeper_event_sequence", "Sequence number of the last event", state.last_sequence
        )
        yield gauge(
            "agentkeeper_cluster_version",
            "Version of formats and behaviour that all replicas agreed on",
            state.cluster_version,
        )
        yield self._limits(state)
        yield from self._of_replica()
        behind = self._replica.hub.behind()
        yield gauge(
            "agentkeeper_watch_behind_events",
            "Events that watchers here have still before them, all together",
            sum(behind),
        )
        yield gauge(
            "agentkeeper_watch_behind_events_max",
            "The same of the watcher that is furthest behind",
            max(behind, default=0),
        )

    def _counts(self, state: State) -> Iterator[Reading]:
        number = counts.count(state)
        yield gauge(
            "agentkeeper_agents_alive",
            "Agents currently ALIVE or UNREACHABLE",
            number.agents_alive + number.agents_unreachable,
        )
        yield gauge("agentkeeper_leases_active", "Leases currently held", number.leases)
        yield gauges(
            "agentkeeper_agents",
            "Agents, by state",
            ("state",),
            [
                (("ALIVE",), number.agents_alive),
                (("UNREACHABLE",), number.agents_unreachable),
                (("DEAD",), number.agents_dead),
            ],
        )
        yield gauges(
            "agentkeeper_tasks",
            "Tasks, by state",
            ("state",),
            [
                (("PENDING",), number.tasks_pending),
                (("CLAIMED",), number.tasks_claimed),
                (("COMPLETED",), number.tasks_completed),
                (("DEAD",), number.tasks_dead),
            ],
        )
        yield gauge(
            "agentkeeper_task_oldest_pending_seconds",
            "How long the PENDING task has waited that waits longest; 0 if there is none",
            counts.oldest_pending_ms(state, self._wall_ms()) / 1000,
        )

        for name, text, count in (
            ("lease_waiters", "Requests waiting in line for leases", number.lease_waiters),
            ("election_groups", "Election groups, empty ones included", number.election_groups),
            ("policies", "Policies", number.policies),
            ("sessions", "Clients' sessions", number.sessions),
        ):
            yield gauge(f"agentkeeper_{name}", text, count)

    def _of_replica(self) -> Iterator[Reading]:
        replica, around = self._replica, self._around
        for name, text, count in (
            ("watchers", "Watches open here", replica.hub.watchers),
            ("claim_waiters", "Calls waiting for a task here", replica.claims.count),
            ("streams", "Shared streams open here", len(around.unread.streams)),
            ("calls_under_way", "Calls under way here, watches included", around.calls.working),
        ):
            yield gauge(f"agentkeeper_{name}", text, count)

    def _limits(self, state: State) -> Reading:
        replica, around = self._replica, self._around
        return gauges(
            "agentkeeper_limit_used_ratio",
            "How full what has a bound is, from 0 to 1: what would exceed it is refused",
            ("limit", "of"),
            [((name, "cluster"), read(state) / bound) for name, bound, read in _OF_STATE]
            + [
                ((name, "replica"), read(replica, around) / bound)
                for name, bound, read in _OF_REPLICA
            ],
        )
