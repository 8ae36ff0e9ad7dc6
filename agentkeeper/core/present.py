"""Records as every command would find them: what is due and not worked off yet counts as done.

For those who only look. Nothing is changed here, unlike by what settles a record to work with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper.core import limits
from agentkeeper.core.records import Agent, AgentStatus, Election, Lease, Task, TaskStatus
from agentkeeper.core.registry import TIMED_OUT, doomed
from agentkeeper.core.tasks import unanswered

if TYPE_CHECKING:
    from agentkeeper.core.state import State


def agent(state: State, record: Agent) -> Agent | None:
    """The agent; None for one that has been DEAD for so long that it is forgotten."""
    if not state.expired(record.deadline_ms):
        return record
    if record.status == AgentStatus.ALIVE:
        return record._replace(status=AgentStatus.UNREACHABLE)
    if record.status == AgentStatus.UNREACHABLE:
        return record._replace(status=AgentStatus.DEAD, reason=TIMED_OUT)
    return None


def lease(state: State, task_id: str) -> Lease | None:
    """The lease, if it is held. One that is due to pass to the next in line is nobody's."""
    held = state.leases.get(task_id)
    if held is None or state.expired(held.deadline_ms) or doomed(state, held.holder):
        return None
    return held


def remaining_ms(state: State, held: Lease) -> int:
    """How long a lease lasts from the state's time, which is at most a second behind the clock."""
    end_ms = held.deadline_ms
    if end_ms > state.grace_from_ms:
        end_ms = max(end_ms, state.grace_until_ms)
    return max(0, end_ms - state.time_ms)


def line(state: State, task_id: str) -> list[str]:
    """Agent ids of those who wait for a lease, next first."""
    return [
        waiter.agent_id
        for waiter in state.lines.get(task_id, {}).values()
        if not state.expired(waiter.deadline_ms) and not doomed(state, waiter.agent_id)
    ]


def election(state: State, group: str) -> Election | None:
    """The election with the candidates that live; None for a group that is unknown or forgotten."""
    found = state.elections.get(group)
    if found is None:
        return None
    if not found.candidates:
        return None if state.expired(found.deadline_ms) else found
    living = tuple(c for c in found.candidates if not doomed(state, c))
    if living == found.candidates:
        return found
    present = found._replace(candidates=living)
    if living and living[0] != found.leader:
        return present._replace(term=found.term + 1, elected_wall_ms=state.wall_ms)
    return present


def task(state: State, record: Task) -> Task | None:
    """The task; None for one that was finished so long ago that it is forgotten."""
    if record.status == TaskStatus.PENDING:
        return record
    over = state.expired(record.deadline_ms)
    if record.status != TaskStatus.CLAIMED:
        return None if over else record
    if not over and not doomed(state, record.claimed_by):
        return record
    expired = record.expired_claims + 1
    if expired < limits.CLAIM_EXPIRIES:
        return record._replace(
            status=TaskStatus.PENDING,
            expired_claims=expired,
            claimed_by="",
            claim_token=0,
            claimed_wall_ms=0,
        )
    return record._replace(
        status=TaskStatus.DEAD,
        expired_claims=expired,
        failure_reason=unanswered(expired),
        completed_wall_ms=state.wall_ms,
    )
