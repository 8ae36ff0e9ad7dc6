"""What clients did and saw: every call with its start, end and outcome, every event of a watch.

Each client process appends to a file of its own, a line of JSON at the start of a call and one at
its end, so that a call which a killed client never saw answered is still known to have begun. Times
are of CLOCK_MONOTONIC, which all processes of a machine share, in ns.
"""

from __future__ import annotations

import enum
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentkeeper import errors

FOREVER_NS = 2**63 - 1
"""The end of calls that were never answered."""


class Outcome(enum.StrEnum):
    """What a client may conclude of a call."""

    OK = "ok"
    REFUSED = "refused"
    """Definite: it had no effect. The refusal, named in `error`, tells of the state."""
    UNAVAILABLE = "unavailable"
    """Definite: it had and will have no effect; it tells nothing of the state."""
    UNKNOWN = "unknown"
    """It may have had an effect, or still may, or may never."""
    BROKEN = "broken"
    """An error that the SDK never promised: a fault by itself."""


@dataclass(slots=True)
class Operation:
    """One call of the SDK."""

    client: str
    """The process it came from; another one after a restart of that."""
    actor: str
    """Who in that process: one does one call at a time."""
    workload: str
    call: str
    key: str
    """What it is about: a lease's task id, a group, an agent, a task's type, a subject."""
    args: dict[str, Any]
    start_ns: int
    end_ns: int = FOREVER_NS
    outcome: Outcome = Outcome.UNKNOWN
    value: Any = None
    """What the answer said, as plain JSON."""
    error: str = ""
    """The name of the error's class, e.g. "StaleToken"."""
    details: str = ""


@dataclass(slots=True)
class Seen:
    """One event that a watcher was given, or a gap: then `topic` is "gap"."""

    client: str
    watcher: str
    at_ns: int
    sequence: int
    topic: str
    payload: dict[str, Any]


@dataclass(slots=True)
class Write:
    """One write to the fenced store, as the store decided."""

    at_ns: int
    client: str
    key: str
    token: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class ClientFault:
    """A client process was killed, or paused from one time until another."""

    client: str
    kind: str
    """"killed" or "paused"."""
    start_ns: int
    end_ns: int = FOREVER_NS


@dataclass
class Final:
    """The cluster after everything was healed and all clients had ended.

    Read through the SDK, linearizably; rows as plain JSON, as the workloads record them.
    """

    digests: dict[str, str]
    """By replica; all at one index."""
    applied_index: int
    leases: list[dict[str, Any]] = field(default_factory=list)
    elections: list[dict[str, Any]] = field(default_factory=list)
    agents: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    last_sequence: int = 0
    at_ns: int = 0


@dataclass
class History:
    """All of a run that checkers look at."""

    operations: list[Operation]
    """By start."""
    seen: list[Seen] = field(default_factory=list)
    """In the order in which each watcher was given them."""
    writes: list[Write] = field(default_factory=list)
    client_faults: list[ClientFault] = field(default_factory=list)
    final: Final | None = None

    def of(self, workload: str) -> list[Operation]:
        """The calls of one workload."""
        return [operation for operation in self.operations if operation.workload == workload]


class Recorder:
    """Appends to one client's file. Not to be shared by threads.

    Every line is handed to the operating system at once: it outlives the process, not the machine.
    """

    def __init__(self, path: Path, client: str) -> None:
        self.client = client
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._numbers = itertools.count()

    def call(self, workload: str, actor: str, call: str, key: str, **args: Any) -> Recorded:
        """Begin a call: make it within the context manager that this returns.

        `recorded.value = ...` says what the answer was. Errors of the SDK are recorded and
        swallowed: `recorded.outcome` tells.
        """
        number = next(self._numbers)
        said = {"workload": workload, "actor": actor, "call": call, "key": key, "args": args}
        return Recorded(self, number, said)

    def saw(self, watcher: str, sequence: int, topic: str, payload: dict[str, Any]) -> None:
        """Record an event that a watcher was given."""
        said = {"watcher": watcher, "sequence": sequence, "topic": topic, "payload": payload}
        self.write({"saw": said, "at": time.monotonic_ns()})

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Recorded:
    """A call under way."""

    def __init__(self, recorder: Recorder, number: int, said: dict[str, Any]) -> None:
        self.outcome = Outcome.UNKNOWN
        self.value: Any = None
        self.error: BaseException | None = None
        self._recorder = recorder
        self._number = number
        self._said = said

    @property
    def ok(self) -> bool:
        """Whether it was answered, and not by a refusal."""
        return self.outcome is Outcome.OK

    def __enter__(self) -> Self:
        self._recorder.write({"start": time.monotonic_ns(), "n": self._number, **self._said})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False  # cancelled, as when the process is told to end: it stays open
        self.outcome, self.error = outcome_of(error), error
        line: dict[str, Any] = {"end": time.monotonic_ns(), "n": self._number}
        line["outcome"] = self.outcome
        if self.value is not None:
            line["value"] = self.value
        if error is not None:
            line |= {"error": type(error).__name__, "details": str(error)[:300]}
        self._recorder.write(line)
        return True


def outcome_of(error: BaseException | None) -> Outcome:
    """What a client may conclude of a call that raised `error`, or None."""
    match error:
        case None:
            return Outcome.OK
        case errors.Lost():
            return Outcome.UNKNOWN  # by the client's own clock; the cluster may have done it
        case errors.Overloaded(reason="overloaded"):
            return Outcome.UNAVAILABLE  # by replicas with too much to do, whatever the state is
        case errors.Refused():
            return Outcome.REFUSED
        case errors.Unavailable():
            return Outcome.UNAVAILABLE
        case errors.OutcomeUnknown() | errors.ClientClosed():
            return Outcome.UNKNOWN
        case _:
            return Outcome.BROKEN


def read(folder: Path) -> History:
    """Read the files of all clients of a run, `<client>.jsonl`. A last line may be torn."""
    operations: list[Operation] = []
    seen: list[Seen] = []
    for path in sorted(folder.glob("*.jsonl")):
        of_client = _Reader(path.stem)
        of_client.read(_lines(path))
        operations += of_client.operations
        seen += of_client.seen
    operations.sort(key=lambda operation: operation.start_ns)
    return History(operations, seen)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


class _Reader:
    def __init__(self, client: str) -> None:
        self.operations: list[Operation] = []
        self.seen: list[Seen] = []
        self._client = client

    def read(self, lines: Iterable[dict[str, Any]]) -> None:
        open_calls: dict[int, Operation] = {}
        for line in lines:
            if "start" in line:
                number, start_ns = line.pop("n"), line.pop("start")
                operation = Operation(client=self._client, start_ns=start_ns, **line)
                open_calls[number] = operation
                self.operations.append(operation)
            elif "end" in line:
                _end(open_calls.pop(line["n"]), line)
            elif "saw" in line:
                self.seen.append(Seen(client=self._client, at_ns=line["at"], **line["saw"]))


def _end(operation: Operation, line: dict[str, Any]) -> None:
    operation.outcome = Outcome(line["outcome"])
    # One whose outcome is unknown may take effect at any time later.
    if operation.outcome is not Outcome.UNKNOWN:
        operation.end_ns = line["end"]
    operation.value = line.get("value")
    operation.error = line.get("error", "")
    operation.details = line.get("details", "")
