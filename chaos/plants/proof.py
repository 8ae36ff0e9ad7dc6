"""Runs wrong builds, and tells which checks have caught them."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from chaos.backends import Unsupported
from chaos.plants import FOLDER, Plant
from chaos.report.facts import RunFacts
from chaos.run import Plan, Run
from chaos.scenario import load

SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Proof:
    """What a wrong build's run has shown."""

    plant: Plant
    facts: RunFacts | None
    """None where there was no run."""
    why: str = ""
    """Why there was none."""

    @property
    def checks(self) -> list[str]:
        """The checks that have found it."""
        verdicts = self.facts.verdicts if self.facts else ()
        return [verdict.name for verdict in verdicts if verdict.violations]

    @property
    def caught(self) -> bool:
        """Whether a check has; that calls fail or replicas stay away is not enough."""
        return bool(self.checks)

    @property
    def row(self) -> tuple[str, ...]:
        """Its row of the table, by `HEADINGS`."""
        plant, facts = self.plant, self.facts
        if facts is None:
            return plant.name, plant.wrong, plant.scenario, "", "", "", f"**not run**: {self.why}"
        by = (
            "; ".join(_grouped(self.checks))
            or f"**not caught**: {'; '.join(facts.reasons) or 'all held'}"
        )
        return (
            plant.name,
            plant.wrong,
            f"{plant.scenario}, {facts.backend}, seed {plant.seed}",
            f"{plant.minutes:g}",
            str(len(facts.faults)),
            f"{facts.operations.total:,}",
            by,
        )


def _grouped(checks: list[str]) -> list[str]:
    """The checks, with those of one kind told at once."""
    kind = "linearizability of "
    of = [check.removeprefix(kind) for check in checks if check.startswith(kind)]
    others = [check for check in checks if not check.startswith(kind)]
    return [f"{kind}{', '.join(of)}", *others] if of else others


HEADINGS = ("plant", "what is wrong", "run", "minutes", "faults", "operations", "caught by")


def plan_of(plant: Plant, folder: Path) -> Plan:
    """The run that catches it. Its folder need not exist."""
    own = FOLDER / f"{plant.scenario}.yaml"
    scenario = load(str(own) if own.exists() else plant.scenario)
    return Plan(
        scenario=dataclasses.replace(
            scenario,
            about=f"{scenario.about} Planted: {plant.wrong}.",
            settings=(*scenario.settings, *plant.settings),
        ),
        backend=scenario.backend,
        replicas=3,
        minutes=plant.minutes,
        seed=plant.seed,
        folder=folder.resolve(),
        python=str(interpreter(plant, folder.resolve())) if plant.patched else "",
        plant=plant.name,
    )


def interpreter(plant: Plant, folder: Path) -> Path:
    """Write into `folder` what stands for Python, and makes whatever it runs wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python"
    command = shlex.join([sys.executable, "-m", "chaos.plants", plant.name])
    path.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(SOURCE))}\nexec {command} "$@"\n'
    )
    path.chmod(0o755)
    return path


def prove(plant: Plant, folder: Path, console: Console) -> Proof:
    """Run a wrong build; its report goes into `folder`."""
    console.rule(f"planted: {plant.name}")
    try:
        return Proof(plant, Run(plan_of(plant, folder), console).do())
    except (Unsupported, OSError, RuntimeError) as error:  # the next one may be caught
        return Proof(plant, None, str(error).splitlines()[0])


def table(proofs: Iterable[Proof]) -> str:
    """What was found, as a table of Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(proof.row for proof in proofs)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
