"""More than a cluster can take: calls without a rest, unread watches, connections all at once."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from agentkeeper.client.child import Child
from chaos.faults.base import Fault, Span, World

GRACE_S = 20.0
LOG = "overload-{began_ns}-{number}-{kind}-{count}.log"
"""Where a process of other clients writes what it came to, beside the histories."""


@dataclass
class Overload(Fault):
    """Other clients ask for far more than the cluster can do, and do not read what they watch."""

    alone: ClassVar[bool] = True
    for_s: Span = (15.0, 15.0)
    calls: int = 0
    """GRPC calls under way at a time; each is followed by the next once it is answered."""
    shared_calls: int = 0
    """The same on shared streams."""
    watches: int = 0
    """Of everything, that nobody reads."""
    connections: int = 0
    """That are opened at once, each for one call, again and again."""
    processes: int = 2
    """That each of these is shared by."""
    niceness: int = 19
    """Theirs, lest it be them who have no time."""
    _children: list[Child] = field(default_factory=list, init=False)

    def inject(self, world: World) -> str:
        """Start them."""
        self.began_ns = time.monotonic_ns()
        endpoints = ",".join(world.backend.endpoints)
        parts = {
            "flood": (self.calls, "calls at a time"),
            "shared_flood": (self.shared_calls, "calls at a time on shared streams"),
            "idle_watchers": (self.watches, "watches that nobody reads"),
            "herd": (self.connections, "connections at once"),
        }
        said = []
        for kind, (count, words) in parts.items():
            if not count:
                continue
            said.append(f"{count:,} {words}")
            command = ["nice", "-n", str(self.niceness), sys.executable, "-m"]
            command += [f"chaos.clients.{kind}", "--endpoints", endpoints]
            each = count // self.processes
            command += ["--count", str(each)]
            for _ in range(self.processes):
                number = len(self._children)
                name = LOG.format(began_ns=self.began_ns, number=number, kind=kind, count=each)
                child = Child(command, Path(world.fleet.folder) / name)
                self._children.append(child)
                _let_others_first(child.pid, self.niceness)
        return ", ".join(said)

    def heal(self, world: World) -> None:
        """End them, all at once."""
        for child in self._children:
            child.signal(signal.SIGTERM)
        for child in self._children:
            child.stop(GRACE_S)


def _let_others_first(pid: int, niceness: int) -> None:
    """Make the session of a process as nice as the process.

    Where Linux groups sessions (sched_autogroup_enabled), it shares processors evenly among them: a
    process is nice only to those of its own session then, and this one is alone in it.
    """
    with contextlib.suppress(OSError):  # it groups nothing, or it is no Linux
        Path(f"/proc/{pid}/autogroup").write_text(f"{niceness}\n")
