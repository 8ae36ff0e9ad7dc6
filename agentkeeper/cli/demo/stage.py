"""The demo's stage: the cluster, the actors' processes, the narration and the verdicts."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from agentkeeper import AgentKeeperClient
from agentkeeper.client.child import Child
from agentkeeper.launcher import LocalCluster
from agentkeeper.types import WatchEvent

T = TypeVar("T")

POLL_S = 0.02
PATIENCE_S = 20.0
SHOWN_PROBLEMS = 5


class DemoFailed(Exception):  # noqa: N818
    """The story can't go on."""


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = PATIENCE_S) -> T:
    """Return what `probe` gives once it is something. Raises DemoFailed."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(POLL_S)


class Actor:
    """One agent in a process of its own, and what it has told."""

    def __init__(self, role: str, name: str, endpoints: str, log_path: Path, *rest: str) -> None:
        self.name = name
        self._reports: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._read_bytes = 0
        command = [sys.executable, "-m", "agentkeeper.cli.demo.actors", role, endpoints, name]
        self.child = Child([*command, *rest], log_path)

    def told(self, what: str) -> list[dict[str, Any]]:
        """Return its reports of one kind, oldest first."""
        with self.child.log_path.open("rb") as log:
            log.seek(self._read_bytes)
            fresh = log.read()
        complete, newline, _ = fresh.rpartition(b"\n")
        self._read_bytes += len(complete) + len(newline)
        for line in complete.splitlines():
            with contextlib.suppress(ValueError):  # a log message
                report = json.loads(line)
                self._reports[report["what"]].append(report)
        return self._reports[what]

    def first(self, what: str) -> dict[str, Any]:
        """Wait for its first report of a kind."""

        def probe() -> dict[str, Any] | None:
            reports = self.told(what)
            if not reports and self.child.exit_code is not None:
                raise DemoFailed(f"{self.name} ended early:\n{self.child.log_tail()}")
            return reports[0] if reports else None

        return wait_for(f"{self.name} to tell {what!r}", probe)


class EventLog:
    """All events of the cluster, as one watch through all failures delivers them."""

    def __init__(self, client: AgentKeeperClient) -> None:
        self._events: list[WatchEvent] = []
        self._lock = threading.Lock()
        self._subscription = client.watch([], self._add)

    def _add(self, event: WatchEvent) -> None:
        with self._lock:
            self._events.append(event)

    def all(self) -> list[WatchEvent]:
        """Return the events so far."""
        with self._lock:
            return list(self._events)

    def find(self, topic: str, matches: Callable[[Any], bool]) -> WatchEvent | None:
        """Return the first event of a topic whose payload matches."""
        return next((e for e in self.all() if e.topic == topic and matches(e.payload)), None)

    def close(self) -> None:
        """Stop watching."""
        self._subscription.cancel()


class Stage:
    """Everything the acts share."""

    def __init__(self, console: Console, cluster: LocalCluster) -> None:
        self.console = console
        self.cluster = cluster
        self.client = cluster.client()
        self.events = EventLog(self.client)
        self.failed_checks = 0
        self._actors: list[Actor] = []

    def cast(self, role: str, name: str, *rest: str) -> Actor:
        """Start an actor."""
        log_path = self.cluster.data_dir / f"actor-{name}.log"
        actor = Actor(role, name, ",".join(self.cluster.endpoints), log_path, *rest)
        self._actors.append(actor)
        return actor

    def act(self, title: str) -> None:
        """Begin an act."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """Tell the audience something."""
        self.console.print(f"  {text}")

    def check(self, claim: str, problems: Sequence[str]) -> bool:
        """State the verdict on a claim: it holds if nothing is wrong."""
        if not problems:
            self.console.print(f"  [bold green]✓[/] {claim}")
            return True
        self.failed_checks += 1
        self.console.print(f"  [bold red]✗ NOT SO:[/] {claim}")
        for problem in problems[:SHOWN_PROBLEMS]:
            self.console.print(f"      {problem}", style="red", markup=False)
        if len(problems) > SHOWN_PROBLEMS:
            self.console.print(f"      and {len(problems) - SHOWN_PROBLEMS} more", style="red")
        return False

    def close(self) -> None:
        """End all actors and the client."""
        for actor in self._actors:
            actor.child.kill()
        self.events.close()
        self.client.close()
