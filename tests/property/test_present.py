"""What is looked at: as it is once all that is due has been worked off."""

import random
from collections import Counter
from contextlib import contextmanager

import pytest
from core_budget import bounded
from core_traffic import GROUPS, LEASES, RandomDice, Traffic, small_limits
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.core import commands as c
from agentkeeper.core import limits, present
from agentkeeper.core.apply import apply
from agentkeeper.core.records import Card
from agentkeeper.core.snapshot import capture, pack_snapshot, restore
from agentkeeper.core.state import State

CARD = Card("worker", "", "", (), (), ())


@contextmanager
def late(random):
    """Due work stays undone most of the time, and nothing is forgotten for want of room."""
    with small_limits(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DEAD_AGENTS", 99)
        patch.setattr(limits, "FINISHED_TASKS", 99)
        yield lambda: patch.setattr(limits, "DUE_WORK_PER_ENTRY", random.choice([0, 0, 0, 9]))


def worked_off(state):
    """A copy in which nothing is due any more."""
    copy, _ = restore(b"".join(pack_snapshot(capture(state, 0))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DUE_WORK_PER_ENTRY", 10_000)
        apply(copy, c.Batch(state.time_ms, state.wall_ms, ()))
    due_ms = copy.next_due_ms()
    assert due_ms is None or due_ms > copy.time_ms
    return copy


def seen_agent(agent):
    return None if agent is None else (agent.status, agent.reason)


def seen_task(task):
    if task is None:
        return None
    ended = (task.failure_reason, task.completed_wall_ms)
    return task.status, task.claim_token, task.claimed_wall_ms, task.expired_claims, ended


def check(state):
    """Compare what is seen now with what will be; tell how much of each kind was due."""
    after = worked_off(state)
    due = Counter()
    for agent in state.agents.values():
        seen = present.agent(state, agent)
        assert seen_agent(seen) == seen_agent(after.agents.get(agent.agent_id))
        due["agents"] += seen != agent
    for task_id in LEASES:
        seen, will_be = present.lease(state, task_id), after.leases.get(task_id)
        passed_on = will_be is not None and will_be != state.leases.get(task_id)
        assert seen == (None if passed_on else will_be)
        if seen is not None:
            waiting = [w.agent_id for w in after.lines.get(task_id, {}).values()]
            assert present.line(state, task_id) == waiting
            assert present.remaining_ms(state, seen) > 0
        due["leases"] += seen != state.leases.get(task_id)
    for group in GROUPS:
        seen, will_be = present.election(state, group), after.elections.get(group)
        assert (seen and (seen.candidates, seen.term)) == (
            will_be and (will_be.candidates, will_be.term)
        )
        due["elections"] += seen != state.elections.get(group)
    for task in state.tasks.values():
        seen = present.task(state, task)
        assert seen_task(seen) == seen_task(after.tasks.get(task.task_id))
        due["tasks"] += seen != task
    return due


def watched(seed, batches):
    state, dice = State(), random.Random(seed)
    traffic = Traffic(RandomDice(dice), state)
    due = Counter()
    with late(dice) as loiter:
        for _ in range(batches):
            loiter()
            apply(state, traffic.batch())
            due += check(state)
    return due


@bounded(8)
@given(seed=st.integers(0, 2**32))
def test_what_is_due_is_seen_as_done(seed):
    watched(seed, 100)


def test_much_is_due_on_the_way():
    due = watched(1, 1_000)
    assert all(due[kind] > 20 for kind in ("agents", "leases", "elections", "tasks")), due


def test_a_lease_lasts_through_a_new_leaders_grace():
    state = State()
    apply(state, c.Batch(0, 0, (c.Command("", "", 0, 0, c.Register("ann", CARD, 10**8, 0)),)))
    acquire = c.AcquireLease("deploy", "ann", 10_000, 0, False)
    apply(state, c.Batch(0, 0, (c.Command("", "", 0, 0, acquire),)))
    assert present.remaining_ms(state, present.lease(state, "deploy")) == 10_000
    apply(state, c.Batch(9_000, 0, (c.Command("", "", 0, 0, c.Takeover(3_000)),)))
    assert present.remaining_ms(state, present.lease(state, "deploy")) == 3_000
    apply(state, c.Batch(11_999, 0, ()))
    assert present.remaining_ms(state, present.lease(state, "deploy")) == 1
