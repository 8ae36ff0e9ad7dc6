"""Accidents that the library alone does not survive, and that the engine built upon it does.

They show that the simulation is able to fail, and for which of the library's rules. What each one
breaks is said in `accidents.py`; `docs/consensus/library.md` has them in one table.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from accidents import ACCIDENTS, Scene, happen
from raft_world import world
from stock import run_stock, stock

from agentkeeper.consensus import limits

LOST = "acknowledged writes are lost"
LATE = "claims to lead 3.0 s after another"
FATAL = [
    ("snapshot-for-deposed", 0, LOST),
    ("snapshot-for-deposed", 3, "diverges at entry"),
    ("slow-link", 0, LOST),
    ("slow-link", 3, LOST),
    ("one-link", 0, LATE),
    ("one-link", 4, LATE),
    ("killed-while-compacting", 4, LOST),
    ("killed-while-compacting", 5, LOST),
    ("compacted-without-dump", 2, LOST),
    ("power-cut", 1, LOST),
    ("power-cut", 4, LOST),
    ("commit-index", 3, "acknowledges what it alone has"),
    ("commit-index", 5, "acknowledges what it alone has"),
    ("bit-flip", 7, "diverges at entry"),
    ("bit-flip", 3, "diverges at entry"),
    ("cut-off-claims", 3, LATE),
    ("cut-off-reads", 3, "a read precedes"),
    ("wiped", 19, LOST),
    ("wiped", 30, LOST),
]


@pytest.mark.parametrize(("accident", "seed", "what"), FATAL)
def test_the_library_does_not_survive(accident: str, seed: int, what: str) -> None:
    violations = run_stock(accident, seed)
    assert [violation for violation in violations if what in violation]


@pytest.mark.parametrize(("accident", "seed"), [(accident, seed) for accident, seed, _ in FATAL])
def test_the_engine_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accident: str, seed: int
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 2000)  # many pieces, as the library's
    with world(tmp_path, seed=seed, **ACCIDENTS[accident].settings) as made:
        assert not happen(accident, made, seed)
        assert not made.failures
        assert made.acknowledged_index > 50


def test_every_accident_is_fatal_to_the_library() -> None:
    assert {accident for accident, _, _ in FATAL} == set(ACCIDENTS)


def test_the_library_survives_a_calm_day(tmp_path: Path) -> None:
    with stock(tmp_path) as made:
        scene = Scene(made, Random(0), judged="reads")
        scene.begin()
        scene.go(5.0)
        scene.heal()
        assert not made.violations
        assert len(made.acknowledged) > 50
        # Nothing of it would survive a power cut for certain.
        assert [disk.syncs for disk in made.disks.values()] == [0, 0, 0]


def test_a_seed_always_tells_the_same() -> None:
    assert run_stock("power-cut", 1) == run_stock("power-cut", 1)
