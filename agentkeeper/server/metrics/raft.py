"""What the engine notes of its work and of its links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.port import EngineStatus, Role
from agentkeeper.server.metrics.families import (
    Reading,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    histograms,
)

_GAUGES: Final[tuple[tuple[str, str, Callable[[EngineStatus], float]], ...]] = (
    ("is_leader", "1 at the leader", lambda s: s.role is Role.LEADER),
    ("has_leader", "1 while this replica knows who leads", lambda s: s.leader_id is not None),
    ("term", "Current term", lambda s: s.term),
    ("commit_index", "Highest log index known to be committed", lambda s: s.commit_index),
    ("last_log_index", "Highest log index", lambda s: s.last_log_index),
    ("durable_index", "Highest log index stored on the disk", lambda s: s.durable_index),
    ("log_entries", "Entries kept in the log", lambda s: s.last_log_index - s.first_log_index + 1),
    ("log_bytes", "Size of the entries kept in the log", lambda s: s.log_bytes),
    ("voter", "1 if this replica votes and counts", lambda s: s.voter),
    ("trouble", "1 while this replica can't take its full part", lambda s: bool(s.trouble)),
    ("proposals_pending", "Proposals without an outcome yet", lambda s: s.proposals),
)


class RaftCounts:
    """`status` gives the engine's, read when somebody asks."""

    def __init__(self, status: Callable[[], EngineStatus], observation: Observation) -> None:
        self._status = status
        self._seen = observation

    def read(self) -> Iterator[Reading]:
        """See `Source.read`."""
        status = self._status()
        for name, text, read in _GAUGES:
            yield gauge(f"agentkeeper_raft_{name}", text, read(status))
        yield counters(
            "agentkeeper_raft_refused",
            "Connections and messages of replicas that were refused, by reason",
            ("reason",),
            {(reason,): count for reason, count in status.refused.items()},
        )
        yield from self._peers(status)
        yield from self._proposals()
        yield from self._snapshots()

    def _peers(self, status: EngineStatus) -> Iterator[Reading]:
        yield gauges(
            "agentkeeper_raft_peer_connected",
            "1 while there is a link to the other replica",
            ("peer",),
            [((peer_id,), peer.connected) for peer_id, peer in status.peers.items()],
        )
        yield gauges(
            "agentkeeper_raft_peer_lag_entries",
            "Entries that the other replica is not known to have stored; at the leader only, and "
            "only of a replica that has told on its present link what it has",
            ("peer",),
            [
                ((peer_id,), max(0, status.last_log_index - peer.match_index))
                for peer_id, peer in status.peers.items()
                if peer.connected and peer.match_index
            ],
        )
        yield histograms(
            "agentkeeper_raft_round_trip_duration_seconds",
            "From the leader's append to the other replica's answer, its sync included",
            ("peer",),
            [((peer_id,), took.counted()) for peer_id, took in self._seen.round_trip_s.items()],
        )

    def _proposals(self) -> Iterator[Reading]:
        seen = self._seen
        yield counter(
            "agentkeeper_raft_leader_changes",
            "How often a leader became known",
            seen.leader_changes,
        )
        yield counters(
            "agentkeeper_raft_proposals",
            "Proposals made here, by outcome",
            ("outcome",),
            {(outcome.value,): count for outcome, count in seen.outcomes.items()},
        )
        yield histogram(
            "agentkeeper_raft_proposal_bytes",
            "Size of committed proposals",
            seen.proposal_bytes.counted(),
        )
        yield histogram(
            "agentkeeper_raft_commit_duration_seconds",
            "From appending a proposal to the log to its commitment, at the leader",
            seen.commit_s.counted(),
        )
        yield histogram(
            "agentkeeper_raft_fsync_duration_seconds",
            "Syncs of the log to the disk",
            seen.sync_s.counted(),
        )
        yield histogram(
            "agentkeeper_raft_fsync_entries",
            "Entries that one sync made durable",
            seen.sync_entries.counted(),
        )

    def _snapshots(self) -> Iterator[Reading]:
        seen, stored = self._seen, self._seen.snapshot
        if stored is not None:
            yield gauge(
                "agentkeeper_raft_snapshot_index", "Log index of the newest snapshot", stored.index
            )
            yield gauge(
                "agentkeeper_raft_snapshot_bytes", "Size of the newest snapshot", stored.size_bytes
            )
        yield histogram(
            "agentkeeper_raft_snapshot_save_duration_seconds",
            "How long saving a snapshot took, in the background",
            seen.snapshot_save_s.counted(),
        )
        yield counter(
            "agentkeeper_raft_snapshots_received",
            "Snapshots received from the leader in place of entries",
            seen.snapshots_received,
        )
        yield counter(
            "agentkeeper_raft_snapshot_failures",
            "Snapshots, own or received, that could not be stored",
            seen.snapshots_failed,
        )
