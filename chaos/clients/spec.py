"""What one client process is told: a JSON file that the fleet writes and the process reads."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

ERA_S = 10
"""How long subjects are in use before all actors go over to new ones."""
CALLS_PER_SUBJECT = 200
"""About how many calls are to be about one subject: its history is searched as a whole."""
CALLING = {"leases": 0.5}
"""The part of an actor's time in which it makes calls; the rest is spent holding and waiting."""


@dataclass(frozen=True)
class Spec:
    """One client process."""

    client: str
    """Its name, like "c2"; "c2-1" for the one that took its place."""
    former: str
    """The one whose place it took, or empty."""
    incarnation: int
    """How many were in its place before."""
    clients: int
    """How many processes there are in the fleet."""
    endpoints: list[str]
    mark: str
    """Part of all names of the run, so that it can share a cluster with others."""
    start_ns: int
    """When the run began, on CLOCK_MONOTONIC; eras are counted from it."""
    seed: int
    timeout_s: float
    """Of each call."""
    pace_s: float
    """How long an actor rests between two calls, on average."""
    grace_s: float
    """How long actors may go on with what they have begun when told to end."""
    workloads: dict[str, int]
    """How many actors of each workload this process has."""
    folder: str
    """Where the history and the counters go."""
    store: str
    """The socket of the fenced store."""

    @classmethod
    def load(cls, path: Path) -> Spec:
        """Read what `save` has written."""
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))

    def slots(self, workload: str) -> int:
        """How many subjects of a workload are in use at a time, by all processes together."""
        actors = self.clients * self.workloads[workload] * CALLING.get(workload, 1.0)
        return max(1, round(actors * ERA_S / self.pace_s / CALLS_PER_SUBJECT))
