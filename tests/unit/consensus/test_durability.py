"""Nothing is vouched for, counted or told before it is stored; and what a bad disk leads to."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Clock, Replica
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import limits
from agentkeeper.consensus.port import Outcome, Role

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

Make = Callable[..., Replica]


class PowerCutError(BaseException):
    pass


def cut_power_after(disk: SimulatedDisk, operations: int) -> None:
    left = iter(range(operations))

    def before(operation: str, name: str) -> None:
        if next(left, None) is None:
            raise PowerCutError

    disk.before = before


def fill(disk: SimulatedDisk) -> None:
    disk.capacity_bytes = disk.used_bytes


# --- a follower vouches ---------------------------------------------------------------------------
def test_a_follower_vouches_after_the_flush(replica: Replica) -> None:
    assert not replica.receive_append("b", 1, (1, 0), 1, 1)
    ((to, reply),) = replica.flush()
    assert (to, reply["success"], reply["next_node_idx"]) == ("b", True, 4)


def test_what_a_step_waited_for_is_vouched_for_in_that_step(replica: Replica) -> None:
    replica.raft._poller.poll = lambda timeout: replica.receive_append("b", 1, (1, 0), 1)
    ((to, reply),) = replica.step()
    assert (to, reply["success"], reply["next_node_idx"]) == ("b", True, 3)


def test_what_a_follower_vouches_for_survives_a_power_cut(make: Make) -> None:
    for operations in range(10):
        replica = make()
        replica.receive_append("b", 1, (1, 0), 1, 1)
        cut_power_after(replica.disk, operations)
        try:
            ((_, reply),) = replica.flush()
        except PowerCutError:
            assert not replica.sent("next_node_idx")
        else:
            assert operations == 2, "a write and a sync"
            replica.disk.before = None
            replica.disk.power_cut()
            assert make(replica.disk).raft.last_index + 1 == reply["next_node_idx"] == 4
            return
    raise AssertionError("it never ended")


def test_one_flush_stores_what_several_appends_brought(replica: Replica) -> None:
    replica.receive_append("b", 1, (1, 0), 1)
    replica.receive_append("b", 1, (2, 1), 1)
    before = replica.disk.syncs
    ((_, reply),) = replica.flush()
    assert reply["next_node_idx"] == 4
    assert replica.disk.syncs - before == 1


def test_a_vouch_of_an_older_term_is_not_sent(replica: Replica) -> None:
    replica.receive_append("b", 1, (1, 0), 1)
    replica.ask_vote("c", 2)
    assert not replica.flush()


def test_a_vouch_is_not_sent_over_another_link(replica: Replica) -> None:
    replica.receive_append("b", 1, (1, 0), 1)
    replica.relink("b")
    assert not replica.flush()


# --- a leader counts itself -----------------------------------------------------------------------
def test_a_leader_commits_nothing_before_it_is_durable_here(replica: Replica) -> None:
    replica.lead()
    replica.raft.append(b"x")
    for peer in "bc":
        replica.answer(peer, 4)
    assert replica.raft.durable_index == 1
    replica.raft.doTick(0.0)  # looks at what is committed, then flushes
    assert (replica.raft.commit_index, replica.raft.durable_index) == (1, 3)
    replica.raft.doTick(0.0)
    assert replica.raft.commit_index == 3


def test_one_alone_commits_nothing_before_it_is_durable(clock: Clock, make: Make) -> None:
    replica = make(ids="a")
    ahead: list[int] = []
    replica.listener.committed = lambda index, term, payload: ahead.append(
        index - replica.raft.durable_index
    )
    for _ in range(20):
        replica.propose()
        replica.step()
    assert len(ahead) > 10
    assert max(ahead) <= 0


def test_one_alone_answers_nothing_while_its_disk_is_full(clock: Clock, make: Make) -> None:
    replica = make(ids="a")
    replica.step()
    fill(replica.disk)
    taken = replica.propose()
    for _ in range(20):
        clock.time_s += 0.09
        replica.step()
    refused = replica.propose()
    replica.step()
    assert (taken, refused) == ([], [Outcome.REJECTED])
    assert "disk is full" in replica.engine.status().trouble
    replica.disk.capacity_bytes = None
    clock.time_s += limits.FULL_DISK_RETRY_S
    replica.step()
    replica.step()
    assert taken == [Outcome.COMMITTED]
    assert not replica.engine.status().trouble


# --- a full disk ----------------------------------------------------------------------------------
@pytest.fixture
def full_leader(replica: Replica) -> Replica:
    """One with entry 2 committed and entry 3 in memory only."""
    replica.lead()
    replica.flush()
    replica.answer("b", 3)
    replica.step()
    fill(replica.disk)
    replica.propose()
    replica.step()
    assert (replica.raft.last_index, replica.raft.durable_index) == (3, 2)
    return replica


def test_a_leader_whose_disk_is_full_takes_no_proposals(full_leader: Replica) -> None:
    outcomes = full_leader.propose()
    full_leader.step()
    assert outcomes == [Outcome.REJECTED]


def test_a_leader_whose_disk_is_full_hands_over(full_leader: Replica) -> None:
    full_leader.step()
    assert not full_leader.sent("timeout_now"), "nobody has all of it"
    full_leader.answer("c", 4)
    full_leader.step()
    assert full_leader.sent("timeout_now") == [("c", {"type": "timeout_now", "term": 1})]


def test_a_leader_whose_disk_is_full_commits_no_more(full_leader: Replica) -> None:
    for peer in "bc":
        full_leader.answer(peer, 4)
    full_leader.step()
    assert full_leader.raft.commit_index == 2


def let_it_give_up(leader: Replica, clock: Clock) -> None:
    for _ in range(9):
        clock.time_s += 0.09
        leader.answer("b", 3)
        leader.step()
    assert leader.raft.role is Role.FOLLOWER


def test_a_leader_whose_disk_stays_full_gives_up_and_does_not_stand(
    full_leader: Replica, clock: Clock
) -> None:
    let_it_give_up(full_leader, clock)
    before = len(full_leader.sent("request_vote"))
    for _ in range(50):
        clock.time_s += 0.09
        full_leader.step()
    full_leader.append("b", 2, (2, 1))
    full_leader.receive("b", type="timeout_now", term=2)
    full_leader.step()
    assert len(full_leader.sent("request_vote")) == before
    assert full_leader.raft.term == 2


def test_a_replica_stands_again_once_its_disk_has_room(full_leader: Replica, clock: Clock) -> None:
    let_it_give_up(full_leader, clock)
    full_leader.disk.capacity_bytes = None
    clock.time_s += limits.FULL_DISK_RETRY_S / 2
    full_leader.step()
    clock.time_s += limits.FULL_DISK_RETRY_S / 2
    full_leader.step()
    assert full_leader.raft.durable_index == 3
    assert not full_leader.raft.trouble
    full_leader.lead()


def test_a_full_disk_is_not_tried_all_the_time(full_leader: Replica, clock: Clock) -> None:
    before = full_leader.disk.operations
    for _ in range(10):
        full_leader.step()
    assert full_leader.disk.operations == before
    clock.time_s += limits.FULL_DISK_RETRY_S
    full_leader.step()
    assert full_leader.disk.operations > before


def test_a_replica_whose_disk_is_full_still_votes(replica: Replica, make: Make) -> None:
    fill(replica.disk)
    replica.append("b", 1, (1, 0), 1)
    assert replica.raft.full
    assert replica.ask_vote("c", 2)
    replica.disk.power_cut()
    assert make(replica.disk).raft.voted_for == "c"


def test_a_follower_vouches_only_for_what_found_room(replica: Replica, clock: Clock) -> None:
    replica.append("b", 1, (1, 0), 1)
    fill(replica.disk)
    assert replica.append("b", 1, (2, 1), 1, 1)["next_node_idx"] == 3
    replica.disk.capacity_bytes = None
    clock.time_s += limits.FULL_DISK_RETRY_S
    assert replica.append("b", 1, (4, 1))["next_node_idx"] == 5


# --- a disk that fails ----------------------------------------------------------------------------
def test_a_failed_sync_of_the_log_stops_the_replica(replica: Replica) -> None:
    replica.receive_append("b", 1, (1, 0), 1)
    replica.disk.fail_syncs = 1
    replica.step()
    assert "the disk failed" in (replica.listener.failure or "")
    assert not replica.sent("next_node_idx")


def test_a_failed_sync_of_a_vote_stops_the_replica(replica: Replica) -> None:
    replica.disk.fail_syncs = 1
    replica.raft._poller.poll = lambda timeout: replica.ask_vote("b", 1)
    replica.step()
    assert "the disk failed" in (replica.listener.failure or "")
    assert not replica.sent("response_vote")


def test_a_proposal_that_a_failing_disk_took_is_unknown(clock: Clock) -> None:
    made = Replica(ids="a")
    made.step()
    outcomes = made.propose()
    made.disk.fail_syncs = 1
    made.step()
    assert outcomes == [Outcome.UNKNOWN]
    assert made.listener.failure


# --- a vote ---------------------------------------------------------------------------------------
def test_a_vote_is_told_after_both_copies_are_synced(make: Make) -> None:
    for operations in range(10):
        replica = make()
        cut_power_after(replica.disk, operations)
        try:
            assert replica.ask_vote("b", 5)
        except PowerCutError:
            assert not replica.sent("response_vote")
            replica.disk.before = None
            replica.disk.power_cut()
            again = make(replica.disk)
            assert (again.raft.term, again.raft.voted_for) in ((0, None), (5, "b"), (5, None))
        else:
            # First the term and then the vote, each in two copies, written and synced.
            assert operations == 8
            return
    raise AssertionError("it never ended")


def test_an_election_is_stored_before_anybody_is_asked(make: Make) -> None:
    for operations in range(10):
        replica = make()
        replica.flush()
        replica.raft.stand_now()
        cut_power_after(replica.disk, operations)
        try:
            replica.raft.doTick(0.0)
        except PowerCutError:
            assert not replica.sent("request_vote")
        else:
            assert operations == 4
            assert {to for to, _ in replica.sent("request_vote")} == {"b", "c"}
            return
    raise AssertionError("it never ended")
