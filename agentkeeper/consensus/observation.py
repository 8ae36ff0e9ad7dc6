"""What the engine notes of its own work, for whoever watches it.

Written on the engine's thread alone, without locks, and read from any other. Nothing the engine
does depends on it, so it has a clock of its own: simulations run the same with or without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.consensus.port import Outcome

DISK_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0),
)
"""Bounds of what takes from one sync to many, in seconds."""
SNAPSHOT_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SIZES_BYTES: Final = tuple(4**power for power in range(4, 12))
"""From 256 bytes to 4 MiB."""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """The newest snapshot on the disk."""

    index: int
    size_bytes: int


class Observation:
    """One replica's. `clock` gives seconds that only rise; `other_ids` names its peers."""

    def __init__(
        self, other_ids: Sequence[str] = (), clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.clock = clock
        self.opened_index = 0
        """Highest index that was in the log when it was opened: what comes up to it, comes again
        where it had been committed."""
        self.outcomes = dict.fromkeys(Outcome, 0)
        """Proposals by how they ended."""
        self.commit_s = Distribution(DISK_S)
        """From appending a proposal to the leader's log to its commitment."""
        self.proposal_bytes = Distribution(SIZES_BYTES)
        self.sync_s = Distribution(DISK_S)
        """How long the syncs of the log took."""
        self.sync_entries = Distribution(COUNTS)
        """Entries that one sync made durable."""
        self.round_trip_s = {other_id: Distribution(DISK_S) for other_id in other_ids}
        """From a leader's append to a peer's first answer; what is stored there is synced first.
        Of the rounds that follow while one is measured nothing is noted, so a slow peer shows."""
        self.leader_changes = 0
        """How often a leader became known: the first one, another, or one in another term."""
        self.snapshot: StoredSnapshot | None = None
        self.snapshot_save_s = Distribution(SNAPSHOT_S)
        self.snapshots_received = 0
        self.snapshots_failed = 0
        """Own and received ones that could not be stored."""
        self._leader = (0, "")
        self._measured: dict[str, tuple[int, float]] = {}
        """By peer, the round that is measured, and when it was sent."""

    def proposal_ended(self, outcome: Outcome, size_bytes: int, appended_s: float | None) -> None:
        """Note how a proposal ended, and when on `clock` it had been appended, if it was."""
        self.outcomes[outcome] += 1
        if outcome is Outcome.COMMITTED and appended_s is not None:
            self.commit_s.add(self.clock() - appended_s)
            self.proposal_bytes.add(size_bytes)

    def synced(self, took_s: float, entries: int) -> None:
        """Note a sync of the log."""
        self.sync_s.add(took_s)
        self.sync_entries.add(entries)

    def round_sent(self, peer_id: str, number: int) -> None:
        """Note that a leader sends a round of appends to a peer, and measure it if none is."""
        if peer_id not in self._measured:
            self._measured[peer_id] = (number, self.clock())

    def round_answered(self, peer_id: str, number: int) -> None:
        """Note a peer's answer to a round, which answers those before it as well."""
        sent = self._measured.get(peer_id)
        if sent is not None and sent[0] <= number:
            self.round_trip_s[peer_id].add(self.clock() - sent[1])
            del self._measured[peer_id]

    def rounds_lost(self, peer_ids: Iterable[str]) -> None:
        """Note that peers will not answer what they were sent: the link or the leader is gone."""
        for peer_id in peer_ids:
            self._measured.pop(peer_id, None)

    def leader_known(self, term: int, leader_id: str | None) -> None:
        """Note who leads now, as far as known."""
        if leader_id is not None and (term, leader_id) != self._leader:
            self.leader_changes += 1
            self._leader = (term, leader_id)

    def snapshot_stored(self, index: int, size_bytes: int) -> None:
        """Note a snapshot on the disk, which is the newest unless it came too late."""
        if self.snapshot is None or index >= self.snapshot.index:
            self.snapshot = StoredSnapshot(index, size_bytes)
