"""What a replica has been told or promised in an election lapses; nothing keeps it waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import one_replica
import pytest
from one_replica import Clock, Replica

from agentkeeper.consensus import limits
from agentkeeper.consensus.port import Role

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

ELECTION_TIMEOUT_S = 0.5
HEARTBEAT_S = 0.1


def pass_time(
    replica: Replica, clock: Clock, span_s: float, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Step at least every heartbeat, as a replica does that runs."""
    until_s = clock.time_s + span_s
    while clock.time_s < until_s:
        clock.time_s += 0.09
        meanwhile()
        replica.step()


def isolate(replica: Replica) -> None:
    for peer in replica.peers:
        replica.cut(peer)


def bring_back(replica: Replica) -> None:
    for peer in replica.peers:
        replica.relink(peer)


def votes_asked(replica: Replica) -> list[dict[str, Any]]:
    return [message for _, message in replica.sent("request_vote") if not message.get("pre")]


# --- a successor that cannot stand ----------------------------------------------------------------
@pytest.fixture
def full_successor(replica: Replica) -> Replica:
    """One whose disk became full between the request to succeed and the tick."""
    replica.append("b", 1, (1, 0), 1)
    replica.receive("b", type="timeout_now", term=1)
    replica.disk.capacity_bytes = replica.disk.used_bytes
    replica.append("b", 1, (2, 1), 1)
    assert replica.raft.full
    replica.step()
    assert replica.raft.term == 1
    return replica


def test_a_successor_that_cannot_stand_lets_others_stand(full_successor: Replica) -> None:
    full_successor.cut("b")
    assert full_successor.ask_vote("c", 2, pre=True)


def test_a_successor_that_cannot_stand_goes_on_to_follow(
    full_successor: Replica, clock: Clock
) -> None:
    full_successor.disk.capacity_bytes = None
    pass_time(full_successor, clock, 3.0, lambda: full_successor.append("b", 1, (3, 1)))
    assert not full_successor.raft.full
    assert not full_successor.sent("request_vote")


# --- a candidacy that comes to nothing ------------------------------------------------------------
def be_told_to_stand(replica: Replica, clock: Clock) -> None:
    replica.receive("b", type="timeout_now", term=1)


def win_the_pre_vote(replica: Replica, clock: Clock) -> None:
    while not replica.sent("request_vote"):
        pass_time(replica, clock, HEARTBEAT_S / 2)
    replica.vote("c", term=2, pre=True)


reasons_to_stand = pytest.mark.parametrize("get_reason", [be_told_to_stand, win_the_pre_vote])
Reason = Callable[[Replica, Clock], None]


@reasons_to_stand
def test_a_candidacy_lapses_once_all_links_are_down_for_an_election_timeout(
    replica: Replica, clock: Clock, get_reason: Reason
) -> None:
    replica.append("b", 1, (1, 0), 1)
    get_reason(replica, clock)
    isolate(replica)
    pass_time(replica, clock, ELECTION_TIMEOUT_S)
    bring_back(replica)
    replica.step()
    assert not votes_asked(replica)
    assert replica.raft.term == 1
    replica.append("c", 2, (2, 1))
    assert replica.raft.leader is not None
    pass_time(replica, clock, 2.0, lambda: replica.append("c", 2, (2, 1)))
    assert replica.raft.term == 2


@reasons_to_stand
def test_a_candidacy_outlives_links_that_are_down_for_a_moment(
    replica: Replica, clock: Clock, get_reason: Reason
) -> None:
    replica.append("b", 1, (1, 0), 1)
    get_reason(replica, clock)
    isolate(replica)
    pass_time(replica, clock, ELECTION_TIMEOUT_S / 2)
    assert replica.raft.term == 1, "nobody is there to be asked"
    bring_back(replica)
    replica.step()
    assert replica.raft.role is Role.CANDIDATE
    assert {message["term"] for message in votes_asked(replica)} == {2}


def test_a_successor_that_is_cut_off_does_not_refuse_others_for_ever(
    replica: Replica, clock: Clock
) -> None:
    replica.append("b", 1, (1, 0), 1)
    replica.receive("b", type="timeout_now", term=1)
    isolate(replica)
    pass_time(replica, clock, ELECTION_TIMEOUT_S)
    replica.relink("c")
    assert replica.ask_vote("c", 2, pre=True)


# --- handing over ---------------------------------------------------------------------------------
def let_all_have_the_log(leader: Replica) -> None:
    for peer in leader.peers:
        leader.answer(peer, leader.raft.last_index + 1)


def test_a_leader_asks_the_next_one_when_the_first_does_not_stand(
    replica: Replica, clock: Clock
) -> None:
    replica.lead()
    replica.step()
    let_all_have_the_log(replica)
    replica.engine.transfer_leadership()
    replica.step()
    let_all_have_the_log(replica)
    asked = []
    for _ in range(4):
        replica.step()
        asked.append([to for to, _ in replica.sent("timeout_now")])
        clock.time_s += HEARTBEAT_S * 0.6
        let_all_have_the_log(replica)
    assert asked == [["b"], ["b"], ["b", "c"], ["b", "c"]], "each once, a heartbeat apart"
    assert replica.raft.transferring
    pass_time(replica, clock, ELECTION_TIMEOUT_S, lambda: let_all_have_the_log(replica))
    assert not replica.raft.transferring
    assert replica.raft.role is Role.LEADER


def test_each_hand_over_may_ask_everybody(replica: Replica, clock: Clock) -> None:
    replica.lead()
    replica.step()
    for _ in range(2):
        replica.engine.transfer_leadership()
        pass_time(replica, clock, 2 * ELECTION_TIMEOUT_S, lambda: let_all_have_the_log(replica))
    assert [to for to, _ in replica.sent("timeout_now")] == ["b", "c", "b", "c"]


# --- a term that no cluster reaches ---------------------------------------------------------------
def with_a_term() -> dict[str, dict[str, Any]]:
    """Messages that would make a replica take over a higher term, or answer."""
    return {
        "append": {
            "type": "append_entries",
            "round": 1,
            "commit_index": 1,
            "prevLogIdx": 1,
            "prevLogTerm": 0,
            "entries": [],
        },
        "append reply": {
            "type": "next_node_idx",
            "round": 0,
            "next_node_idx": 2,
            "success": True,
            "reset": False,
        },
        "vote request": {"type": "request_vote", "last_log_index": 9, "last_log_term": 9},
        "vote reply": {"type": "response_vote", "for_term": 1, "granted": False, "pre": False},
        "snapshot reply": {"type": "snapshot_received", "round": 0, "index": 1, "offset": 0},
    }


@pytest.mark.parametrize("message", with_a_term().values(), ids=with_a_term())
def test_a_term_that_leaps_too_far_is_ignored(replica: Replica, message: dict[str, Any]) -> None:
    replica.ask_vote("b", 5)
    too_far = 5 + limits.MAX_TERM_LEAP + 1
    assert not replica.receive("b", **message, term=too_far)
    assert (replica.raft.term, replica.flush()) == (5, [])
    replica.receive("b", **message, term=too_far - 1)
    assert replica.raft.term == too_far - 1
