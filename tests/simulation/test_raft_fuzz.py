"""Random partitions, crashes, slow links, snapshots and bad disks against the real engine."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raft_world import SmallSegments, World, world

from agentkeeper.consensus import limits, storage


def disturb(made: World, rng: random.Random) -> None:
    event, victim = rng.random(), rng.choice(made.ids)
    if event < 0.35:
        made.network.cut(victim, rng.choice([peer for peer in made.ids if peer != victim]))
    elif event < 0.7:
        for one, other in itertools.combinations(made.ids, 2):
            if rng.random() < 0.7:
                made.network.connect(one, other)
    elif event < 0.8:
        made.isolate(victim)
    else:
        if victim in made.engines:
            made.crash(victim)
        restart_some(made, rng)


def restart_some(made: World, rng: random.Random) -> None:
    for peer in made.ids:
        if peer not in made.engines and rng.random() < 0.6:
            made.start(peer)


def disturb_disks(made: World, rng: random.Random) -> None:
    event, victim = rng.random(), rng.choice(made.ids)
    running = victim in made.engines
    if event < 0.25 and running:
        made.cut_power_after(victim, rng.randrange(12))
    elif event < 0.3:
        for node_id in sorted(made.engines):
            made.crash(node_id, power_cut=True)
    elif event < 0.4 and running:
        made.disks[victim].capacity_bytes = made.disks[victim].used_bytes + rng.randrange(2000)
    elif event < 0.5:
        for disk in made.disks.values():
            disk.capacity_bytes = None
    elif event < 0.55 and running:
        made.disks[victim].fail_syncs = 1
    elif event < 0.65 and running and made.wiped is None:
        made.crash(victim, wipe=True)
    else:
        disturb(made, rng)
    restart_some(made, rng)


def fuzz(
    made: World,
    seed: int,
    for_s: float = 15.0,
    disturb: Callable[[World, random.Random], None] = disturb,
) -> None:
    rng = random.Random(seed)
    for one, other in itertools.permutations(made.ids, 2):
        made.network.delay_s[one, other] = rng.uniform(0.001, 0.08)
    made.start()
    made.connect_all()
    end_s = made.time_s + for_s
    next_event_s = made.time_s + 1.0
    while made.time_s < end_s and not made.violations and not made.failures:
        live = sorted(made.engines)
        if live and rng.random() < 0.6:
            for _ in range(rng.choice([1, 1, 5])):
                made.propose(made.leader() or rng.choice(live))
            made.propose(rng.choice(live))
            made.read(rng.choice(live))
        if made.time_s > next_event_s:
            next_event_s = made.time_s + rng.uniform(0.2, 2.0)
            disturb(made, rng)
        made.step()
    heal(made)


def heal(made: World) -> None:
    """Bring everything back, and expect the cluster to become whole and useful again."""
    made.network.drop = 0.0
    for disk in made.disks.values():
        disk.before = disk.fail_syncs = disk.capacity_bytes = None
    for peer in sorted(set(made.ids) - set(made.engines)):
        made.start(peer)
    made.connect_all()
    if made.violations or made.failures:
        return
    made.run(4.0)
    leader = made.elect()
    last = made.propose(leader)
    made.read(leader)

    def whole() -> bool:
        states = [recorder.state for recorder in made.recorders.values()]
        return bool(last.outcomes) and all(state == states[0] for state in states)

    if not made.run(10.0, lambda: made.failures or made.violations or whole()):
        made.failures.append("the cluster did not become whole again")
    made.run(2.5)
    made.check_end()


def settings_of(seed: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    settings: dict[str, Any] = {"snapshot_entries": 40, "drop": 0.02 if seed % 3 == 2 else 0.0}
    if seed % 4 == 3:
        settings["ids"] = "abcde"
    if seed % 2:
        settings["snapshot_takes_s"] = 0.3
        monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 8000)
        monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 400)
        monkeypatch.setattr(limits, "MAX_UNACKNOWLEDGED_BYTES", 1200)
    return settings


def check(made: World) -> None:
    assert not made.violations
    assert not made.failures
    assert [index for index in made.reads if index is not None]


@pytest.mark.parametrize("seed", range(16))
def test_survives_crashes_partitions_and_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    with world(tmp_path, seed=seed, **settings_of(seed, monkeypatch)) as made:
        fuzz(made, seed)
        check(made)
        assert made.acknowledged_index > 50


@pytest.mark.parametrize("seed", range(24))
def test_survives_what_happens_to_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(storage, "Journal", SmallSegments)
    with world(tmp_path, seed=seed, **settings_of(seed, monkeypatch)) as made:
        fuzz(made, seed, disturb=disturb_disks)
        check(made)
        assert made.acknowledged_index > 20
