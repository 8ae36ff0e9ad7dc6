"""Faults of clients: they die, stand still, come all at once, or do not read what they get."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from agentkeeper.client.child import Child
from chaos.faults.base import Fault, Span, World

GRACE_S = 15.0


@dataclass
class ClientsKilled(Fault):
    """Client processes are killed while they hold things; others take their place."""

    count: int = 1
    for_s: Span = (0.5, 2.0)

    def inject(self, world: World) -> str:
        """Kill them."""
        self._names = world.rng.sample(world.fleet.names, min(self.count, len(world.fleet.names)))
        world.fleet.kill(self._names)
        return f"kill clients {', '.join(self._names)}"

    def heal(self, world: World) -> None:
        """Start others."""
        for name in self._names:
            world.fleet.replace(name)

    _names: list[str] = field(default_factory=list, init=False)


@dataclass
class ClientsPaused(Fault):
    """Client processes stand still for longer than their leases last, and then go on."""

    count: int = 1
    for_s: Span = (11.0, 14.0)

    def inject(self, world: World) -> str:
        """Pause them."""
        self._names = world.rng.sample(world.fleet.names, min(self.count, len(world.fleet.names)))
        world.fleet.pause(self._names)
        return f"pause clients {', '.join(self._names)}"

    def heal(self, world: World) -> None:
        """Let them go on."""
        world.fleet.resume(self._names)

    _names: list[str] = field(default_factory=list, init=False)


@dataclass
class _Crowd(Fault):
    """A process of other clients, which takes no part in the history."""

    module: ClassVar[str]
    count: int = 1000
    _child: Child | None = field(default=None, init=False)

    def inject(self, world: World) -> str:
        """Start it."""
        command = [sys.executable, "-m", self.module, "--count", str(self.count)]
        command += ["--endpoints", ",".join(world.backend.endpoints)]
        self._child = Child(command, Path(world.fleet.folder) / f"{self.module}.log")
        return f"{self.count} {self.__doc__.splitlines()[0].lower().rstrip('.')}"  # type: ignore[union-attr]

    def heal(self, world: World) -> None:
        """End it."""
        if self._child is not None:
            self._child.stop(GRACE_S)


@dataclass
class Herd(_Crowd):
    """Connections at once, again and again."""

    module: ClassVar[str] = "chaos.clients.herd"
    count: int = 2000
    for_s: Span = (5.0, 8.0)


@dataclass
class IdleWatchers(_Crowd):
    """Watches that nobody reads."""

    module: ClassVar[str] = "chaos.clients.idle_watchers"
    count: int = 50
    for_s: Span = (8.0, 15.0)
