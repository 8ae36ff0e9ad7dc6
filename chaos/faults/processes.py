"""Faults of the daemons' processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentkeeper import AgentKeeperClient, AgentKeeperError
from chaos.backends import Processes
from chaos.faults.base import Fault, World


def processes_of(world: World) -> Processes:
    """The backend's processes, which a scenario has made sure of."""
    assert world.backend.processes is not None
    return world.backend.processes


@dataclass
class Killed(Fault):
    """SIGKILL, all at once; started again after a while."""

    needs: ClassVar = frozenset({"processes"})
    who: str = "leader"

    def inject(self, world: World) -> str:
        """Kill them."""
        if not self._take(world, self.who):
            return ""
        processes_of(world).kill(self.targets)
        return f"kill {', '.join(self.targets)} ({self.who})"

    def heal(self, world: World) -> None:
        """Start them."""
        processes_of(world).start(self.targets)


@dataclass
class Paused(Fault):
    """SIGSTOP, for longer than any lease unless told otherwise."""

    needs: ClassVar = frozenset({"processes"})
    who: str = "leader"
    for_s: tuple[float, float] = (11.0, 14.0)

    def inject(self, world: World) -> str:
        """Pause them."""
        if not self._take(world, self.who):
            return ""
        processes_of(world).pause(self.targets)
        return f"pause {', '.join(self.targets)} ({self.who})"

    def heal(self, world: World) -> None:
        """Let them go on."""
        processes_of(world).resume(self.targets)


@dataclass
class RollingRestart(Fault):
    """Each replica is stopped in good order and started, the next once this one serves."""

    needs: ClassVar = frozenset({"processes"})
    alone: ClassVar = True
    for_s: tuple[float, float] = (0.0, 0.0)

    def inject(self, world: World) -> str:
        """Restart them, one after the other."""
        for name in self._take(world, "all"):
            processes_of(world).stop(name)
            processes_of(world).start([name])
            world.await_ready([name])
        return f"rolling restart of {', '.join(self.targets)}"

    def heal(self, world: World) -> None:
        """Start those that an interrupted one has left."""
        processes_of(world).start(self.targets)


@dataclass
class LeaderMoved(Fault):
    """The leader is asked to hand over."""

    for_s: tuple[float, float] = (0.0, 0.0)

    def inject(self, world: World) -> str:
        """Ask for it; that may be refused."""
        with AgentKeeperClient(endpoints=world.backend.endpoints, timeout=10) as client:
            try:
                return f"leader moved to {client.move_leader().leader_node_id}"
            except AgentKeeperError as error:
                return f"leader asked to move: {error}"

    def heal(self, world: World) -> None:
        """Nothing is left of it."""
