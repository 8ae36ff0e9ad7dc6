"""Many runs on several processes: each is noted in a file as it ends, so none is lost."""

from __future__ import annotations

import json
import signal
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tests.simulation.run import Report, run

AT_ONCE = 200
"""Runs after which processes are replaced by new ones."""
LONGEST_CPU_S = 180.0
"""A run that works for longer is broken off, and counts as failing."""

Settings = dict[str, Any]
Job = tuple[int, str | None, Settings]


def many(
    seeds: Sequence[int], jobs: int, plant: str | None, settings: Settings, file: Path | None
) -> dict[str, Any]:
    """Run all seeds; returns the totals. `file` gets a line for each run."""
    reports = []
    for report in in_processes([(seed, plant, settings) for seed in seeds], jobs):
        reports.append(noted(report))
        if file is not None:
            with file.open("a") as lines:
                lines.write(json.dumps(reports[-1]) + "\n")
        if report.violations:
            print(report.command, report.violations[0], sep="\n  ", flush=True)
        if len(reports) % 50 == 0 or len(reports) == len(seeds):
            failing = sum(bool(report["violations"]) for report in reports)
            print(f"{len(reports)} of {len(seeds)} runs, {failing} failing", flush=True)
    return totals(reports)


def in_processes(work: Sequence[Job], jobs: int) -> Iterator[Report]:
    """Do all runs; one that breaks its process is among the reports too."""
    for at in range(0, len(work), AT_ONCE):
        part = list(work[at : at + AT_ONCE])
        left = dict(enumerate(part))
        try:
            with ProcessPoolExecutor(jobs) as pool:
                running = {pool.submit(_guarded, *job): at for at, job in left.items()}
                for future in as_completed(running):
                    report = future.result()
                    del left[running[future]]
                    yield report
        except BrokenProcessPool:
            # Nobody knows which run it was: each of the others has a process of its own.
            for job in left.values():
                yield _alone(job)


def _alone(job: Job) -> Report:
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(_guarded, *job).result()
        except BrokenProcessPool:
            return _failed(job, "the process that ran the simulation died")


def _guarded(seed: int, plant: str | None, settings: Settings) -> Report:
    signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_CPU_S, 1.0)
    try:
        return run(seed, plant, **settings)
    except Exception:
        return _failed((seed, plant, settings), f"the simulation failed: {traceback.format_exc()}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"the run takes more than {LONGEST_CPU_S:.0f} s of CPU")


def _failed(job: Job, what: str) -> Report:
    seed, plant, settings = job
    report = Report(seed, settings.get("replicas") or 3, plant)
    report.operations, report.planned = settings["operations"], settings["faults"]
    report.violations = [what]
    return report


def noted(report: Report) -> dict[str, Any]:
    """A report as the file has it."""
    return {**vars(report), "command": report.command}


def summed(file: Path) -> dict[str, Any]:
    """The totals of all runs that a file has."""
    with file.open() as lines:
        return totals([json.loads(line) for line in lines if line.endswith("\n")])


def totals(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all runs were, added up."""
    counts: dict[str, Counter[str]] = {"faults": Counter(), "seen": Counter(), "counted": Counter()}
    for report in reports:
        for name, counter in counts.items():
            counter.update(report[name])

    def of_all(name: str) -> list[Any]:
        return [report[name] for report in reports]

    operations = [report["counted"].get("operations", 0) for report in reports]
    faults = [sum(report["faults"].values()) for report in reports]
    return {
        "runs": len(reports),
        "seeds": len(set(of_all("seed"))),
        "replicas": {str(n): count for n, count in sorted(Counter(of_all("replicas")).items())},
        "operations_least": min(operations, default=0),
        "faults_least": min(faults, default=0),
        "simulated_hours": round(sum(of_all("simulated_s")) / 3600, 3),
        "cpu_s": round(sum(of_all("cpu_s")), 1),
        "operations_total": sum(operations),
        "faults_total": sum(faults),
        **{name: dict(sorted(counter.items())) for name, counter in counts.items()},
        "failing": [
            {"command": report["command"], "violations": report["violations"]}
            for report in reports
            if report["violations"]
        ],
    }
