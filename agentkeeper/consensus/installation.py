"""Snapshots on their way to followers that the log no longer reaches (paper, section 7)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from pysyncobj.node import Node

from agentkeeper.consensus.disk import DamagedError
from agentkeeper.consensus.internals import IntegrityError, now_s
from agentkeeper.consensus.messages import Append, SnapshotChunk, SnapshotReply
from agentkeeper.consensus.peers import Peer
from agentkeeper.consensus.replication import Replication
from agentkeeper.consensus.snapshot_file import Snapshot

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 5.0
"""Time after which a transfer that failed on this replica's disk is tried again."""


class Installation(Replication):
    """Adds InstallSnapshot to replication (Raft paper, figure 13)."""

    def __init__(self, *args: Any, on_snapshot: Callable[[Snapshot], None], **kwargs: Any) -> None:
        self._on_snapshot = on_snapshot  # replaces state and log, once it is stored
        self._storing = False
        self._arriving_index: int | None = None
        self._receive_again_s = 0.0
        self._send_again_s = 0.0
        super().__init__(*args, **kwargs)

    # --- leading -----------------------------------------------------------------------------
    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._forget_arriving()
        super()._SyncObj__onBecomeLeader()

    def send_snapshot(self, node: Node, peer: Peer) -> None:
        """Send the next piece of the newest snapshot, or a heartbeat while one is on its way."""
        if self.snapshots.latest_index < self.first_index:
            raise IntegrityError(f"the log begins at {self.first_index} and no snapshot reaches it")
        message: dict[str, Any] = {"term": self.term, "round": self.round}
        chunk = self._next_chunk(peer)
        if chunk is None:
            message |= {"type": "append_entries", "commit_index": self.commit_index}
        else:
            message |= {"type": "install_snapshot", **chunk}
        self.send(node, message)

    def _next_chunk(self, peer: Peer) -> dict[str, Any] | None:
        if now_s() < self._send_again_s:
            return None
        try:
            if peer.outgoing is None:
                peer.outgoing = self.snapshots.open()
            return peer.outgoing.chunk(now_s(), resend_after_s=self.conf.raftMaxTimeout)
        except (OSError, DamagedError) as error:
            # Only who needs it suffers from that; the log and all others are served.
            logger.error("the snapshot cannot be read for sending: %s", error)
            self._send_again_s = now_s() + _PAUSE_S
            peer.outgoing = None
            return None

    def on_snapshot_reply(self, node: Node, message: SnapshotReply) -> None:
        """Send the next piece once the one before has arrived."""
        if not self.answered(node, message.term, message.round):
            return
        peer = self.peers[node]
        if peer.outgoing is not None and peer.outgoing.arrived(message.index, message.offset):
            if message.offset == 0:
                peer.outgoing = None  # from the beginning: the newest one, then
            self.send_snapshot(node, peer)

    # --- following -----------------------------------------------------------------------------
    def on_append(self, node: Node, message: Append) -> None:
        """See `Replication.on_append`; the log may make a snapshot under way superfluous."""
        super().on_append(node, message)
        if self._arriving_index is not None and self._arriving_index <= self.commit_index:
            self._forget_arriving()

    def on_snapshot_chunk(self, node: Node, message: SnapshotChunk) -> None:
        """Store a piece and answer then; the last one replaces state and log."""
        if message.term < self.term:
            self.reply(node, message.round, self.last_index + 1)
            return
        self.heard_leader(node, message.term)
        if message.index <= self.commit_index:
            self.vouch(node, message.round, self.commit_index)
            return
        if self._storing or now_s() < self._receive_again_s:
            # Only that the leader was heard; the piece comes again.
            self.reply(node, message.round, self.last_index + 1)
            return
        self._storing = True
        self._arriving_index = message.index
        self.snapshots.receive(message, lambda result: self._stored(node, message, result))

    def _stored(self, node: Node, message: SnapshotChunk, result: int | Snapshot | None) -> None:
        self._storing = False
        if result is None:
            self._arriving_index = None
            self._receive_again_s = now_s() + _PAUSE_S
        elif isinstance(result, Snapshot):
            self._arriving_index = None
            self._on_snapshot(result)
            if message.term == self.term:
                self.vouch(node, message.round, self.commit_index)
        elif message.term == self.term:
            self._tell_offset(node, message, result)

    def _tell_offset(self, node: Node, message: SnapshotChunk, offset: int) -> None:
        self.send(
            node,
            {
                "type": "snapshot_received",
                "term": self.term,
                "round": message.round,
                "index": message.index,
                "offset": offset,
            },
        )

    def _forget_arriving(self) -> None:
        if self._arriving_index is not None:
            self._arriving_index = None
            self.snapshots.forget_incoming()
