"""Particular accidents, step by step."""

from __future__ import annotations

from pathlib import Path

from raft_world import World, world

from agentkeeper.consensus.port import Outcome, Role


def running(made: World) -> str:
    made.start()
    made.connect_all()
    return made.elect()


def test_a_cut_off_leader_steps_down_and_serves_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        old = running(made)
        kept = made.propose(old)
        made.run(1.0)
        made.isolate(old)
        lost = made.propose(old, timeout_s=10.0)
        made.read(old)
        made.run(2.0)
        assert made.engines[old].status().role is not Role.LEADER
        assert made.engines[old].status().leader_id is None
        assert kept.outcomes == [Outcome.COMMITTED]
        assert lost.outcomes == [Outcome.UNKNOWN]
        assert made.reads == [None]
        new = made.elect()
        assert new != old
        made.propose(new)
        made.connect_all()
        made.run(3.0)
        made.check_end()
        assert not made.violations
        assert lost.payload not in made.canon.values()


def test_an_overwritten_proposal_is_known_to_be_rejected(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        old = running(made)
        made.run(1.0)
        made.isolate(old)
        lost = made.propose(old, timeout_s=10.0)
        made.run(1.2, lambda: made.leader() not in (None, old))
        made.connect_all()
        made.run(0.5)
        assert lost.outcomes == [Outcome.REJECTED]


def test_a_returning_replica_does_not_depose_the_leader(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        leader = running(made)
        made.run(1.0)
        term = made.engines[leader].status().term
        away = next(peer for peer in made.ids if peer != leader)
        made.isolate(away)
        made.run(10.0)
        made.connect_all()
        made.run(3.0)
        assert made.leader() == leader
        assert made.engines[away].status().leader_id == leader
        assert made.engines[leader].status().term == term


def test_a_long_divergent_log_is_mended_within_a_moment(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        old = running(made)
        made.run(1.0)
        made.isolate(old)
        for _ in range(500):
            made.propose(old)
        assert made.run(5.0, lambda: made.leader() not in (None, old))
        last = made.propose(made.elect())
        made.run(1.0)
        made.connect_all()
        assert made.run(1.0, lambda: last.payload in dict(made.recorders[old].state).values())


def test_a_leader_paused_for_long_answers_no_read(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        old = running(made)
        made.run(1.0)
        paused = made.engines.pop(old)
        recorder = made.recorders.pop(old)
        assert made.run(5.0, lambda: made.leader() is not None)
        made.propose(made.elect())
        made.run(1.0)
        made.engines[old], made.recorders[old] = paused, recorder
        made.read(old)
        made.run(1.0)
        assert made.reads == [None]
        assert not made.violations


def test_leadership_moves_on_request_without_a_gap_in_time(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        old = running(made)
        made.run(1.0)
        made.engines[old].transfer_leadership()
        assert made.run(0.1, lambda: made.leader() not in (None, old))
