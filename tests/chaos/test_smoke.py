"""Two minutes of faults on real processes, as anyone can have them: everything must hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 1


@pytest.mark.timeout(420)
def test_two_minutes_of_faults(tmp_path):
    command = ["run", "--scenario", "smoke", "--minutes", "2", "--seed", str(SEED)]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *command, "--out", str(tmp_path / "run"), "--keep"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["conclusion"] == "HELD"
    assert result["faults"]
    assert result["undecided"] == 0
    page = (tmp_path / "run/report.html").read_text()
    assert "HELD" in page
