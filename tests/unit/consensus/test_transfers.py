"""Leadership handed to whom it is wanted, and whoever asked is told how that ended."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Clock, Replica

from agentkeeper.consensus.port import Outcome, Role, Transfer

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

ELECTION_TIMEOUT_S = 0.5


def asked(replica: Replica, to: str | None = None) -> list[Transfer]:
    ended: list[Transfer] = []
    replica.engine.transfer_leadership(to, ended.append)
    return ended


def pass_time(leader: Replica, clock: Clock, answering: str) -> None:
    """Let an election timeout pass in which some answer."""
    for _ in range(11):
        leader.step()
        clock.time_s += ELECTION_TIMEOUT_S / 10
        stored(leader, *answering)
    leader.step()


@pytest.fixture
def leader(replica: Replica) -> Replica:
    replica.lead()
    replica.step()
    return replica


def stored(leader: Replica, *peers: str) -> None:
    """Some have all there is now."""
    for peer in peers:
        leader.answer(peer, leader.raft.last_index + 1)


def takes_proposals(leader: Replica) -> bool:
    outcomes = leader.propose()
    leader.step()
    return outcomes != [Outcome.REJECTED]


def told_to_stand(leader: Replica) -> list[str]:
    return [to for to, _ in leader.sent("timeout_now")]


def test_only_the_one_that_is_wanted_is_asked_and_not_before_it_has_the_whole_log(
    leader: Replica, clock: Clock
) -> None:
    ended = asked(leader, "c")
    leader.step()
    leader.answer("b", leader.raft.last_index + 1)
    for _ in range(3):
        clock.time_s += 0.1
        leader.step()
    assert told_to_stand(leader) == []
    stored(leader, "c")
    leader.step()
    assert told_to_stand(leader) == ["c"]
    assert ended == []
    leader.receive(
        "c", type="request_vote", term=leader.raft.term + 1, pre=False,
        last_log_index=leader.raft.last_index, last_log_term=leader.raft.last_term,
    )  # fmt: skip
    leader.step()
    assert ended == [Transfer.DONE]
    assert leader.raft.role is Role.FOLLOWER


def test_one_that_does_not_take_over_in_an_election_timeout_is_given_up(
    leader: Replica, clock: Clock
) -> None:
    first, second = asked(leader, "c"), asked(leader, "c")
    leader.step()
    stored(leader, "c")
    pass_time(leader, clock, "bc")
    assert first == second == [Transfer.GAVE_UP]
    assert told_to_stand(leader) == ["c"]
    assert leader.raft.role is Role.LEADER
    assert takes_proposals(leader)
    assert [to for to, _ in leader.sent("stay")] == ["c"], "should it wake only now"


def test_one_that_does_not_answer_stops_nothing(leader: Replica, clock: Clock) -> None:
    stored(leader, "b", "c")  # before it was asked for: that says nothing
    ended = asked(leader, "c")
    for _ in range(4):
        assert takes_proposals(leader)
        clock.time_s += ELECTION_TIMEOUT_S / 10
        stored(leader, "b")
    pass_time(leader, clock, "b")
    assert ended == [Transfer.SILENT]
    assert told_to_stand(leader) == []


def test_one_that_is_behind_stops_nothing(leader: Replica, clock: Clock) -> None:
    leader.propose()
    leader.step()
    ended = asked(leader, "c")
    for _ in range(12):
        assert takes_proposals(leader)
        clock.time_s += ELECTION_TIMEOUT_S / 10
        stored(leader, "b")
        leader.answer("c", 2)
    assert ended == [Transfer.BEHIND]
    assert told_to_stand(leader) == []


def test_work_goes_on_until_the_successor_is_near(leader: Replica) -> None:
    leader.propose()
    ended = asked(leader, "c")
    leader.step()
    near = leader.raft.last_index
    assert takes_proposals(leader)
    leader.answer("c", near + 1)
    leader.step()
    assert not takes_proposals(leader)
    assert (told_to_stand(leader), ended) == ([], []), "it lacks the last one"
    stored(leader, "c")
    leader.step()
    assert told_to_stand(leader) == ["c"]


def test_unless_somebody_is_named_the_furthest_goes_first(leader: Replica) -> None:
    leader.propose()
    asked(leader)
    leader.step()
    near = leader.raft.last_index
    assert takes_proposals(leader)
    leader.answer("b", near + 1)
    leader.answer("c", near + 2)
    leader.step()
    assert told_to_stand(leader) == ["c"]


def test_what_is_asked_meanwhile_comes_after(leader: Replica, clock: Clock) -> None:
    first, other, same = asked(leader, "c"), asked(leader), asked(leader, "c")
    pass_time(leader, clock, "b")
    assert first == same == [Transfer.SILENT]
    assert other == []
    stored(leader, "b")
    leader.step()
    assert told_to_stand(leader) == ["b"]
    leader.receive("b", type="append_entries", term=leader.raft.term + 1, round=1, commit_index=0)
    leader.step()
    assert other == [Transfer.DONE]


def test_one_that_was_told_to_stand_but_did_not_run_stays_when_told_so(replica: Replica) -> None:
    replica.append("b", 1, (1, 0), 1)
    replica.receive("b", type="timeout_now", term=1)
    replica.receive("c", type="stay", term=1)
    replica.receive("b", type="stay", term=0)
    replica.receive("b", type="stay", term=1)
    replica.step()
    assert replica.raft.term == 1
    replica.receive("b", type="timeout_now", term=1)
    replica.receive("c", type="stay", term=1)
    replica.step()
    assert replica.raft.term == 2, "c does not lead"


@pytest.mark.parametrize(
    ("to", "refusal"),
    [("a", Transfer.UNKNOWN), ("nobody", Transfer.UNKNOWN), ("c", Transfer.NOT_CONNECTED)],
)
def test_who_cannot_lead_is_refused_at_once(leader: Replica, to: str, refusal: Transfer) -> None:
    leader.cut("c")
    ended = asked(leader, to)
    leader.step()
    assert ended == [refusal]
    assert not leader.raft.transferring


def test_one_without_a_vote_is_refused(leader: Replica) -> None:
    leader.relink("c", "learner")
    ended = asked(leader, "c")
    leader.step()
    assert ended == [Transfer.NO_VOTE]


def test_who_does_not_lead_hands_nothing_over(replica: Replica) -> None:
    ended = asked(replica)
    replica.step()
    assert ended == [Transfer.NOT_LEADING]


def test_one_alone_has_nobody_to_hand_over_to(make: Callable[..., Replica]) -> None:
    alone = make(ids="a")
    while not alone.raft.leads:
        alone.step()
    ended = asked(alone)
    alone.step()
    assert ended == [Transfer.ALONE]


def test_whoever_waits_is_told_when_the_engine_ends(leader: Replica) -> None:
    waiting = asked(leader, "c")
    leader.step()
    leader.engine.stop()
    assert waiting == [Transfer.DONE]
    assert asked(leader, "c") == [Transfer.NOT_LEADING]
