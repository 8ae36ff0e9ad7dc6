"""Faults planted in the product on purpose: the simulation must find each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentkeeper.consensus.ballot import Ballot
from tests.simulation.simulated_disk import SimulatedFile


def _no_sync(patch: pytest.MonkeyPatch) -> None:
    """Entries count as stored before the disk has them."""
    synced = SimulatedFile.sync

    def sync(file: SimulatedFile) -> None:
        if not file._name.endswith(".log"):
            synced(file)

    patch.setattr(SimulatedFile, "sync", sync)


def _vote_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A replica that was restarted has forgotten its vote."""
    written = Ballot._write

    def write(ballot: Ballot, stored: Any) -> None:
        written(ballot, replace(stored, vote=None))

    patch.setattr(Ballot, "_write", write)


PLANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no fsync": _no_sync,
    "vote not stored": _vote_not_stored,
}
"""By name. Each is given a patch that lasts for one run."""
