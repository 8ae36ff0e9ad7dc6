"""The client processes of a run: started, killed, paused, replaced and ended by the runner."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Self

from agentkeeper.client.child import Child
from chaos.clients.counts import Counts, read_counts
from chaos.clients.spec import Spec
from chaos.history import ClientFault
from chaos.workloads import actors_of

ROOT = str(Path(__file__).resolve().parents[2])
"""Where the package is, which need not be installed."""
END_GRACE_S = 20.0
"""What a process may take to end beyond what its actors may."""


class Fleet:
    """Client processes that work on a cluster. A context manager: kills what runs still on exit.

    They are named "c0", "c1", ...; what takes the place of "c1" is another client, "c1-1". From any
    thread.
    """

    def __init__(
        self,
        folder: Path,
        endpoints: Sequence[str],
        store: str,
        workloads: Mapping[str, int],
        *,
        clients: int = 3,
        seed: int = 1,
        timeout_s: float = 30.0,
        pace_s: float = 0.05,
        grace_s: float = 20.0,
    ) -> None:
        """Nothing is started yet. `store` is the path of a `Store`.

        `folder` is where histories (`*.jsonl`), counters and logs go. `workloads` says how many
        actors each process has of each workload, or of "mix"; each rests for `pace_s` between two
        calls, on average. Told to end, processes go on for at most `grace_s` with what they have
        begun. Raises ValueError for workloads that there are not.
        """
        self.folder = folder
        self.faults: list[ClientFault] = []
        """What was done to the processes."""
        self._lock = threading.Lock()
        self._children: dict[str, Child] = {}
        self._specs: dict[str, Spec] = {}
        self._gone: set[str] = set()
        """Those that were killed, or have been seen to end."""
        self._replaced: set[str] = set()
        self._paused: dict[str, int] = {}
        self._died: dict[str, str] = {}
        self._template = Spec(
            client="",
            former="",
            incarnation=0,
            clients=clients,
            endpoints=list(endpoints),
            mark=f"chaos{uuid.uuid4().hex[:8]}",
            start_ns=0,
            seed=seed,
            timeout_s=timeout_s,
            pace_s=pace_s,
            grace_s=grace_s,
            workloads=actors_of(workloads),
            folder=str(folder.resolve()),
            store=store,
        )

    @property
    def mark(self) -> str:
        """What all names that the clients give begin with."""
        return self._template.mark

    @property
    def names(self) -> list[str]:
        """The processes that run, paused ones too."""
        with self._lock:
            return [name for name in self._children if self._runs(name)]

    def start(self) -> None:
        """Start all processes, and the clock of the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._template = replace(self._template, start_ns=time.monotonic_ns())
        with self._lock:
            for number in range(self._template.clients):
                self._start(replace(self._template, client=f"c{number}"))

    # ------------------------------------------------------------ faults

    def kill(self, names: Iterable[str]) -> None:
        """End processes with SIGKILL, and wait until they are gone."""
        with self._lock:
            for name in [name for name in names if self._runs(name)]:
                self._end_pause(name)
                self.faults.append(ClientFault(name, "killed", time.monotonic_ns()))
                self._gone.add(name)
                self._children[name].kill()

    def pause(self, names: Iterable[str]) -> None:
        """SIGSTOP."""
        with self._lock:
            for name in [name for name in names if self._runs(name)]:
                self._paused.setdefault(name, time.monotonic_ns())
                self._children[name].signal(signal.SIGSTOP)

    def resume(self, names: Iterable[str]) -> None:
        """SIGCONT. Harmless for those that are not paused, or gone."""
        with self._lock:
            for name in names:
                if name in self._paused and self._runs(name):
                    self._children[name].signal(signal.SIGCONT)
                self._end_pause(name)

    def replace(self, name: str) -> str:
        """Start another process in the place of one that is gone; returns the new one's name.

        Harmless for one that runs, or was replaced before: then returns an empty name.
        """
        with self._lock:
            if self._runs(name) or name in self._replaced:
                return ""
            self._replaced.add(name)
            former = self._specs[name]
            incarnation = former.incarnation + 1
            place = name.partition("-")[0]
            new = f"{place}-{incarnation}"
            self._start(replace(former, client=new, former=name, incarnation=incarnation))
            return new

    # ------------------------------------------------------------ what becomes of them

    def counts(self) -> Counts:
        """The calls of all processes that have ended so far, also of those that are gone."""
        with self._lock:
            names = list(self._specs)
        return reduce(
            lambda sum, name: sum + read_counts(self.folder / f"{name}.counts"), names, Counts()
        )

    def died(self) -> dict[str, str]:
        """Processes that ended though nobody told them to, or badly, with the end of their log."""
        with self._lock:
            for name, child in self._children.items():
                if name not in self._gone and child.exit_code is not None:
                    self._note_end(name, child.exit_code)
            return dict(self._died)

    def stop(self) -> dict[str, str]:
        """Let all processes end in good order, and wait for it; returns what `died` does.

        Those that take too long are killed, and count as having died.
        """
        with self._lock:
            self.faults += [self._pause_fault(name) for name in self._paused]
            self._paused.clear()
            ending = {name: child for name, child in self._children.items() if self._runs(name)}
            for child in ending.values():
                child.signal(signal.SIGTERM)
                child.signal(signal.SIGCONT)
        give_up_s = time.monotonic() + self._template.grace_s + END_GRACE_S
        for name, child in ending.items():
            code = child.wait(max(0.0, give_up_s - time.monotonic()))
            with self._lock:
                self._note_end(name, child.kill() if code is None else code, told=True)
        return self.died()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            for child in self._children.values():
                child.kill()

    # ------------------------------------------------------------ under the lock

    def _start(self, spec: Spec) -> None:
        path = self.folder / f"{spec.client}.json"
        spec.save(path)
        command = [sys.executable, "-m", "chaos.clients", str(path)]
        env = {"PYTHONPATH": os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))}
        self._specs[spec.client] = spec
        self._children[spec.client] = Child(command, self.folder / f"{spec.client}.log", env=env)

    def _runs(self, name: str) -> bool:
        return name not in self._gone and self._children[name].exit_code is None

    def _note_end(self, name: str, code: int, *, told: bool = False) -> None:
        self._gone.add(name)
        # Told to end while it was still starting, it dies of the signal.
        if not told or code not in (0, -signal.SIGTERM):
            tail = self._children[name].log_tail() or "(it wrote nothing)"
            self._died[name] = f"exit code {code}; the end of its log:\n{tail}"

    def _end_pause(self, name: str) -> None:
        if name in self._paused:
            self.faults.append(self._pause_fault(name))
            del self._paused[name]

    def _pause_fault(self, name: str) -> ClientFault:
        return ClientFault(name, "paused", self._paused[name], time.monotonic_ns())
