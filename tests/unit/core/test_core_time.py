"""Time is an input: deadlines, the order in which they fall due, and a new leader's grace."""

import random

import pytest
from core_story import Story, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.apply import apply
from agentkeeper.core.deadlines import Deadlines, Kind
from agentkeeper.core.records import AgentStatus


def test_the_clock_never_runs_backwards():
    story = Story().agent("ann", ttl=1_000).at(5_000)
    story.at(400)
    assert story.state.time_ms == 5_000
    assert story.acquire("deploy", "ann").lease.deadline_ms == 65_000


def test_the_wall_clock_only_labels():
    story = Story().agent("ann", ttl=1_000)
    apply(story.state, c.Batch(999, 9 * 10**12, ()))
    assert story.status("ann") == AgentStatus.ALIVE
    apply(story.state, c.Batch(1_000, 0, ()))
    assert story.status("ann") == AgentStatus.UNREACHABLE
    assert story.acquire("deploy", "ann").lease.acquired_wall_ms > 10**12


def test_nothing_is_due_while_there_is_no_deadline():
    story = Story()
    assert story.state.next_due_ms() is None
    story.agent("ann", ttl=1_000)
    assert story.state.next_due_ms() == 1_000


def test_due_work_is_done_in_order_of_deadline_kind_and_id():
    story = Story().agent("ann", "zed", ttl=10**8).agent("mia", "bob", ttl=5_000)
    story.acquire("zip", "ann", ttl=5_000)
    story.acquire("index", "ann", ttl=5_000)
    story.acquire("late", "ann", ttl=4_000)
    story.task("t1", ttl=5_000)
    story.claim("ann")
    story.forget().at(60_000)
    assert story.topics() == [
        "lease.expired late",
        "agent.unreachable bob", "agent.unreachable mia",
        "lease.expired index", "lease.expired zip",
        "task.requeued t1 claim_expired",
    ]  # fmt: skip


def test_an_entry_works_off_a_bounded_amount_and_the_next_goes_on(monkeypatch):
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 2)
    story = Story().agent("ann", ttl=10**8)
    for i in range(5):
        story.acquire(f"lease{i}", "ann", ttl=1_000)
    left = [len(story.at(1_000).state.leases) for _ in range(3)]
    assert left == [3, 1, 0]


def test_what_is_due_counts_as_expired_although_it_is_not_worked_off(monkeypatch):
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    story = Story().agent("ann", "bob", ttl=10**8)
    token = story.acquire("deploy", "ann", ttl=1_000).lease.token
    assert "deploy" in story.at(1_000).state.leases
    assert story.state.next_due_ms() == 1_000, "the leader goes on at once"
    assert reason(story.renew("deploy", "ann", token)) == ("NOT_FOUND", "not_found")
    assert story.acquire("deploy", "bob").acquired


def test_the_lease_of_a_holder_whose_death_is_due_is_free(monkeypatch):
    story = Story().agent("ann", ttl=1_000).agent("bob", ttl=10**8)
    story.acquire("deploy", "ann", ttl=10**8)
    story.at(1_000)
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    assert story.at(2_000).acquire("deploy", "bob").acquired
    assert "agent.died ann timed_out" in story.topics()


def test_a_new_leader_grants_every_deadline_a_grace():
    story = Story().agent("ann", ttl=10_000).agent("bob", ttl=10**8).session("short", ttl=10_000)
    token = story.acquire("deploy", "bob", ttl=10_000).lease.token
    story.at(9_999).do(c.Takeover(3_000))
    assert story.state.next_due_ms() == 12_999
    story.at(12_998)
    assert story.status("ann") == AgentStatus.ALIVE
    assert not story.acquire("deploy", "ann").acquired, "it holds for every command"
    assert story.do(c.Heartbeat("ann"), session="short", number=1) == ()
    assert story.renew("deploy", "bob", token).deadline_ms == 22_998
    story.at(12_999)
    assert story.status("ann") == AgentStatus.ALIVE, "its heartbeat came within the grace"


def test_after_the_grace_everything_due_falls_due():
    story = Story().agent("ann", ttl=10_000)
    story.at(9_000).do(c.Takeover(3_000))
    story.at(11_999)
    assert story.status("ann") == AgentStatus.ALIVE
    assert story.at(12_000).status("ann") == AgentStatus.UNREACHABLE


def test_a_grace_brings_nothing_back_that_had_expired(monkeypatch):
    """Else an agent could lose its place as doomed and then live on."""
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    story = Story().agent("ann", "bob", ttl=10**8)
    story.acquire("deploy", "ann", ttl=10_000)
    story.acquire("index", "ann", ttl=10_001)
    story.at(10_000).do(c.Takeover(3_000))
    assert story.state.next_due_ms() == 10_000
    assert story.acquire("deploy", "bob").acquired
    assert not story.at(10_500).acquire("index", "bob").acquired


def test_a_takeover_within_a_grace_prolongs_it_for_the_same():
    story = Story().agent("ann", ttl=10_000)
    story.at(9_000).do(c.Takeover(3_000))
    story.at(11_000).do(c.Takeover(3_000))
    assert story.at(13_999).status("ann") == AgentStatus.ALIVE
    assert story.at(14_000).status("ann") == AgentStatus.UNREACHABLE


def test_a_second_takeover_never_shortens_a_grace():
    story = Story()
    story.do(c.Takeover(3_000))
    story.do(c.Takeover(1_000))
    assert story.state.grace_until_ms == 3_000


# The deadlines themselves.


def drained(deadlines):
    order = []
    while (due := deadlines.next()) is not None:
        order.append(due)
        deadlines.clear(due[1], due[2])
    return order


def test_deadlines_come_up_in_order_whatever_was_set_moved_and_cleared():
    rng, deadlines, expected = random.Random(1), Deadlines(), {}
    for _ in range(5_000):
        kind, key = rng.choice(list(Kind)), f"id{rng.randrange(40)}"
        if rng.random() < 0.2:
            deadlines.clear(kind, key)
            expected.pop((kind, key), None)
        else:
            expected[kind, key] = rng.randrange(1_000)
            deadlines.set(kind, key, expected[kind, key])
        first = min(((at, *of) for of, at in expected.items()), default=None)
        assert deadlines.next() == first
    assert drained(deadlines) == sorted((at, *of) for of, at in expected.items())


@pytest.mark.parametrize(
    "moves",
    [
        [("set", 100_000), ("set", 1_000)],
        [("set", 5_000), ("clear", 0)],
        [("set", 1_000), ("set", 2_000)],
    ],
)
def test_moving_a_deadline_to_and_fro_takes_no_more_room(moves):
    """Renewing by turns for long and for short must not pile up what no longer stands."""
    deadlines = Deadlines()
    for i in range(2_000):
        for what, at in moves:
            if what == "set":
                deadlines.set(Kind.LEASE, "deploy", at + i)
            else:
                deadlines.clear(Kind.LEASE, "deploy")
    assert sum(map(len, deadlines._heaps)) < 100
