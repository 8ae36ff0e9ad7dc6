"""A run on the terminal: while it goes on, and what it has shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.clients.counts import Counts
from chaos.report.facts import Conclusion, RunFacts, Sample, recoveries
from chaos.report.words import clock, span

PERIOD_S = 1.0
LINE_PERIOD_S = 10.0
SHOWN_VIOLATIONS = 3
COLOURS = {Conclusion.HELD: "green", Conclusion.VIOLATED: "red", Conclusion.VOID: "yellow"}
STATES = {"leader": "bold green", "follower": "green", "unready": "yellow", "down": "red"}


class Progress:
    """Shows how a run goes on: a picture on a terminal, elsewhere a line now and then."""

    def __init__(
        self,
        console: Console,
        total_s: float,
        counts: Callable[[], Counts],
        sample: Callable[[], Sample | None],
    ) -> None:
        """`counts` returns the calls that have ended so far, `sample` the newest one."""
        self._console = console
        self._total_s = total_s
        self._count = counts
        self._sample = sample
        self._doing = "warming up"
        self._began_s = self._counted_s = time.monotonic()
        self._counts = Counts()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="chaos-progress")

    def say(self, words: str) -> None:
        """Tell what is done now. Any thread may."""
        self._doing = words
        if not self._console.is_terminal:
            self._print(Text(f"{self._elapsed()}  {words}"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        if not self._console.is_terminal:
            while not self._end.wait(LINE_PERIOD_S):
                self._print(self._line())
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._end.wait(PERIOD_S):
                live.update(Group(self._line(), Text(f"  now: {self._doing}")), refresh=True)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)

    def _line(self) -> Text:
        line = Text(f"{self._elapsed()}/{clock(self._total_s)}", style="bold")
        now_s, counts = time.monotonic(), self._count()
        passed_s = max(now_s - self._counted_s, 1e-3)
        for outcome, count in (counts - self._counts).by_outcome.items():
            if count:
                line.append(f"  {count / passed_s:,.0f} {outcome}/s", style="")
        self._counts, self._counted_s = counts, now_s
        sample = self._sample()
        for name, replica in sample.replicas.items() if sample else ():
            line.append(f"  {name} {replica.state}", style=STATES[replica.state])
        return line

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._began_s)


def print_summary(facts: RunFacts, console: Console, page: Path) -> None:
    """Print what the run has shown; `page` is where the whole report is."""
    for title, table in (
        ("Checks", _checks(facts)),
        ("Recovery", _recovery(facts)),
        ("Operations", _operations(facts)),
    ):
        console.rule(Text(title, style="bold"), align="left")
        console.print(table)
    outages = facts.operations.outages
    floor = span(facts.operations.outage_floor_ms)
    console.print(
        f"without an acknowledged write for more than {floor}: {len(outages)} times, "
        f"longest {span(max((outage.ms for outage in outages), default=None))}; "
        f"failed calls: {facts.operations.failed:,}",
        markup=False,
        highlight=False,
    )
    for reason in facts.reasons:
        console.print(f"  {reason}", style="red", markup=False, highlight=False)
    colour = COLOURS[facts.conclusion]
    why = f" ({len(facts.reasons)} reasons)" if len(facts.reasons) > 1 else ""
    last = Text.assemble((facts.conclusion.value, f"bold {colour}"), f"{why}  {page}")
    console.print(last, soft_wrap=True)


def _table(*columns: str) -> Table:
    """The first column is of words, the others of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


def _checks(facts: RunFacts) -> Table:
    table = _table("check", "checked", "violations", "undecided")
    for verdict in facts.verdicts:
        broken = len(verdict.violations)
        mark = Text("✗ ", style="bold red") if broken else Text("✓ ", style="bold green")
        name = mark.append(verdict.name, style="not bold default")
        for violation in verdict.violations[:SHOWN_VIOLATIONS]:
            name.append(f"\n  {violation}", style="red")
        table.add_row(name, f"{verdict.checked:,}", str(broken), f"{verdict.undecided:,}")
    return table


def _recovery(facts: RunFacts) -> Table:
    table = _table("fault", "times", "first write", "worst", "longest pause", "worst", "failed")
    for kind in recoveries(facts.faults):
        pairs = (kind.first_ack, kind.outage)
        figures = [span(value) for pair in pairs for value in (pair.median, pair.worst)]
        table.add_row(Text(kind.kind), str(kind.count), *figures, f"{kind.failed_calls:,}")
    return table


def _operations(facts: RunFacts) -> Table:
    outcomes = [name for name in facts.operations.by_outcome if facts.operations.count(name)]
    table = _table("workload", *outcomes)
    for workload, counts in facts.operations.totals.items():
        table.add_row(Text(workload), *(f"{counts[outcome]:,}" for outcome in outcomes))
    return table
