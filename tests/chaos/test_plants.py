"""Wrong builds are wrong, fit the present code, and are caught by checks."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from rich.console import Console

from agentkeeper.core import leases
from chaos.checkers import Verdict
from chaos.history import History
from chaos.plants import PLANTS
from chaos.plants.patches import PATCHES, _put
from chaos.plants.proof import HEADINGS, Proof, interpreter, plan_of, prove, table
from chaos.report.aggregate import aggregate
from chaos.report.facts import Machine, RunFacts

QUICKEST = "granted-while-held"


def facts(violations, problems=()):
    found = [f"linearizability of {of}" for of in ("leases", "tasks")] + ["digests"]
    verdicts = [Verdict("terms", 1, []), *(Verdict(name, 7, violations) for name in found)]
    return RunFacts(
        scenario="smoke",
        about="",
        backend="processes",
        replicas=["a"],
        seed=1,
        command="",
        version="",
        commit="",
        machine=Machine.here(),
        began_at=datetime.now(UTC),
        start_ns=0,
        end_ns=1,
        operations=aggregate(History([]), 0),
        verdicts=verdicts,
        problems=list(problems),
    )


def test_stock_and_unsynced_and_five_others_are_there():
    assert {"stock-pysyncobj", "no-fsync"} < PLANTS.keys()
    assert len(PLANTS) >= 7
    assert PATCHES.keys() == {plant.name for plant in PLANTS.values() if plant.patched}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_each_has_a_run(plant, tmp_path):
    plan = plan_of(plant, tmp_path)
    assert plan.scenario.settings[len(plan.scenario.settings) - len(plant.settings) :] == (
        plant.settings
    )
    assert bool(plan.python) == plant.patched
    assert plan.command == f"python -m chaos plants {plant.name}"


@pytest.mark.parametrize("name", PATCHES)
def test_each_fits_the_present_code(name, tmp_path):
    python = interpreter(PLANTS[name], tmp_path)
    command = [python, "-m", "agentkeeper", "version", "--client"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("agentkeeper ")


def test_what_fits_no_more_is_told():
    with pytest.raises(AttributeError):
        _put(leases, "acquire_as_it_was", None)


def test_an_unknown_one_is_refused():
    command = [sys.executable, "-m", "chaos.plants", "weed", "-m", "agentkeeper"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert QUICKEST in ended.stderr


def test_only_checks_catch():
    plant = PLANTS[QUICKEST]
    caught = Proof(plant, facts(["two holders"]))
    failed = Proof(plant, facts([], ["3 calls failed, and none may"]))
    held = Proof(plant, facts([]))
    not_run = Proof(plant, None, "there is no network here")
    assert [proof.caught for proof in (caught, failed, held, not_run)] == [True, *3 * [False]]
    assert [proof.row[-1] for proof in (caught, failed, held, not_run)] == [
        "linearizability of leases, tasks; digests",
        "**not caught**: 3 calls failed, and none may",
        "**not caught**: all held",
        "**not run**: there is no network here",
    ]
    lines = table([caught, not_run]).splitlines()
    assert len(lines) == 4
    assert {line.count(" | ") for line in lines} == {len(HEADINGS) - 1}


def test_the_quickest_is_caught(tmp_path):
    proof = prove(PLANTS[QUICKEST], tmp_path, Console(quiet=True))
    assert proof.caught, proof.row
