"""Daemons that are wrong on purpose: a tester that lets one of them pass proves nothing.

This package alone knows the daemon from inside. Here is only what is planted, and how it is caught;
`patches` and `stock` do it, in the daemon's process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Plant:
    """A wrong build, and the run that catches it."""

    name: str
    wrong: str
    """What is wrong with it."""
    scenario: str
    """One of the project's, or of this folder."""
    minutes: float
    seed: int
    settings: tuple[str, ...] = ()
    """Further words for the command line of replicas, after the scenario's own."""
    patched: bool = True
    """Whether code is changed; otherwise the settings alone make it wrong."""


_PLANTS = (
    Plant(
        "stock-pysyncobj",
        "PySyncObj orders the log as it comes, with its own journal, votes and links",
        scenario="power-cuts",
        minutes=0.5,
        seed=1,
    ),
    Plant(
        "no-fsync",
        "writes are acknowledged before disks have them (`--durability os`)",
        scenario="power-cuts",
        minutes=0.5,
        seed=1,
        settings=("--durability", "os"),
        patched=False,
    ),
    Plant(
        "wall-clock",
        "the leader takes the wall clock's time for the cluster's",
        scenario="clocks",
        minutes=0.4,
        seed=1,
    ),
    Plant(
        "reads-without-a-majority",
        "a leader that is cut off goes on leading, and answers reads from what it has",
        scenario="partitions",
        minutes=0.7,
        seed=1,
    ),
    Plant(
        "answers-not-kept",
        "a call that is tried again takes effect again",
        scenario="kills",
        minutes=0.7,
        seed=1,
    ),
    Plant(
        "granted-while-held",
        "one acquisition in fifty gets a lease that another agent holds",
        scenario="smoke",
        minutes=0.2,
        seed=1,
    ),
    Plant(
        "stale-tokens",
        "whoever held a lease before can still renew and release it",
        scenario="smoke",
        minutes=0.5,
        seed=1,
    ),
    Plant(
        "event-skipped",
        "a watch that resumes begins one event late",
        scenario="smoke",
        minutes=0.4,
        seed=1,
    ),
    Plant(
        "token-not-in-snapshots",
        "a replica that starts from a snapshot counts tokens on from the highest that is held",
        scenario="kills",
        minutes=0.7,
        seed=1,
        settings=("--snapshot-entries", "500"),
    ),
)

PLANTS = {plant.name: plant for plant in _PLANTS}
"""By name."""
