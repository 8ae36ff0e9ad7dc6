"""Runs the simulation: `python -m tests.simulation --seed 7`, or `--seeds 0:500 --jobs 2`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.simulation.plants import PLANTS
from tests.simulation.run import FAULTS, OPERATIONS, Report, run


def main() -> int:
    options = _options()
    settings = {
        "replicas": options.replicas,
        "operations": options.operations,
        "faults": options.faults,
    }
    if options.seeds is None:
        return _tell(run(options.seed, options.plant, **settings))
    first, _, end = options.seeds.partition(":")
    totals = _many(range(int(first), int(end)), options.jobs, options.plant, settings)
    print(json.dumps(totals, indent=2))
    if options.json is not None:
        with options.json.open("a") as file:
            file.write(json.dumps(totals) + "\n")
    return 1 if totals["failing"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="one run, told in full")
    parser.add_argument("--seeds", metavar="FROM:TO", help="many runs, added up")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the runs")
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="of each run, at least")
    parser.add_argument("--faults", type=int, default=FAULTS, help="of each run")
    parser.add_argument("--replicas", type=int, choices=(3, 5), help="instead of 3 or 5 by seed")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with a fault in the product")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the totals to it")
    return parser.parse_args()


def _tell(report: Report) -> int:
    print(f"seed {report.seed}, {report.replicas} replicas, digest {report.digest}")
    print(f"{report.simulated_s:.1f} s simulated in {report.cpu_s:.2f} s of CPU")
    for title, counts in (
        ("faults", report.faults),
        ("seen", report.seen),
        ("counted", report.counted),
    ):
        print(f"{title}:")
        for what, count in sorted(counts.items()):
            print(f"  {count:6} {what}")
    for violation in report.violations:
        print(f"VIOLATION {violation}")
    if report.violations:
        print(f"again: {report.command}")
    return 1 if report.violations else 0


def _many(seeds: range, jobs: int, plant: str | None, settings: dict[str, Any]) -> dict[str, Any]:
    totals: dict[str, Counter[str]] = {"faults": Counter(), "seen": Counter(), "counted": Counter()}
    failing: list[dict[str, Any]] = []
    runs = 0
    simulated_s = cpu_s = 0.0
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(run, seed, plant, **settings) for seed in seeds]):
            report = future.result()
            runs += 1
            simulated_s += report.simulated_s
            cpu_s += report.cpu_s
            for name, counts in totals.items():
                counts.update(getattr(report, name))
            if report.violations:
                failing.append({"command": report.command, "violations": report.violations})
                print(report.command, report.violations[0], sep="\n  ", file=sys.stderr, flush=True)
            if runs % 100 == 0:
                print(f"{runs} of {len(seeds)} runs", file=sys.stderr, flush=True)
    return {
        "runs": runs,
        "plant": plant,
        "simulated_hours": round(simulated_s / 3600, 3),
        "cpu_s": round(cpu_s, 1),
        "faults_total": totals["faults"].total(),
        **{name: dict(sorted(counts.items())) for name, counts in totals.items()},
        "failing": failing,
    }


if __name__ == "__main__":
    sys.exit(main())
