"""What a check found, and how operations are told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from chaos.history import FOREVER_NS, History, Operation, Outcome

TOLD = 20
"""Violations told by one check; the others are counted."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check. It holds if there is no violation."""

    name: str
    checked: int
    """How many operations, events or the like it looked at."""
    violations: list[str]
    undecided: int = 0
    """Of those it looked at, how many it could not decide."""
    about: str = ""
    """What it proves, in one sentence."""

    @property
    def holds(self) -> bool:
        """Whether nothing was found that breaks the promise."""
        return not self.violations


@dataclass
class Findings:
    """A verdict in the making."""

    history: History
    checked: int = 0
    undecided: int = 0
    _told: list[str] = field(default_factory=list)
    _more: int = 0

    def add(self, what: str, *operations: Operation) -> None:
        """A violation, with the operations that it is about."""
        if len(self._told) == TOLD:
            self._more += 1
            return
        origin_ns = self.history.operations[0].start_ns if self.history.operations else 0
        self._told.append("; ".join([what, *(told(o, origin_ns) for o in operations)]))

    def verdict(self, name: str, about: str) -> Verdict:
        """All that was found."""
        more = [f"and {self._more} more"] if self._more else []
        return Verdict(name, self.checked, self._told + more, self.undecided, about)


def told(operation: Operation, origin_ns: int) -> str:
    """One operation in a line; its times in seconds since the run's start."""
    args = ", ".join(f"{k}={v}" for k, v in operation.args.items())
    match operation.outcome:
        case Outcome.OK:
            answer = json.dumps(operation.value, separators=(",", ":"))
        case Outcome.UNKNOWN:
            answer = "unknown"
        case _:
            answer = operation.error or operation.outcome.value
    who = f"{operation.client}/{operation.actor}"
    end = "never" if operation.end_ns == FOREVER_NS else seconds(operation.end_ns, origin_ns)
    when = f"{seconds(operation.start_ns, origin_ns)}..{end}"
    return f"[{when}] {who} {operation.call}({operation.key!r}, {args}) -> {answer}"


def seconds(at_ns: int, origin_ns: int) -> str:
    """A time since the run's start."""
    return f"{(at_ns - origin_ns) / 1e9:.6f}s"
