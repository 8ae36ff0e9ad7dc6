"""Runs the simulation: `python -m tests.simulation --seed 7`, or `--seeds 0:500 --jobs 2`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.simulation.batch import many, summed
from tests.simulation.planting import table
from tests.simulation.plants import PLANTS
from tests.simulation.run import FAULTS, OPERATIONS, Report, run


def main() -> int:
    options = _options()
    settings = {
        "replicas": options.replicas,
        "operations": options.operations,
        "faults": options.faults,
    }
    if options.sum is not None:
        print(json.dumps(summed(options.sum), indent=2))
        return 0
    if options.plants is not None:
        plants = options.plants or list(PLANTS)
        seeds = options.seeds or list(range(12))
        lines, missed = table(plants, seeds, options.jobs, settings)
        print(f"\n{lines}\n\nnot found: {', '.join(missed) or 'none'}")
        return 1 if missed else 0
    if options.seeds is None:
        return _tell(run(options.seed, options.plant, **settings))
    totals = many(options.seeds, options.jobs, options.plant, settings, options.json)
    print(json.dumps(totals, indent=2))
    return 1 if totals["failing"] else 0


def _seeds(text: str) -> list[int]:
    """`3:6,9` is 3, 4, 5 and 9."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, end = part.partition(":")
        seeds += range(int(first), int(end or int(first) + 1))
    return seeds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="one run, told in full")
    parser.add_argument("--seeds", type=_seeds, metavar="FROM:TO", help="many runs, added up")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the runs")
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="of each run, at least")
    parser.add_argument("--faults", type=int, default=FAULTS, help="of each run")
    parser.add_argument("--replicas", type=int, choices=(3, 5), help="instead of 3 or 5 by seed")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with a fault in the product")
    parser.add_argument(
        "--plants", nargs="*", choices=sorted(PLANTS), help="plant these faults, or all, and tell"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append each run to it")
    parser.add_argument("--sum", type=Path, metavar="FILE", help="add up what such a file has")
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


if __name__ == "__main__":
    sys.exit(main())
