"""Epochs: each life of the data gives out numbers above those of all lives before.

A snapshot that begins a new cluster takes the data back to an earlier time, while clients and what
leases guard remember what was given out since. So the new cluster leaps: its tokens, sequence
numbers and election terms go on at `epoch << EPOCH_SHIFT`, where the epoch is the time at which the
new cluster's first entry was made, in milliseconds since 2025. No life comes to that by itself, as
long as it gives out fewer than 4,096 numbers per millisecond; and numbers stay exact (below 2^53)
until 2094. Where the clock is wrong, all is still above what the snapshot holds, by 4 million.
"""

from __future__ import annotations

from typing import Final

from agentkeeper.core.records import AgentStatus, TaskStatus
from agentkeeper.core.state import TABLES, State

EPOCH_SHIFT: Final = 12
VERSION: Final = 2
"""The cluster version that knows epochs."""

_SINCE_WALL_MS: Final = 1_735_689_600_000
"""2025-01-01 00:00 UTC."""
_LEAP: Final = 1024
"""Epochs at least from the highest number to the new ones."""
_LAST: Final = (1 << 53 - EPOCH_SHIFT) - 1
_LAST_BY_CLOCK: Final = _LAST - (1 << 32)
"""A clock beyond it, in 2094, is taken for wrong: it would leave no numbers to go on with."""
_DROPPED: Final = ("sessions", "answers", "waiters", "replicas", "events")
"""Tables of what only the former cluster's clients and replicas could go on with."""


def reborn(former: State) -> State:
    """The state that a new cluster begins with: `former`, without what died with its cluster.

    Sessions, lines, answers and events are gone. Agents, leases and claims have their full ttl once
    more, as the cluster clock goes on only when the new cluster has a leader. Leases that were
    granted to somebody who waited, and not confirmed, are free.
    """
    state = State()
    for counter in ("time_ms", "wall_ms", "last_token", "last_order", "term_floor", "epoch"):
        setattr(state, counter, getattr(former, counter))
    state.last_sequence = former.last_sequence
    state.first_sequence = former.last_sequence + 1
    state.cluster_version = max(former.cluster_version, VERSION)
    state.epoch_due = 1
    for name in TABLES:
        if name not in _DROPPED:
            _copy(former, state, name)
    _prolong(state)
    state.derive()
    return state


def begin(state: State) -> None:
    """Let all numbers go on above those of every life before, as of the batch's wall time."""
    terms = (election.term for election in state.elections.values())
    highest = max(state.last_token, state.last_sequence, state.term_floor, *terms, 0)
    by_clock = state.wall_ms - _SINCE_WALL_MS
    least = (highest >> EPOCH_SHIFT) + _LEAP
    state.epoch = min(max(by_clock, least) if by_clock <= _LAST_BY_CLOCK else least, _LAST)
    floor = max(state.epoch << EPOCH_SHIFT, highest)
    state.last_token = state.term_floor = state.last_sequence = floor
    state.first_sequence = floor + 1
    for election in tuple(state.elections.values()):
        # Who leads a group leads on, under a term of this life: what it guards may have seen a
        # later one than the snapshot's.
        state.elections.put(election.group, election._replace(term=floor, changed_sequence=floor))
    state.epoch_due = 0


def _copy(former: State, state: State, name: str) -> None:
    table = getattr(state, name)
    for key, record in getattr(former, name).copy().items():
        table.put(key, record)
        state.fold_digest()


def _prolong(state: State) -> None:
    now_ms = state.time_ms
    for agent in tuple(state.agents.values()):
        if agent.status != AgentStatus.DEAD:
            state.agents.put(agent.agent_id, agent._replace(deadline_ms=now_ms + agent.ttl_ms))
    for lease in tuple(state.leases.values()):
        if lease.grant is not None:
            state.leases.drop(lease.task_id)
        else:
            state.leases.put(lease.task_id, lease._replace(deadline_ms=now_ms + lease.ttl_ms))
    for task in tuple(state.tasks.values()):
        if task.status == TaskStatus.CLAIMED:
            state.tasks.put(task.task_id, task._replace(deadline_ms=now_ms + task.ttl_ms))
    state.fold_digest()
