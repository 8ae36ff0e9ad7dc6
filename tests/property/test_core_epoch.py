"""Whatever a new life of the data gives out is above all that any life before has given out."""

import random

from core_budget import bounded
from core_traffic import RandomDice, Traffic, small_limits
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.core import epoch, limits
from agentkeeper.core.apply import apply
from agentkeeper.core.codec import thaw, unpack
from agentkeeper.core.commands import Batch, Command, Takeover
from agentkeeper.core.records import Election, Lease, Task
from agentkeeper.core.snapshot import capture, pack_snapshot, restore
from agentkeeper.core.state import State

YEAR_2025_MS = 1_735_689_600_000
DAY_MS = 86_400_000
TAKEOVER = Command("", "", 0, 0, Takeover(3_000))


def copied(state):
    return restore(b"".join(pack_snapshot(capture(state, 7))))[0]


def numbers(events):
    """Sequence numbers, tokens and terms that events tell of as new."""
    told = {"sequence": [], "token": [], "term": []}
    for event in events:
        told["sequence"].append(event.sequence)
        record = unpack(event.payload)
        if event.topic == "lease.acquired":
            told["token"].append(thaw(Lease, record).token)
        elif event.topic == "task.claimed":
            told["token"].append(thaw(Task, record).claim_token)
        elif event.topic == "leader.changed" and thaw(Election, record).candidates:
            told["term"].append(thaw(Election, record).term)
    return told


def live(state, seed, batches, wall_ms):
    """A run of random traffic, one millisecond a batch; the numbers it gives out."""
    events = []
    traffic = Traffic(RandomDice(random.Random(seed)), state)
    for i in range(batches):
        batch = traffic.batch()
        events += apply(state, batch._replace(wall_ms=wall_ms + i))[1]
    return numbers(events)


def begun(file_state, wall_ms):
    """The state of a new cluster whose first leader takes over at `wall_ms`."""
    state = epoch.reborn(copied(file_state))
    apply(state, Batch(state.time_ms, wall_ms, (TAKEOVER,)))
    return state


def assert_above(later, earlier):
    for kind, given_before in earlier.items():
        if given_before and later[kind]:
            assert min(later[kind]) > max(given_before), kind
    assert all(number <= limits.COUNTER_MAX for told in later.values() for number in told)


@bounded(40)
@given(
    seed=st.integers(0, 2**32),
    began_ms=st.integers(YEAR_2025_MS + DAY_MS, YEAR_2025_MS + 60 * 365 * DAY_MS),
    away_ms=st.integers(1, 365 * DAY_MS),
)
def test_each_life_is_above_those_before_however_often_the_same_file_is_restored(
    seed, began_ms, away_ms
):
    with small_limits():
        first = State()
        live(first, seed, 60, began_ms)
        saved = copied(first)
        lost = live(first, seed + 1, 60, began_ms + 60)  # given out, and not in the file
        wall_ms = began_ms + 120 + away_ms
        second = begun(saved, wall_ms)
        again = live(second, seed + 2, 120, wall_ms)
        assert_above(again, lost)
        third = begun(saved, wall_ms + 120 + away_ms)
        assert third.epoch > second.epoch > first.epoch
        assert_above(live(third, seed + 3, 60, third.wall_ms), again)
        fourth = begun(second, wall_ms + 120 + 2 * away_ms)
        assert_above(live(fourth, seed + 4, 60, fourth.wall_ms), again)


@bounded(40)
@given(seed=st.integers(0, 2**32), wall_ms=st.integers(0, 2**53))
def test_with_any_clock_numbers_are_above_those_in_the_file_and_exact(seed, wall_ms):
    with small_limits():
        first = State()
        given = live(first, seed, 60, YEAR_2025_MS)
        second = begun(first, wall_ms)
        assert_above(live(second, seed, 60, wall_ms), given)
        assert second.first_sequence - first.last_sequence > 2**22 - 2**12
        assert second.last_token < limits.COUNTER_MAX - 2**43


@bounded(20)
@given(seed=st.integers(0, 2**32))
def test_what_is_kept_has_its_ttl_again_and_the_rest_is_gone(seed):
    with small_limits():
        former = State()
        live(former, seed, 150, YEAR_2025_MS)
        state = epoch.reborn(former)
        assert state.digest() == epoch.reborn(copied(former)).digest()
        assert copied(state).digest() == state.digest()
        for table in ("sessions", "answers", "waiters", "replicas", "events"):
            assert not len(getattr(state, table))
        assert state.policies.copy() == former.policies.copy()
        assert state.inputs.copy() == former.inputs.copy()
        assert set(state.tasks) == set(former.tasks)
        assert set(state.agents) == set(former.agents)
        held = {lease.task_id for lease in former.leases.values() if lease.grant is None}
        assert set(state.leases) == held
        for lease in state.leases.values():
            assert lease.deadline_ms == state.time_ms + lease.ttl_ms
            assert lease.token == former.leases.get(lease.task_id).token
        apply(state, Batch(state.time_ms, YEAR_2025_MS, (TAKEOVER,)))
        assert set(state.leases) == held
        led = [
            [e.candidates for e in s.elections.values() if e.candidates] for s in (state, former)
        ]
        assert led[0] == led[1]  # of the others, one that was due is forgotten
        assert (state.epoch_due, len(state.events)) == (0, 0)
        assert state.first_sequence == state.last_sequence + 1


def test_replicas_restored_apart_agree_after_the_first_entries():
    with small_limits():
        former = State()
        live(former, 3, 100, YEAR_2025_MS)
        file = b"".join(pack_snapshot(capture(epoch.reborn(former), 9)))
        digests = set()
        for _ in range(3):
            state = restore(file)[0]
            live(state, 4, 100, YEAR_2025_MS + DAY_MS)
            digests.add(state.digest())
    assert len(digests) == 1
