"""The whole system, simulated: every promise is checked while everything goes wrong.

`python -m tests.simulation --seeds 0:500 --jobs 2` runs more of it, and `--plants` shows what it
finds where a fault is planted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import batch
from tests.simulation.planting import found_by
from tests.simulation.plants import PLANTS, PROVOKED
from tests.simulation.run import FAULTS, OPERATIONS, Report, run

ROOT = Path(__file__).parents[2]

KEPT_SEEDS = [9, 17, 29, 51, 58]
"""Of runs that once found something."""
SETTINGS = {"replicas": None, "operations": OPERATIONS, "faults": FAULTS}


@pytest.mark.parametrize("seed", [*range(48), *(seed for seed in KEPT_SEEDS if seed >= 48)])
def test_all_promises_hold(seed: int) -> None:
    report = run(seed)
    assert not report.violations, f"{report.violations}\nagain: {report.command}"
    assert report.counted["operations"] >= 2000
    assert report.faults.total() >= 10


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        ("vote not stored", "one leader in a term"),
        ("vouch before flush", "what is delivered is stored"),
        ("leader counts unsynced", "what is delivered is stored"),
        ("snapshot drops the log", "all deliver the same entries"),
        ("granted while held", "one holder"),
        ("time from the wall clock", "cluster time"),
        ("deadlines early", "nothing ends early"),
        ("answers not kept", "effects happen once"),
        ("event skipped on resume", "events"),
    ],
)
def test_a_planted_fault_is_found(plant: str, check: str) -> None:
    report = run(0, plant)
    assert report.violations, f"not found: {report.command}"
    assert found_by(report.violations[0]) == check


@pytest.mark.parametrize("plant", sorted(PROVOKED))
def test_what_is_done_on_purpose_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, plant: str
) -> None:
    monkeypatch.setitem(PLANTS, plant, lambda patch: None)
    assert not run(0, plant).violations


def test_the_same_seed_is_the_same_run() -> None:
    first, second = run(3, operations=500), run(3, operations=500)
    assert first.digest == second.digest
    assert first.counted == second.counted
    assert run(4, operations=500).digest != first.digest


def test_the_order_of_hashes_does_not_matter() -> None:
    def digest(hash_seed: str) -> str:
        code = "from tests.simulation.run import run; print(run(3, operations=500).digest)"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        finished = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return finished.stdout

    assert digest("1") == digest("2") == run(3, operations=500).digest + "\n"


def test_a_batch_goes_on_when_a_run_breaks_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fake(seed: int, plant: str | None, **settings: object) -> Report:
        if seed == 1:
            os._exit(1)
        if seed == 2:
            raise RuntimeError("a slip")
        report = Report(seed, 3, plant, simulated_s=36.0)
        report.counted["operations"] = 2000
        return report

    monkeypatch.setattr(batch, "run", fake)
    file = tmp_path / "runs"
    totals = batch.many(range(4), 1, None, SETTINGS, file)
    told = {json.loads(line)["seed"]: json.loads(line) for line in file.read_text().splitlines()}
    assert sorted(told) == [0, 1, 2, 3]
    assert "died" in told[1]["violations"][0]
    assert "a slip" in told[2]["violations"][0]
    assert totals["runs"] == 4
    assert len(totals["failing"]) == 2
    with file.open("a") as lines:
        lines.write('{"seed": 4, "cut sho')
    assert batch.summed(file) == totals


def test_totals_add_up() -> None:
    reports = [batch.noted(Report(seed, 3, None, simulated_s=1800.0)) for seed in range(4)]
    for report in reports:
        report["counted"]["operations"] = 2000 + report["seed"]
        report["faults"]["kill"] = 11
    totals = batch.totals(reports)
    assert totals["runs"] == totals["seeds"] == 4
    assert totals["simulated_hours"] == 2.0
    assert totals["operations_least"] == 2000
    assert totals["operations_total"] == 8006
    assert totals["faults"] == {"kill": 44}
    assert totals["failing"] == []
