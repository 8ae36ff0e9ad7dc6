"""Plants each fault, and tells in how many runs it is found, and what finds it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tests.simulation.batch import Settings, in_processes
from tests.simulation.plants import PLANTS

FOUND_BY = (
    ("one leader in a term", "both lead term"),
    ("what is delivered is stored", "but stored by|though its disk failed"),
    ("all deliver the same entries", "is another than was delivered|nobody has applied"),
    ("deliveries go forward", "is delivered after|goes back from|commit index fell"),
    ("all states are the same", "its state at|its snapshot at|states differ"),
    ("cluster time", "cluster time|was proposed by nobody"),
    ("effects happen once", "took effect twice|made by two requests"),
    ("refusals are definite", "after it was refused|was refused, but|was rejected"),
    ("stale tokens lose", "a stale .* won"),
    ("tokens rise", "is given out after"),
    ("the dead hold nothing", "who is dead"),
    ("one holder", "is granted to|holds it$|claimed while|takes itself|was given token"),
    ("nothing ends early", "s early:|but must be alive"),
    ("events", r"^event \d+ follows|a watcher got|told in two ways|events after .* are gone"),
    ("terms of groups rise", "^group "),
    ("answers come after their cause", "a read saw|took effect at .* before"),
    ("what was acknowledged is there", "was acknowledged, but|is gone|agents are gone"),
    ("replicas do not stop", "stopped:|refuses to start"),
    ("everything ends once, in time", "ended twice|has not ended in time"),
    ("internal errors", "INTERNAL|Task exception|Exception in callback"),
    ("the cluster becomes whole", "not whole|no rest|operations were possible|nobody was elected"),
)


def found_by(violation: str) -> str:
    """The check that a violation's text comes from."""
    what = violation.partition(" s: ")[2] or violation
    return next((name for name, pattern in FOUND_BY if re.search(pattern, what)), what[:60])


def table(
    plants: Sequence[str], seeds: Sequence[int], jobs: int, settings: Settings
) -> tuple[str, list[str]]:
    """Run each plant with each seed; a Markdown table, and the plants that were not found."""
    lines = ["| Planted fault | Found in | By |", "| --- | --- | --- |"]
    missed = []
    for plant in plants:
        work = [(seed, plant, settings) for seed in seeds]
        checks = Counter(
            found_by(report.violations[0])
            for report in in_processes(work, jobs)
            if report.violations
        )
        by = ", ".join(name for name, _ in checks.most_common(3))
        what = (PLANTS[plant].__doc__ or "").rstrip(".")
        lines.append(f"| {plant}: {what} | {checks.total()} of {len(seeds)} | {by} |")
        print(lines[-1], flush=True)
        if not checks:
            missed.append(plant)
    return "\n".join(lines), missed
