"""What can be done to a cluster and its clients. Each fault undoes what it did."""

from __future__ import annotations

from chaos.faults.base import Fault, World
from chaos.faults.clients import ClientsKilled, ClientsPaused, Herd, IdleWatchers
from chaos.faults.clocks import ClockShifted
from chaos.faults.disks import Damaged, DiskFull, PowerCut, WipedWhileIsolated
from chaos.faults.network import Isolated, Lossy, OneWay, Ring, Slow
from chaos.faults.overload import Overload
from chaos.faults.processes import Killed, LeaderMoved, Paused, RollingRestart

CATALOGUE: dict[str, type[Fault]] = {
    "kill": Killed,
    "pause": Paused,
    "rolling-restart": RollingRestart,
    "move-leader": LeaderMoved,
    "isolate": Isolated,
    "one-way": OneWay,
    "ring": Ring,
    "slow": Slow,
    "lossy": Lossy,
    "clock": ClockShifted,
    "disk-full": DiskFull,
    "power-cut": PowerCut,
    "damage": Damaged,
    "wipe-while-isolated": WipedWhileIsolated,
    "kill-clients": ClientsKilled,
    "pause-clients": ClientsPaused,
    "herd": Herd,
    "idle-watchers": IdleWatchers,
    "overload": Overload,
}
"""By the name that scenarios use."""

__all__ = ["CATALOGUE", "Fault", "World"]
