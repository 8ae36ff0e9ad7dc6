"""Who founds a cluster, and what a replica with an empty disk may not do: one rule at a time."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Clock, Replica
from pysyncobj.node import Node

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Role

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

Make = Callable[..., Replica]

FOUNDERS = {"a": "of a", "b": "of b", "c": "of c"}


class PowerCutError(BaseException):
    pass


# --- how a cluster begins -------------------------------------------------------------------------
def test_the_lowest_id_founds_once_all_are_new(make: Make) -> None:
    replica = make(new=True)
    replica.introduce("b", "new")
    assert not replica.raft.votes, "one is missing"
    told = replica.introduce("c", "new")
    assert replica.raft.votes
    assert [to for to, _ in told] == ["b", "c"]
    for _, message in told:
        assert (message["standing"], message["founders"]) == ("voter", FOUNDERS)


def test_a_link_alone_introduces_nobody(make: Make) -> None:
    replica = make(new=True)
    assert [(to, message["type"]) for to, message in replica.wire.sent] == [
        ("b", "introduction"),
        ("c", "introduction"),
    ]
    assert {message["standing"] for _, message in replica.wire.sent} == {"new"}
    assert not replica.raft.votes


def test_one_who_has_gone_is_missing(make: Make) -> None:
    replica = make(new=True)
    replica.introduce("b", "new")
    replica.cut("b")
    replica.introduce("c", "new")
    assert not replica.raft.votes


@pytest.mark.parametrize("standing", ["learner", "voter"])
def test_nobody_founds_next_to_one_who_took_part(make: Make, standing: str) -> None:
    replica = make(new=True)
    replica.introduce("b", standing, founders={"b": "of b"})
    replica.introduce("c", "new")
    assert not replica.raft.votes


def test_one_who_has_stored_an_entry_does_not_found(make: Make) -> None:
    replica = make(new=True)
    replica.introduce("b", founders={})
    replica.append("b", 1, (1, 0), 1)
    replica.relink("b", "new")
    replica.introduce("c", "new")
    assert not replica.raft.votes


@pytest.mark.parametrize("node_id", ["b", "c"])
def test_no_other_founds(make: Make, node_id: str) -> None:
    replica = make(node_id=node_id, new=True)
    for peer in replica.peers:
        replica.introduce(peer, "new")
    assert not replica.raft.votes


@pytest.mark.parametrize(("incarnation", "believed"), [("of b", True), ("of another", False)])
def test_founders_count_for_the_disk_that_founded(
    make: Make, incarnation: str, believed: bool
) -> None:
    replica = make(node_id="b", new=True)
    founders = FOUNDERS | {"b": incarnation}
    told = replica.introduce("a", "voter", founders)
    assert replica.raft.votes is believed
    standing = "voter" if believed else "learner"
    assert [(message["standing"], message["founders"]) for _, message in told] == [
        (standing, founders)
    ] * 2


def test_founders_are_told_on_by_whoever_knows_them(make: Make) -> None:
    replica = make(node_id="b", new=True)
    replica.introduce("c", "voter", FOUNDERS)
    assert replica.raft.votes
    replica.disk.power_cut()
    again = make(replica.disk, "b", new=True)
    assert again.raft.votes
    assert again.wire.sent[0][1]["founders"] == FOUNDERS


def test_nobody_hears_of_founders_that_a_power_cut_could_undo(make: Make) -> None:
    for operations in range(10):
        replica = make(new=True)
        replica.introduce("b", "new")
        left = iter(range(operations))

        def before(operation: str, name: str, left: object = left) -> None:
            if next(left, None) is None:
                raise PowerCutError

        replica.disk.before = before
        try:
            replica.introduce("c", "new")
        except PowerCutError:
            assert {message["standing"] for _, message in replica.wire.sent} == {"new"}
        else:
            assert operations == 4, "two copies, each written and synced"
            return
    raise AssertionError("it never ended")


def test_with_bootstrap_a_majority_founds(make: Make) -> None:
    replica = make(new=True, bootstrap=True)
    replica.introduce("c", "new")
    assert replica.raft.votes
    assert replica.wire.sent[-1][1]["founders"] == {"a": "of a", "c": "of c"}


def test_with_bootstrap_the_lowest_id_present_founds(make: Make) -> None:
    replica = make(node_id="b", new=True, bootstrap=True)
    assert not replica.raft.votes
    replica.introduce("c", "new")
    assert replica.raft.votes


def test_with_bootstrap_fewer_do_not_found(make: Make) -> None:
    replica = make(ids="abcde", new=True, bootstrap=True)
    replica.introduce("b", "new")
    assert not replica.raft.votes


def test_one_alone_votes_at_once() -> None:
    engine = RaftEngine(RaftConfig("a"))
    engine.open(one_replica.Ignorant())
    engine.step()
    assert engine.status().voter
    assert engine.status().role is Role.LEADER
    engine.stop()


# --- what a learner does not do -------------------------------------------------------------------
@pytest.fixture
def learner(make: Make) -> Replica:
    """One that came with an empty disk to a cluster that had begun."""
    made = make(new=True)
    for peer in made.peers:
        made.introduce(peer, founders=FOUNDERS | {"a": "of the former disk"})
    return made


def test_a_learner_does_not_vote(learner: Replica) -> None:
    assert not learner.ask_vote("b", 5)
    assert (learner.raft.term, learner.raft.voted_for) == (5, None)


def test_a_learner_gives_no_pre_vote(learner: Replica) -> None:
    assert not learner.ask_vote("b", 5, pre=True)


def test_a_learner_does_not_stand(learner: Replica, clock: Clock) -> None:
    for _ in range(100):
        clock.time_s += 0.09
        learner.step()
    learner.append("b", 1, (1, 0), 1)
    learner.receive("b", type="timeout_now", term=1)
    learner.step()
    assert not learner.sent("request_vote")
    assert learner.raft.term == 1


def test_a_learner_stores_entries_and_says_what_it_is(learner: Replica) -> None:
    assert learner.append("b", 1, (1, 0), 1)["success"]
    assert "does not vote" in learner.raft.trouble
    learner.cut("c")
    learner.link("c")
    assert learner.sent("introduction")[-1][1]["standing"] == "learner"


def test_an_admitted_learner_tells_the_founders_of_the_cluster(learner: Replica) -> None:
    founders = FOUNDERS | {"a": "of the former disk"}
    learner.append("b", 1, (1, 0), 1)
    told = learner.receive("b", type="admit", term=1, index=2)
    assert [(said["standing"], said["founders"]) for _, said in told] == [("voter", founders)] * 2


# --- what others say counts if they vote ----------------------------------------------------------
def test_what_comes_before_an_introduction_is_not_heard(replica: Replica) -> None:
    replica.cut("b")
    replica.link("b")
    sent = replica.receive("b", type="request_vote", term=9, last_log_index=9, last_log_term=9)
    assert not sent
    assert replica.raft.term == 0


@pytest.mark.parametrize("standing", ["new", "learner"])
def test_only_voters_votes_count(replica: Replica, standing: str) -> None:
    replica.relink("b", standing)
    replica.stand()
    replica.vote("b")
    assert replica.raft.role is Role.CANDIDATE
    replica.vote("c")
    assert replica.raft.role is Role.LEADER


@pytest.mark.parametrize("standing", ["new", "learner"])
def test_only_voters_pre_votes_count(replica: Replica, standing: str) -> None:
    replica.relink("b", standing)
    replica.raft.election_deadline = 0.0
    replica.step()
    replica.vote("b", term=1, pre=True)
    replica.step()
    assert replica.raft.term == 0
    replica.vote("c", term=1, pre=True)
    replica.step()
    assert replica.raft.term == 1


def test_a_vote_is_forgotten_when_the_link_breaks(make: Make) -> None:
    replica = make(ids="abcde")
    replica.stand()
    replica.vote("b")
    replica.relink("b")
    replica.vote("c")
    assert replica.raft.role is Role.CANDIDATE
    replica.vote("d")
    assert replica.raft.role is Role.LEADER


def test_a_pre_vote_is_forgotten_when_the_link_breaks(make: Make) -> None:
    replica = make(ids="abcde")
    replica.raft.election_deadline = 0.0
    replica.step()
    replica.vote("b", term=1, pre=True)
    replica.relink("b")
    replica.vote("c", term=1, pre=True)
    replica.step()
    assert replica.raft.term == 0
    replica.vote("d", term=1, pre=True)
    replica.step()
    assert replica.raft.term == 1


def test_only_voters_count_for_a_commit(replica: Replica) -> None:
    replica.relink("c", "learner")
    replica.lead()
    replica.flush()
    replica.answer("c", 3)
    replica.step()
    assert replica.raft.counted_index == {Node("b"): 0, Node("c"): 0}
    assert replica.raft.commit_index == 1
    replica.answer("b", 3)
    replica.step()
    assert replica.raft.commit_index == 2


def test_only_voters_confirm_a_round(replica: Replica) -> None:
    replica.relink("c", "learner")
    replica.lead()
    replica.answer("c", 3)
    assert replica.raft.confirmed_round() == 0
    replica.answer("b", 3)
    assert replica.raft.confirmed_round() == replica.raft.round


def test_only_voters_keep_a_leader_in_office(replica: Replica, clock: Clock) -> None:
    replica.relink("c", "learner")
    replica.lead()
    for peer, role in (("b", Role.LEADER), ("c", Role.FOLLOWER)):
        for _ in range(12):
            clock.time_s += 0.09
            replica.answer(peer, 3)
            replica.step()
        assert replica.raft.role is role


def test_a_voter_that_comes_back_empty_is_counted_no_more_at_once(replica: Replica) -> None:
    replica.lead()
    replica.flush()
    replica.answer("b", replica.raft.last_index + 1)
    assert replica.raft.counted_index[Node("b")] == replica.raft.last_index
    replica.cut("b")
    assert replica.raft.counted_index[Node("b")] == 0
    replica.link("b")
    replica.introduce("b", "learner")
    assert replica.raft.counted_index[Node("b")] == 0
    replica.step()
    assert replica.raft.commit_index == 1


def test_what_a_voter_stored_before_its_link_broke_counts_only_once_it_says_so_again(
    replica: Replica,
) -> None:
    replica.lead()
    replica.flush()
    replica.answer("b", 3)
    replica.relink("b")
    replica.step()
    assert replica.raft.commit_index == 1
    replica.answer("b", 3)
    replica.step()
    assert replica.raft.commit_index == 2
