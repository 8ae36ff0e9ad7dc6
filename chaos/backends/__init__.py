"""What a run is done to: replicas, and the means to hurt them. Each backend offers what it can."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from agentkeeper.types import ReplicaStatus


class Unsupported(Exception):  # noqa: N818
    """This machine, or this deployment, cannot do what is asked; the message says what and why."""


@dataclass(frozen=True)
class Setup:
    """What a scenario wants to be started."""

    replicas: int
    folder: Path
    """Where everything of the run goes: data, logs."""
    settings: Sequence[str] = ()
    """Further words for the command line of every replica."""
    python: str = ""
    """Another interpreter, or wrapper, to run the daemon with: broken builds are tried so."""
    environment: dict[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    """The means, by the names of `Backend`'s attributes, that faults of the scenario will use."""


class Processes(Protocol):
    """Replicas as processes, or containers. Every method returns once it is done."""

    def kill(self, names: Sequence[str]) -> None:
        """End all of them at once with SIGKILL, and wait until they are gone."""

    def start(self, names: Sequence[str]) -> None:
        """Start those of them that do not run; does not wait until they serve."""

    def stop(self, name: str) -> None:
        """End one in good order with SIGTERM, and wait until it is gone."""

    def pause(self, names: Sequence[str]) -> None:
        """SIGSTOP: they keep their connections and answer nothing."""

    def resume(self, names: Sequence[str]) -> None:
        """SIGCONT. Harmless for those that are not paused."""

    def running(self, name: str) -> bool:
        """Whether it has not ended; a paused one has not."""

    def log_tail(self, name: str) -> str:
        """The end of what it has said."""

    def memory_bytes(self, name: str) -> int:
        """Resident memory of the daemon itself; 0 if it does not run."""


class Network(Protocol):
    """The network between the replicas. Clients' ways are not touched, unless it says so."""

    def isolate(self, name: str) -> None:
        """Cut one off from all other replicas, both ways."""

    def heal(self) -> None:
        """Let everything pass everywhere, at once. Harmless when nothing is cut."""


class Links(Protocol):
    """Single ways between two replicas. `Network.heal` ends what these do, too."""

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one to the other; the other way stays as it is."""

    def slow(self, source: str, target: str, delay_ms: float) -> None:
        """Delay every packet of one way."""

    def lossy(self, source: str, target: str, share: float) -> None:
        """Drop this share of the packets of one way, each by lot."""


class Disks(Protocol):
    """The replicas' disks."""

    def fill(self, name: str) -> None:
        """Take all room that is left."""

    def free(self, name: str) -> None:
        """Give back what `fill` took. Harmless without it."""

    def cut_power(self, names: Sequence[str]) -> None:
        """Lose what was not synced, on all of them at once, and end their daemons.

        They can be started again afterwards.
        """

    def flip(self, name: str, rng: random.Random) -> str:
        """Turn over a byte in a file of one that does not run; returns which, for the report."""

    def tear(self, name: str, rng: random.Random) -> str:
        """Take some last bytes off the log of one that does not run; returns which file's."""

    def wipe(self, name: str) -> None:
        """Remove all data of one that does not run."""


class Clocks(Protocol):
    """The replicas' clocks of the wall, which must not matter."""

    def shift(self, name: str, offset_s: float) -> None:
        """Let a replica's wall clock be this far off the true time; its other clocks go on."""


class Backend(Protocol):
    """A cluster and the means to hurt it. A context manager: started on entry, gone at the end."""

    @property
    def replicas(self) -> Sequence[str]:
        """Their names, which are their node ids."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Where clients reach them, in the same order."""

    @property
    def processes(self) -> Processes | None:
        """Means to end and start them."""

    @property
    def network(self) -> Network | None:
        """Means to cut them off."""

    @property
    def links(self) -> Links | None:
        """Means to hurt single ways between two."""

    @property
    def disks(self) -> Disks | None:
        """Means to hurt their disks."""

    @property
    def clocks(self) -> Clocks | None:
        """Means to shift their wall clocks."""

    def statuses(self) -> dict[str, ReplicaStatus | None]:
        """What each replica says of itself, by name, within 2 s; None for one that is silent."""

    def unready_reason(self, name: str) -> str:
        """Why it can't serve linearizable calls; empty if it can."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


MEANS = ("processes", "network", "links", "disks", "clocks")
"""The means that a backend may have, and faults may need."""


def missing(backend: Backend, needs: frozenset[str]) -> list[str]:
    """Which of the needed means a backend lacks."""
    return sorted(need for need in needs if getattr(backend, need) is None)
