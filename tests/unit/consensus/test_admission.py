"""How a replica that came with an empty disk gets to vote: one rule at a time."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Clock, Message, Replica
from pysyncobj.node import Node

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

Make = Callable[..., Replica]


# --- the leader -----------------------------------------------------------------------------------
@pytest.fixture
def leader(replica: Replica) -> Replica:
    """One whose no-op, entry 2, is committed; `c` then comes back with an empty disk."""
    replica.lead()
    replica.flush()
    replica.answer("b", 3)
    replica.step()
    assert replica.raft.commit_index == 2
    replica.relink("c", "learner")
    return replica


def admitted(replica: Replica) -> list[tuple[str, Message]]:
    return replica.sent("admit")


def test_a_leader_that_meets_a_learner_appends_one_entry(leader: Replica, clock: Clock) -> None:
    assert leader.raft.last_index == 2
    for _ in range(5):
        clock.time_s += 0.06
        leader.answer("b", 3)
        leader.step()
    assert leader.raft.last_index == 3
    sent = [
        index for _, message in leader.sent("append_entries") for _, index, _ in message["entries"]
    ]
    assert sent.count(3) == 2, "to each of the others"


def test_a_learner_is_not_admitted_before_the_others_have_committed(leader: Replica) -> None:
    leader.step()
    leader.answer("c", 4)
    leader.step()
    leader.step()
    assert not admitted(leader)
    leader.answer("b", 4)
    leader.step()
    leader.step()
    assert admitted(leader) == [("c", {"type": "admit", "term": 1, "index": 3})]


def test_a_learner_is_not_admitted_before_it_has_stored_the_entry(leader: Replica) -> None:
    leader.step()
    leader.answer("b", 4)
    leader.answer("c", 3)
    leader.step()
    leader.step()
    assert leader.raft.commit_index == 3
    assert not admitted(leader)
    leader.answer("c", 4)
    leader.step()
    assert [to for to, _ in admitted(leader)] == ["c"]


def test_an_admission_is_repeated_now_and_then_until_it_is_heard(
    leader: Replica, clock: Clock
) -> None:
    leader.step()
    leader.answer("b", 4)
    leader.answer("c", 4)
    for _ in range(5):
        leader.step()
    assert len(admitted(leader)) == 1
    clock.time_s += 0.1
    leader.step()
    assert len(admitted(leader)) == 2
    leader.introduce("c")
    clock.time_s += 0.1
    leader.step()
    assert len(admitted(leader)) == 2


def test_what_a_new_voter_has_stored_counts_at_once(leader: Replica) -> None:
    leader.step()
    leader.answer("c", 4)
    assert leader.raft.counted_index[Node("c")] == 0
    leader.introduce("c")
    assert leader.raft.counted_index[Node("c")] == 3


def test_an_admission_begins_anew_on_a_new_link(leader: Replica) -> None:
    leader.step()
    leader.answer("b", 4)
    leader.answer("c", 4)
    leader.relink("c", "learner")
    leader.step()
    assert not admitted(leader)
    assert leader.raft.last_index == 4
    leader.answer("b", 5)
    leader.answer("c", 4)
    leader.step()
    leader.step()
    assert not admitted(leader)


def test_an_admission_begins_anew_in_a_new_term(leader: Replica, make: Make) -> None:
    leader.step()
    leader.answer("b", 4)
    leader.answer("c", 4, term=2)
    leader.lead()
    leader.step()
    assert leader.raft.last_index == 5, "the new leader's no-op, and one for the learner"
    leader.answer("b", 5)
    leader.answer("c", 5)
    leader.step()
    leader.step()
    assert leader.raft.commit_index == 4
    assert not admitted(leader)


def test_a_learner_that_comes_while_leadership_moves_waits(leader: Replica, clock: Clock) -> None:
    leader.engine.transfer_leadership()
    leader.answer("b", 2, success=False)
    leader.step()
    leader.step()
    assert leader.raft.transferring
    assert leader.raft.last_index == 2
    while leader.raft.transferring:
        clock.time_s += 0.09
        leader.answer("b", 2, success=False)
        leader.step()
    leader.step()
    assert leader.raft.last_index == 3


# --- the learner ----------------------------------------------------------------------------------
@pytest.fixture
def learner(make: Make) -> Replica:
    made = make(new=True)
    for peer in made.peers:
        made.introduce(peer, founders={"a": "of the former disk"})
    return made


def test_a_learner_votes_once_the_entry_is_durable_here(learner: Replica, make: Make) -> None:
    learner.receive_append("b", 1, (1, 0), 1, 1)
    learner.receive("b", type="admit", term=1, index=3)
    assert not learner.raft.votes, "nothing is flushed"
    learner.flush()
    told = learner.receive("b", type="admit", term=1, index=3)
    assert learner.raft.votes
    assert [(to, message["standing"]) for to, message in told] == [("b", "voter"), ("c", "voter")]
    learner.disk.power_cut()
    again = make(learner.disk, new=True)
    again.introduce("c", founders={"a": "of the former disk"})
    assert again.raft.votes
    assert again.raft.last_index == 3
    assert again.ask_vote("c", 2)


@pytest.mark.parametrize(
    ("sender", "term", "index"),
    [
        pytest.param("b", 1, 4, id="an entry that is not here"),
        pytest.param("c", 1, 3, id="not the leader"),
        pytest.param("b", 0, 3, id="an older term"),
        pytest.param("b", 2, 3, id="a term nobody was heard in"),
    ],
)
def test_a_learner_takes_no_other_admission(
    learner: Replica, sender: str, term: int, index: int
) -> None:
    learner.append("b", 1, (1, 0), 1, 1)
    learner.receive(sender, type="admit", term=term, index=index)
    assert not learner.raft.votes


def test_a_learner_takes_no_admission_of_a_leader_that_was_deposed(learner: Replica) -> None:
    learner.append("b", 1, (1, 0), 1, 1)
    learner.ask_vote("c", 2)
    learner.receive("b", type="admit", term=1, index=3)
    assert not learner.raft.votes
