"""Leadership handed to whom it is wanted, and whoever asked is told how that ended."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Clock, Replica

from agentkeeper.consensus.port import Role, Transfer

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

ELECTION_TIMEOUT_S = 0.5


def asked(replica: Replica, to: str | None = None) -> list[Transfer]:
    ended: list[Transfer] = []
    replica.engine.transfer_leadership(to, ended.append)
    return ended


@pytest.fixture
def leader(replica: Replica) -> Replica:
    replica.lead()
    replica.step()
    return replica


def test_only_the_one_that_is_wanted_is_asked_and_not_before_it_has_the_whole_log(
    leader: Replica, clock: Clock
) -> None:
    ended = asked(leader, "c")
    leader.step()
    leader.answer("b", leader.raft.last_index + 1)
    for _ in range(3):
        clock.time_s += 0.1
        leader.step()
    assert leader.sent("timeout_now") == []
    leader.answer("c", leader.raft.last_index + 1)
    leader.step()
    assert [to for to, _ in leader.sent("timeout_now")] == ["c"]
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
    for _ in range(12):
        leader.step()
        clock.time_s += ELECTION_TIMEOUT_S / 10
        leader.answer("b", leader.raft.last_index + 1)
    assert first == second == [Transfer.GAVE_UP]
    assert leader.raft.role is Role.LEADER
    assert leader.propose() == []
    assert leader.raft.takes_proposals


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
