"""Random partitions, crashes, slow links and snapshots against the real engine."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from raft_world import World, world

from agentkeeper.consensus import limits


def disturb(made: World, rng: random.Random, crashes: bool) -> None:
    event, victim = rng.random(), rng.choice(made.ids)
    if event < 0.35:
        made.network.cut(victim, rng.choice([peer for peer in made.ids if peer != victim]))
    elif event < 0.7 or not crashes:
        for one, other in itertools.combinations(made.ids, 2):
            if rng.random() < 0.7:
                made.network.connect(one, other)
    elif event < 0.8:
        made.isolate(victim)
    else:
        if victim in made.engines:
            made.crash(victim)
        for peer in made.ids:
            if peer not in made.engines and rng.random() < 0.6:
                made.start(peer)


def fuzz(made: World, seed: int, for_s: float = 15.0, crashes: bool = True) -> None:
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
            disturb(made, rng, crashes)
        made.step()
    heal(made)


def heal(made: World) -> None:
    """Bring everything back, and expect the cluster to become whole and useful again."""
    made.network.drop = 0.0
    for peer in sorted(set(made.ids) - set(made.engines)):
        made.start(peer)
    made.connect_all()
    if made.violations or made.failures:
        return
    made.run(4.0)
    last = made.propose(made.elect())

    def whole() -> bool:
        states = [recorder.state for recorder in made.recorders.values()]
        return bool(last.outcomes) and all(state == states[0] for state in states)

    if not made.run(10.0, lambda: made.failures or made.violations or whole()):
        made.failures.append("the cluster did not become whole again")
    made.run(2.5)
    made.check_end()


@pytest.mark.parametrize("seed", range(16))
def test_survives_crashes_partitions_and_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    settings: dict[str, Any] = {"snapshot_entries": 40, "drop": 0.02 if seed % 3 == 2 else 0.0}
    if seed % 4 == 3:
        settings["ids"] = "abcde"
    if seed % 2:
        settings["snapshot_takes_s"] = 0.3
        monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 8000)
        monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 400)
        monkeypatch.setattr(limits, "MAX_UNACKNOWLEDGED_BYTES", 1200)
    with world(tmp_path, seed=seed, **settings) as made:
        fuzz(made, seed)
        assert not made.violations
        assert not made.failures
        assert made.acknowledged_index > 50
        assert [index for index in made.reads if index is not None]
