"""One replica against hand-fed messages: Raft's rules, one at a time."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Clock, Replica
from pysyncobj.node import Node

from agentkeeper.consensus import limits
from agentkeeper.consensus.port import Outcome, Role

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica


# --- entries --------------------------------------------------------------------------------------
def test_a_bare_heartbeat_commits_nothing(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1, 1, 1)
    heartbeat = {"type": "append_entries", "term": 2, "round": 1, "commit_index": 4}
    replica.receive("c", **heartbeat)
    assert replica.raft.commit_index == 1


def test_only_what_was_compared_is_committed(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1, 1, 1)
    replica.append("c", 2, (2, 1), commit=4)
    assert replica.raft.commit_index == 2


@pytest.mark.parametrize("commit", [1, 2, 4])
def test_a_late_duplicate_truncates_nothing(replica: Replica, commit: int) -> None:
    replica.append("b", 1, (1, 0), 1, 1, 1, commit=commit)
    reply = replica.append("b", 1, (1, 0), 1)
    assert reply["success"]
    assert reply["next_node_idx"] == 3
    assert replica.terms() == [0, 1, 1, 1]


def test_a_conflict_truncates_what_is_not_committed(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1, 1, 1, commit=2)
    replica.append("c", 2, (2, 1), 2)
    assert replica.terms() == [0, 1, 2]


def test_a_conflict_with_what_is_committed_stops_the_replica(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1, 1, commit=3)
    replica.raft._poller.poll = lambda timeout: replica.receive_append("c", 2, (2, 1), 2)
    replica.engine.step()
    assert "committed entry 3" in (replica.listener.failure or "")


# --- answers --------------------------------------------------------------------------------------
def test_an_answer_of_an_older_term_counts_for_nothing(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1)
    replica.lead()
    replica.answer("b", 4, term=1)
    replica.engine.step()
    assert {peer.match_index for peer in replica.raft.peers.values()} == {0}
    assert replica.raft.commit_index == 1
    assert replica.raft.confirmed_round() == 0


def test_an_answer_of_a_newer_term_deposes(replica: Replica) -> None:
    replica.lead()
    replica.answer("b", 2, term=9)
    assert (replica.raft.role, replica.raft.term) == (Role.FOLLOWER, 9)


def test_an_entry_of_an_older_term_is_not_committed_by_counting(replica: Replica) -> None:
    # Raft paper, 5.4.2 and figure 8.
    replica.append("b", 1, (1, 0), 1)
    replica.lead()
    assert replica.terms() == [0, 1, 2]
    replica.answer("b", 3)
    replica.engine.step()
    assert replica.raft.commit_index == 1
    replica.answer("b", 4)
    replica.engine.step()
    assert replica.raft.commit_index == 3


def test_a_rejection_never_moves_back_behind_what_matched(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1, 1)
    replica.lead()
    replica.answer("b", 4)
    node = Node("b")
    replica.answer("b", 2, success=False, reset=True)
    assert (replica.raft.peers[node].match_index, replica.raft.next_index[node]) == (3, 5)


def test_a_rejection_that_names_no_entry_moves_to_the_first(replica: Replica) -> None:
    replica.lead()
    replica.answer("b", 0, success=False, reset=True)
    replica.answer("c", 4)
    assert replica.listener.failure is None
    assert replica.raft.role is Role.LEADER


def test_a_peer_that_vouches_for_what_cannot_be_is_ignored(replica: Replica) -> None:
    replica.lead()
    replica.answer("b", 1000)
    replica.engine.step()
    assert replica.raft.peers[Node("b")].match_index == 0
    assert replica.raft.role is Role.LEADER


def test_a_lost_link_lets_the_peer_be_asked_anew(replica: Replica) -> None:
    replica.lead()
    replica.flush()
    replica.answer("b", 3)
    replica.engine.step()
    assert replica.raft.commit_index == 2
    replica.relink("b")
    replica.answer("b", 2, success=False, reset=True)
    assert replica.raft.next_index[Node("b")] == 3, "sent again at once, from entry 2 on"
    assert [entry[1] for entry in replica.wire.sent[-1][1]["entries"]] == [2]
    assert replica.raft.commit_index == 2


# --- votes ----------------------------------------------------------------------------------------
def test_a_vote_outlives_a_power_cut(make: Callable[..., Replica]) -> None:
    replica = make()
    assert replica.ask_vote("b", 5)
    replica.disk.power_cut()
    again = make(replica.disk)
    assert again.raft.term == 5
    assert not again.ask_vote("c", 5)
    assert again.ask_vote("b", 5)
    assert again.ask_vote("c", 6)


def test_a_pre_vote_leaves_no_trace(replica: Replica) -> None:
    assert replica.ask_vote("b", 1)
    before = replica.disk.operations
    assert replica.ask_vote("c", 7, pre=True)
    assert replica.raft.term == 1
    assert replica.raft.voted_for == "b"
    assert replica.disk.operations == before


@pytest.mark.parametrize(("last_index", "granted"), [(1, False), (2, True)])
def test_of_two_that_ask_at_once_the_higher_id_goes_on_unless_its_log_is_behind(
    make: Callable[..., Replica], last_index: int, granted: bool
) -> None:
    replica = make(node_id="c")
    replica.raft.stand_now()
    last = {"last_log_index": last_index, "last_log_term": 0}
    ((_, reply),) = replica.receive("b", type="request_vote", term=1, pre=True, **last)
    assert reply["granted"] is granted


def test_only_the_leader_can_make_a_replica_stand(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1)
    replica.receive("c", type="timeout_now", term=1)
    replica.engine.step()
    assert replica.raft.term == 1
    replica.receive("b", type="timeout_now", term=1)
    replica.engine.step()
    assert replica.raft.term == 2


def test_nobody_stands_unasked_whenever_the_time_runs_out(replica: Replica, clock: Clock) -> None:
    # The deadline passes at each of the readings of the clock within a tick in turn.
    clock.per_read_s = 0.001
    for reading in range(40):
        replica.raft.election_deadline = clock.time_s + (reading + 0.5) * clock.per_read_s
        replica.engine.step()
        assert replica.raft.term == 0


def test_nothing_is_accepted_while_leadership_moves(replica: Replica) -> None:
    replica.lead()
    replica.engine.transfer_leadership()
    replica.engine.step()
    replica.answer("b", replica.raft.last_index + 1)
    replica.engine.step()
    outcomes = replica.propose()
    replica.engine.step()
    assert outcomes == [Outcome.REJECTED]


# --- lost time ------------------------------------------------------------------------------------
def test_what_arrived_during_a_stall_is_read_before_the_leader_judges(
    replica: Replica, clock: Clock
) -> None:
    replica.lead()
    replica.engine.step()
    arrived = [lambda: replica.answer("b", 3)]
    replica.raft._poller.poll = lambda timeout: [answer() for answer in arrived]
    clock.time_s += 5.0
    replica.engine.step()
    assert replica.raft.role is Role.LEADER
    arrived.clear()
    for _ in range(6):
        clock.time_s += 0.11
        replica.engine.step()
    assert replica.raft.role is Role.FOLLOWER, "lost time is made up for once only"


def test_a_slow_follower_still_notices_that_its_leader_is_gone(
    replica: Replica, clock: Clock
) -> None:
    replica.append("b", 1, (1, 0), 1)
    replica.raft._poller.poll = lambda timeout: None
    replica.engine.step()
    for _ in range(12):
        clock.time_s += 0.11
        replica.engine.step()
    assert any(message.get("pre") for _, message in replica.wire.sent)


# --- the log's length -----------------------------------------------------------------------------
def test_what_is_kept_for_a_slow_follower_is_bounded_in_bytes(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_TRIM_SLACK_BYTES", 3500)
    replica.lead()
    for _ in range(10):
        replica.propose(bytes(1000))
    replica.engine.step()
    replica.answer("c", replica.raft.last_index + 1)
    replica.engine.step()
    assert replica.raft.delivered_index == 12
    replica.engine.save_snapshot(12, [b"state"])
    for _ in range(2):
        replica.engine.step()
    assert replica.raft.first_index == 9, "three entries fit, beside the one the snapshot ends with"
    kept = sum(len(command) for command, _, _ in replica.raft.log[:])
    assert kept == replica.raft.log_bytes


def test_a_slow_listener_does_not_hold_up_heartbeats(replica: Replica, clock: Clock) -> None:
    replica.append("b", 1, (1, 0), *[1] * 50, commit=51)

    def slow(index: int, term: int, payload: bytes) -> None:
        clock.time_s += limits.MAX_DELIVERY_S / 2

    replica.listener.committed = slow
    replica.engine.step()
    assert 1 < replica.raft.delivered_index < 6
