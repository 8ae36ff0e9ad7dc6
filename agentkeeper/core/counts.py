"""How much of everything there is, told without looking at the records."""

from __future__ import annotations

from typing import NamedTuple

from agentkeeper.core.deadlines import Kind
from agentkeeper.core.state import State


class Counts(NamedTuple):
    """Sizes of the state. Agents and tasks are told by status."""

    agents_alive: int
    agents_unreachable: int
    agents_dead: int
    leases: int
    lease_waiters: int
    election_groups: int
    policies: int
    tasks_pending: int
    tasks_claimed: int
    tasks_completed: int
    tasks_dead: int
    sessions: int


def count(state: State) -> Counts:
    """Count everything; takes the same few steps however much there is."""
    finished = state.deadlines.count(Kind.FINISHED_TASK)
    return Counts(
        agents_alive=state.live_agents() - state.unreachable_agents,
        agents_unreachable=state.unreachable_agents,
        agents_dead=len(state.agents) - state.live_agents(),
        leases=len(state.leases),
        lease_waiters=len(state.waiters),
        election_groups=len(state.elections),
        policies=len(state.policies),
        tasks_pending=len(state.pending),
        tasks_claimed=len(state.tasks) - finished - len(state.pending),
        tasks_completed=finished - state.dead_tasks,
        tasks_dead=state.dead_tasks,
        sessions=len(state.sessions),
    )


def oldest_pending_ms(state: State, wall_ms: int) -> int:
    """How long before `wall_ms` the task became PENDING that has waited longest; 0: none waits.

    As far as this replica knows: those in the snapshot that it began with count from that.
    """
    since_ms = state.pending.waits_since_ms()
    return 0 if since_ms is None else max(0, wall_ms - since_ms)
