"""Two clusters do not mix: whom a replica hears, by who it says founded its cluster."""

from __future__ import annotations

from collections.abc import Callable

import one_replica
import pytest
from one_replica import Replica
from pysyncobj.node import Node

from agentkeeper.consensus.port import Role

clock = one_replica.clock
make = one_replica.make

Make = Callable[..., Replica]

FOUNDERS = {"a": "of a", "b": "of b", "c": "of c"}
OTHERS = {"a": "1", "b": "2", "c": "3"}


def noted(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the transport is told to count from now on."""
    notes: list[tuple[str, str]] = []
    note = lambda reason, text: notes.append((reason.value, text))  # noqa: E731
    monkeypatch.setattr(replica.wire, "note", note, raising=False)
    return notes


@pytest.fixture
def founded(make: Make) -> Replica:
    """One that has founded a cluster with `b` and `c`."""
    made = make(new=True)
    for standing in ("new", "voter"):
        for peer in made.peers:
            made.introduce(peer, standing)
    assert made.raft.votes
    return made


@pytest.mark.parametrize("standing", ["voter", "learner"])
def test_one_of_another_cluster_is_not_heard_and_gets_nothing_that_is_stored(
    founded: Replica, monkeypatch: pytest.MonkeyPatch, standing: str
) -> None:
    notes = noted(founded, monkeypatch)
    founded.cut("b")
    founded.link("b")
    assert not founded.introduce("b", standing, OTHERS)
    ((reason, text),) = notes
    assert reason == "other_cluster"
    assert "replica b " in text
    assert "a=1, b=2, c=3" in text
    assert "a=of a, b=of b, c=of c" in text
    assert not founded.receive(
        "b", type="request_vote", term=9, last_log_index=9, last_log_term=9, pre=False
    )
    assert founded.raft.term == 0
    founded.stand()
    founded.vote("b")
    assert founded.raft.role is Role.CANDIDATE
    founded.vote("c")
    founded.raft.replicate()
    assert {to for to, _ in founded.sent("append_entries")} == {"c"}


def test_one_that_was_heard_before_is_not_counted_any_more(
    founded: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted(founded, monkeypatch)
    founded.stand()
    founded.introduce("b", "voter", OTHERS)
    founded.vote("b")
    assert founded.raft.role is Role.CANDIDATE


def test_another_process_at_the_same_address_is_heard_again(
    founded: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = noted(founded, monkeypatch)
    founded.introduce("b", "voter", OTHERS)
    founded.relink("b")
    founded.stand()
    founded.vote("b")
    assert founded.raft.role is Role.LEADER
    founded.raft.replicate()
    assert {to for to, _ in founded.sent("append_entries")} == {"b", "c"}
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("founders", "heard"),
    [
        ({}, True),
        (FOUNDERS, True),
        ({"a": "of a", "b": "of b"}, True),
        ({"c": "of c", "d": "of d"}, True),
        ({"d": "of d", "e": "of e"}, False),
        (FOUNDERS | {"c": "of another"}, False),
    ],
)
def test_lists_that_one_beginning_may_have_left_overlap_and_do_not_contradict(
    founded: Replica,
    monkeypatch: pytest.MonkeyPatch,
    founders: dict[str, str],
    heard: bool,
) -> None:
    notes = noted(founded, monkeypatch)
    founded.introduce("b", "voter", founders)
    assert founded.raft.introduced(Node("b")) is heard
    assert len(notes) == (not heard)


def test_two_that_begin_with_bootstrap_at_the_same_moment_found_one_cluster(make: Make) -> None:
    a, b = make(new=True, bootstrap=True), make(node_id="b", new=True, bootstrap=True)
    a.introduce("b", "new")
    b.introduce("c", "new")  # what a has said is still on its way
    assert a.raft.ballot.founders != b.raft.ballot.founders
    a.introduce("b", "voter", b.raft.ballot.founders)
    b.introduce("a", "voter", a.raft.ballot.founders)
    b.stand()
    assert a.ask_vote("b", 1)
    b.vote("a")
    assert b.raft.role is Role.LEADER


def test_with_bootstrap_a_wiped_founder_does_not_begin_a_second_cluster_unnoticed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = make(node_id="b", new=True, bootstrap=True)
    b.incarnation = "another disk"
    b.introduce("c", "new")
    assert b.raft.votes, "this is what the switch allows"
    founders = FOUNDERS | {"b": "the former disk"}
    notes = noted(b, monkeypatch)
    b.introduce("a", "voter", founders)
    assert [reason for reason, _ in notes] == ["other_cluster"]


def test_a_learner_stays_with_the_first_cluster_that_it_hears_of(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make(new=True)
    told = replica.introduce("b", "voter", OTHERS)
    assert [(to, said["standing"], said["founders"]) for to, said in told] == [
        ("b", "learner", OTHERS),
        ("c", "learner", OTHERS),
    ]
    replica.disk.power_cut()
    again = make(replica.disk, new=True)
    notes = noted(again, monkeypatch)
    assert again.wire.sent[0][1]["founders"] == OTHERS
    again.introduce("c", "voter", FOUNDERS)
    assert [reason for reason, _ in notes] == ["other_cluster"]
    again.introduce("b", "voter", OTHERS)
    assert again.raft.introduced(Node("b"))
    assert not again.raft.votes


def test_one_who_knows_founders_does_not_begin_a_cluster_nor_lets_others(make: Make) -> None:
    replica = make(new=True, bootstrap=True)
    replica.introduce("b", "voter", OTHERS)
    replica.cut("b")
    replica.introduce("c", "new")
    assert not replica.raft.votes
