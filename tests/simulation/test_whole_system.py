"""The whole system, simulated: every promise is checked while everything goes wrong.

`python -m tests.simulation --seeds 0:500 --jobs 2` runs more of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import run

ROOT = Path(__file__).parents[2]

KEPT_SEEDS: list[int] = []
"""Of runs that once found something."""


@pytest.mark.parametrize("seed", [*KEPT_SEEDS, *range(40)])
def test_all_promises_hold(seed: int) -> None:
    report = run(seed)
    assert not report.violations, f"{report.violations}\nagain: {report.command}"
    assert report.counted["operations"] >= 2000
    assert report.faults.total() >= 10


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
