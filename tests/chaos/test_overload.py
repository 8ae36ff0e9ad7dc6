"""What is told of overloads: by hand-made histories and reports of other clients."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from histories import Script, ns

from chaos import overload
from chaos.faults.overload import LOG, Overload
from chaos.report.facts import FaultRecord, ReplicaSample, Sample

MIB = 1024 * 1024
LASTS_S = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def loaded(
    folder: Path,
    at_s: float,
    count: int,
    kind: str = "flood",
    longest_ms: float = 100,
    **codes: int,
) -> FaultRecord:
    """An overload by one process, which has left its report."""
    report = {"begun_ns": ns(at_s), "ended_ns": ns(at_s + LASTS_S)}
    report |= {"codes": codes, "longest_ms": longest_ms}
    name = LOG.format(began_ns=ns(at_s), number=0, kind=kind, count=count)
    (folder / name).write_text("a warning\n" + json.dumps(report) + "\n")
    return FaultRecord(
        overload.NAME, ns(at_s), what=f"{count} {kind}", healed_ns=ns(at_s + LASTS_S)
    )


def calls(script: Script, from_s: int, until_s: int, took_s: float) -> None:
    for at_s in range(from_s, until_s):
        script.call(at_s, at_s + took_s, "set", "policy")


def memory(at_s: float, size: int, *, ready: bool = True) -> Sample:
    sample = ReplicaSample("LEADER", 1, 1, ready=ready, memory_bytes=size)
    return Sample(ns(at_s), "a", {"a": sample})


def told(found: list[overload.Effect]) -> list[str]:
    return [
        violation.split(": ")[0] for one in overload.check(found) for violation in one.violations
    ]


def test_it_is_measured_by_a_tenth_of_the_same(folder: Path) -> None:
    script = Script("policies")
    records = [
        loaded(folder, 100, 300, OK=10),
        loaded(folder, 200, 3000, OK=10, RESOURCE_EXHAUSTED=5),
        loaded(folder, 300, 500, OK=10),
    ]
    calls(script, 0, 400, 0.01)
    for start_s, took_s in ((100, 0.05), (200, 0.14), (300, 5.0)):
        calls(script, start_s, start_s + LASTS_S, took_s)
    samples = [memory(at_s, 100 * MIB) for at_s in range(400)]
    tenth, full, alone = overload.effects(records, script.history, samples, folder)
    assert (tenth.tenth_p99_ms, alone.tenth_p99_ms) == (None, None)
    assert full.tenth_p99_ms == pytest.approx(50)
    assert full.slower == pytest.approx(2.8)
    assert full.quiet_p99_ms == pytest.approx(10)
    assert full.codes == {"OK": 10, "RESOURCE_EXHAUSTED": 5}
    assert (full.back_ms, full.ready_ms) == (1000, 0)
    assert told([tenth, full, alone]) == []


def test_what_an_overload_must_not_do_is_told(folder: Path) -> None:
    script = Script("policies")
    records = [
        loaded(folder, 100, 30),
        loaded(folder, 200, 300, OK=10, DEADLINE_EXCEEDED=1, longest_ms=10_000),
    ]
    calls(script, 0, 190, 0.01)
    calls(script, 200, 230, 0.04)
    samples = [memory(at_s, 100 * MIB, ready=not 210 <= at_s < 220) for at_s in range(400)]
    samples[205] = memory(205, 613 * MIB)
    found = overload.effects(records, script.history, samples, folder)
    assert told(found) == [
        "a call was not answered in its time",
        "nothing was refused",
        "p99 of others rose by more than 3",
        "memory rose by more than 512 MiB",
        "not over after 5 s",
    ]
    assert found[1].memory_bytes == {"a": (100 * MIB, 613 * MIB, 100 * MIB)}
    assert (found[1].back_ms, found[1].ready_ms) == (None, 10_000)


def test_without_an_overload_nothing_is_checked(folder: Path) -> None:
    assert overload.check(overload.effects([], Script("policies").history, [], folder)) == []


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="sessions are not grouped")
def test_its_processes_are_nice_to_other_sessions_too(folder: Path) -> None:
    world = SimpleNamespace(
        backend=SimpleNamespace(endpoints=["127.0.0.1:1"]), fleet=SimpleNamespace(folder=folder)
    )
    one = Overload(calls=1, processes=1)
    one.inject(world)  # type: ignore[arg-type]
    try:
        (child,) = one._children
        assert Path(f"/proc/{child.pid}/autogroup").read_text().endswith("nice 19\n")
    finally:
        one.heal(world)  # type: ignore[arg-type]
