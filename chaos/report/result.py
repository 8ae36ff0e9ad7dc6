"""The result of a run in a few lines of JSON, and those of many runs put together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from chaos.report.facts import FaultRecord, RunFacts, recoveries
from chaos.report.words import span

FILE = "result.json"


def result_of(facts: RunFacts) -> dict[str, Any]:
    """What is worth keeping of a run."""
    return {
        "scenario": facts.scenario,
        "backend": facts.backend,
        "replicas": len(facts.replicas),
        "seed": facts.seed,
        "command": facts.command,
        "version": facts.version,
        "commit": facts.commit,
        "conclusion": facts.conclusion.value,
        "reasons": facts.reasons,
        "duration_s": facts.duration_s,
        "faulty_s": _faulty_s(facts.faults, facts.end_ns),
        "operations": facts.operations.total,
        "failed": facts.operations.failed,
        "checked": {verdict.name: verdict.checked for verdict in facts.verdicts},
        "undecided": sum(verdict.undecided for verdict in facts.verdicts),
        "faults": [
            {"kind": fault.kind, "first_ack_ms": fault.first_ack_ms, "outage_ms": fault.outage_ms}
            for fault in facts.faults
        ],
    }


def write(facts: RunFacts, folder: Path) -> None:
    """Write the result of a run into its folder."""
    (folder / FILE).write_text(json.dumps(result_of(facts), indent=1) + "\n")


def read(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Read the results below folders, by scenario and number of replicas."""
    found = [json.loads(path.read_text()) for folder in folders for path in folder.rglob(FILE)]
    return sorted(found, key=lambda result: (result["scenario"], result["replicas"]))


def tables(results: Sequence[dict[str, Any]]) -> str:
    """All runs, their sum, and the recovery of each kind of fault, as tables of Markdown."""
    lines = ["| scenario | replicas | seed | faults | operations | failed calls | result |"]
    lines += ["|---|---:|---:|---:|---:|---:|---|"]
    for r in results:
        row = (r["scenario"], r["replicas"], r["seed"], len(r["faults"]), f"{r['operations']:,}")
        lines.append("| " + " | ".join(map(str, (*row, r["failed"], r["conclusion"]))) + " |")
    faults = sum(len(r["faults"]) for r in results)
    operations = sum(r["operations"] for r in results)
    minutes = sum(r["duration_s"] for r in results) / 60
    lines += ["", f"{len(results)} runs, {minutes:.0f} minutes, {faults} faults,"]
    lines += [f"{operations:,} operations, {sum(r['undecided'] for r in results)} undecided.", ""]
    lines += ["| fault | times | first write: median | worst | longest pause: median | worst |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for kind in recoveries([FaultRecord(**_told(f)) for r in results for f in r["faults"]]):
        pairs = (kind.first_ack, kind.outage)
        figures = [span(value) for pair in pairs for value in (pair.median, pair.worst)]
        lines.append("| " + " | ".join((kind.kind, str(kind.count), *figures)) + " |")
    return "\n".join(lines)


def _told(fault: dict[str, Any]) -> dict[str, Any]:
    """A fault as it was written, by its kind alone."""
    times = {key: fault[key] for key in ("first_ack_ms", "outage_ms")}
    return {"name": fault["kind"], "injected_ns": 0, **times}


def _faulty_s(faults: Sequence[FaultRecord], end_ns: int) -> float:
    """For how long some fault was under way, or not yet recovered from."""
    total_ns, until_ns = 0, 0
    for fault in sorted(faults, key=lambda fault: fault.injected_ns):
        fault_end_ns = fault.recovered_ns or end_ns
        total_ns += max(0, fault_end_ns - max(until_ns, fault.injected_ns))
        until_ns = max(until_ns, fault_end_ns)
    return total_ns / 1e9
