"""Particular accidents, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
from raft_world import World, world

from agentkeeper.consensus import limits
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


@pytest.mark.parametrize("snapshot_entries", [10, 10**6])
def test_a_replica_whose_disk_was_emptied_catches_up(tmp_path: Path, snapshot_entries: int) -> None:
    with world(tmp_path, snapshot_entries=snapshot_entries) as made:
        leader = running(made)
        for _ in range(30):
            made.propose(leader)
            made.run(0.05)
        emptied, other = (peer for peer in made.ids if peer != leader)
        made.crash(emptied, wipe=True)
        made.start(emptied)
        made.connect_all()
        assert made.run(2.0, lambda: made.recorders[emptied].state == made.recorders[leader].state)
        made.crash(other)
        needed = made.propose(leader)
        made.run(1.0)
        assert needed.outcomes == [Outcome.COMMITTED]
        assert not made.failures
        assert not made.violations


def test_an_emptied_replica_elects_nobody_who_lacks_what_it_had_vouched_for(
    tmp_path: Path,
) -> None:
    with world(tmp_path) as made:
        leader = running(made)
        made.run(1.0)
        emptied, late = (peer for peer in made.ids if peer != leader)
        made.isolate(late)
        kept = made.propose(leader)
        made.run(0.5)
        assert kept.outcomes == [Outcome.COMMITTED]
        made.isolate(leader)
        made.crash(emptied, wipe=True)
        made.start(emptied)
        made.network.connect(emptied, late)
        assert not made.run(10.0, lambda: made.leader() not in (None, leader))
        made.connect_all()
        made.elect()
        assert made.run(3.0, lambda: made.raft(emptied).votes)
        assert made.run(1.0, lambda: len({str(one.state) for one in made.recorders.values()}) == 1)
        made.check_end()
        assert not made.violations


def test_an_emptied_leader_comes_back_as_a_learner_and_then_votes(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        emptied = running(made)
        made.propose(emptied)
        made.run(1.0)
        made.crash(emptied, wipe=True)
        made.start(emptied)
        assert not made.raft(emptied).votes
        made.connect_all()
        assert made.run(3.0, lambda: made.raft(emptied).votes)
        other = next(peer for peer in made.ids if peer not in (emptied, made.leader()))
        made.crash(other)
        needed = made.propose(made.elect())
        made.run(1.0)
        assert needed.outcomes == [Outcome.COMMITTED]


def test_a_power_cut_on_all_at_once_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with world(tmp_path, snapshot_entries=30) as made:
        leader = running(made)
        for _ in range(100):
            made.propose(leader)
            made.step()
        for node_id in made.ids:
            made.crash(node_id, power_cut=True)
        made.start()
        made.connect_all()
        made.propose(made.elect())
        made.run(3.0)
        made.check_end()
        assert not made.violations
        assert made.acknowledged_index > 90


def test_a_leader_whose_disk_is_full_hands_over_and_follows_again_once_it_has_room(
    tmp_path: Path,
) -> None:
    with world(tmp_path) as made:
        old = running(made)
        made.run(1.0)
        made.disks[old].capacity_bytes = made.disks[old].used_bytes
        made.propose(old)
        assert made.run(0.5, lambda: made.leader() not in (None, old))
        needed = made.propose(made.elect())
        assert made.run(0.5, lambda: needed.outcomes == [Outcome.COMMITTED])
        made.disks[old].capacity_bytes = None
        assert made.run(1.0, lambda: not made.engines[old].status().trouble)
        made.run(1.0)
        made.check_end()
        assert not made.violations


@pytest.mark.parametrize("stall_s", [0.3, 0.6, 3.0])
def test_a_machine_that_stood_still_keeps_its_leader(tmp_path: Path, stall_s: float) -> None:
    with world(tmp_path) as made:
        leader = running(made)
        made.run(1.0)
        term = made.engines[leader].status().term
        for _ in range(3):
            made.time_s += stall_s
            made.run(1.0)
        assert made.leader() == leader
        assert made.engines[leader].status().term == term


def test_a_leader_that_lost_its_links_while_it_stood_still_steps_down_at_once(
    tmp_path: Path,
) -> None:
    with world(tmp_path) as made:
        old = running(made)
        made.run(1.0)
        paused = made.engines.pop(old)
        made.run(5.0)
        made.isolate(old)
        made.engines[old] = paused
        made.run(0.05)
        assert paused.status().role is not Role.LEADER


def test_a_replica_that_hears_the_leader_through_nobody_disturbs_nobody(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        leader = running(made)
        made.run(1.0)
        term = made.engines[leader].status().term
        deaf = next(peer for peer in made.ids if peer != leader)
        made.network.cut(leader, deaf)
        made.run(60.0)
        assert made.leader() == leader
        assert made.engines[leader].status().term == term


def test_a_large_backlog_is_sent_within_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UNACKNOWLEDGED_BYTES", 4000)
    monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 1000)
    with world(tmp_path) as made:
        leader = running(made)
        away = next(peer for peer in made.ids if peer != leader)
        made.isolate(away)
        for number in range(200):
            made.propose(leader, b"%d" % number + bytes(100))
        made.run(1.0)
        made.connect_all()
        raft, most = made.raft(leader), 0
        node = next(node for node in raft.others if node.id == away)

        def caught_up() -> bool:
            nonlocal most
            most = max(most, raft.peers[node].unacknowledged_bytes)
            return made.recorders[away].state == made.recorders[leader].state

        assert made.run(2.0, caught_up)
        assert 1000 < most <= 5100
