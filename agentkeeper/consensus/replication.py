"""Log replication: what a leader sends, what a follower accepts, when a read is safe."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pysyncobj.node import Node

from agentkeeper.consensus import limits
from agentkeeper.consensus.internals import IntegrityError, now_s
from agentkeeper.consensus.messages import (
    KEEP_ALIVE,
    Append,
    AppendReply,
    SnapshotChunk,
    SnapshotReply,
)
from agentkeeper.consensus.snapshots import Incoming, Outgoing, Snapshot, SnapshotStore
from agentkeeper.consensus.voting import Voting

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Peer:
    """What a leader keeps about one follower besides next and match index."""

    echoed: int = 0
    """Highest round it has answered."""
    rewound: int = 0
    """Rejections of rounds up to this one are answered already."""
    unacknowledged: deque[tuple[int, int]] = field(default_factory=deque)
    """Last index and size of each append on its way."""
    unacknowledged_bytes: int = 0
    outgoing: Outgoing | None = None
    distrusted: bool = False
    """Whether it has been found to vouch for what cannot be."""

    def forget_unacknowledged(self) -> None:
        self.unacknowledged.clear()
        self.unacknowledged_bytes = 0

    def acknowledge(self, index: int) -> None:
        while self.unacknowledged and self.unacknowledged[0][0] <= index:
            self.unacknowledged_bytes -= self.unacknowledged.popleft()[1]


class Replication(Voting):
    """Replaces the library's message handling on the way of an entry."""

    def __init__(
        self,
        *args: Any,
        snapshots: SnapshotStore,
        on_round: Callable[[int], None],
        on_snapshot: Callable[[Snapshot], None],
        **kwargs: Any,
    ) -> None:
        self.snapshots = snapshots
        self._on_round = on_round  # told before anything of a round is sent
        self._on_snapshot = on_snapshot  # replaces state and log, once it is stored
        self._peers: dict[Node, _Peer] = {}
        self._round = 0
        self._incoming: Incoming | None = None
        self._storing: int | None = None
        self._keep_alive_s = 0.0
        super().__init__(*args, **kwargs)

    # --- leading -----------------------------------------------------------------------------
    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._peers = {node: _Peer() for node in self.others}
        self._incoming = None
        super()._SyncObj__onBecomeLeader()

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self.replicate()

    def replicate(self) -> None:
        """Send every follower what it lacks, or a heartbeat: one round."""
        self.heartbeat_due_at(now_s() + self.conf.appendEntriesPeriod)
        self._round += 1
        self._on_round(self._round)
        for node in self.others:
            if node in self.linked:
                self._send_to(node)

    def _send_to(self, node: Node) -> None:
        """Send one follower all it lacks, within the bound on what is on its way."""
        peer = self._peers[node]
        if self.next_index[node] <= self.first_index:
            self._send_snapshot(node, peer)
            return
        while True:
            prev_index = self.next_index[node] - 1
            entries = []
            if peer.unacknowledged_bytes < limits.MAX_UNACKNOWLEDGED_BYTES:
                entries = self.entries_from(prev_index + 1, 4096, limits.MAX_APPEND_BYTES)
            sent = self.send(
                node,
                {
                    "type": "append_entries",
                    "term": self.term,
                    "round": self._round,
                    "commit_index": self.commit_index,
                    "prevLogIdx": prev_index,
                    "prevLogTerm": self.term_at(prev_index),
                    "entries": entries,
                },
            )
            if not sent or not entries:
                return
            size = sum(len(command) for command, _, _ in entries)
            peer.unacknowledged.append((entries[-1][1], size))
            peer.unacknowledged_bytes += size
            self.next_index[node] = entries[-1][1] + 1
            if self.next_index[node] > self.last_index:
                return

    def on_append_reply(self, node: Node, message: AppendReply) -> None:
        """Learn what a follower has stored (paper, 5.3)."""
        if not self._answered(node, message.term, message.round):
            return
        peer = self._peers[node]
        if message.success:
            self._matched(node, peer, message.next_index - 1)
        elif message.reset and message.round > peer.rewound:
            # Only a rejection moves nextIndex back, never to or below what is known to match,
            # and the rejections of all that was on its way count as one.
            peer.rewound = self._round
            peer.forget_unacknowledged()
            hint = min(self.next_index[node], message.next_index)
            self.next_index[node] = max(hint, self.match_index[node] + 1, 2)
            self._round += 1
            self._send_to(node)
            return
        room = peer.unacknowledged_bytes < limits.MAX_UNACKNOWLEDGED_BYTES
        if message.success and room and self.next_index[node] <= self.last_index:
            self._send_to(node)

    def _matched(self, node: Node, peer: _Peer, index: int) -> None:
        if index > self.last_index:
            if not peer.distrusted:
                logger.error("replica %s vouches for entries this leader lacks; ignored", node.id)
            peer.distrusted = True
            return
        peer.acknowledge(index)
        # matchIndex only grows while one replica leads and the link holds (paper, figure 2).
        self.match_index[node] = max(self.match_index[node], index)
        self.next_index[node] = max(self.next_index[node], self.match_index[node] + 1)
        if peer.outgoing is not None and peer.outgoing.index <= index:
            peer.outgoing = None

    def _answered(self, node: Node, term: int, round_: int) -> bool:
        """Note a follower's answer; False if it must be dropped (paper, 5.1)."""
        if term > self.term:
            self.become_follower(term, None)
            return False
        if term < self.term or not self.leads or round_ > self._round:
            return False
        if node not in self._peers:
            return False
        self._peers[node].echoed = max(self._peers[node].echoed, round_)
        self.last_response_s[node] = now_s()
        self.excused = False
        return True

    def confirmed_round(self) -> int:
        """Highest round that a majority, this leader included, has answered in this term.

        Whoever answered was in this term then, so no other leader can have committed anything
        before the round was begun (ReadIndex, thesis 6.4).
        """
        echoed = sorted((peer.echoed for peer in self._peers.values()), reverse=True)
        needed = self.majority - 1
        return echoed[needed - 1] if needed else self._round

    def may_serve_reads(self) -> bool:
        """Whether an entry of this term is committed, so that the commit index is current."""
        return (
            self.leads
            and self.own_first_index is not None
            and self.commit_index >= self.own_first_index
        )

    # --- following -----------------------------------------------------------------------------
    def _reply(
        self,
        node: Node,
        round_: int,
        next_index: int,
        *,
        success: bool = False,
        reset: bool = False,
    ) -> None:
        self.send(
            node,
            {
                "type": "next_node_idx",
                "term": self.term,
                "round": round_,
                "next_node_idx": next_index,
                "success": success,
                "reset": reset,
            },
        )

    def on_append(self, node: Node, message: Append) -> None:
        """Accept entries that fit the log (AppendEntries receiver, paper, figure 2)."""
        if message.term < self.term:
            # Rule 1; the answer's term tells a deposed leader that it is one.
            self._reply(node, message.round, self.last_index + 1)
            return
        self.heard_leader(node, message.term)
        self._SyncObj__leaderCommitIndex = message.commit_index
        if message.prev_index is None:
            # A bare heartbeat says nothing about the log, so it commits nothing.
            self._reply(node, message.round, self.last_index + 1)
            return
        prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
        if prev_index < self.first_index:
            # All up to the first entry is committed, thus in the leader's log as well.
            entries = entries[self.first_index - prev_index :]
            prev_index = self.first_index
        else:
            mismatch = self._mismatch(prev_index, prev_term)
            if mismatch is not None:
                self._reply(node, message.round, mismatch, reset=True)
                return
        self._store(entries)
        matched = prev_index + len(entries)
        self._reply(node, message.round, matched + 1, success=True)
        # Rule 5: only what is known to be equal to the leader's log can be committed.
        self.commit_index = max(self.commit_index, min(message.commit_index, matched))

    def _mismatch(self, prev_index: int, prev_term: int) -> int | None:
        """Give the index to go on from if the log lacks the entry before (rule 2), else None."""
        own_term = self.term_at(prev_index)
        if own_term == prev_term:
            return None
        if own_term is None:
            return self.last_index + 1
        if prev_index <= self.commit_index:
            raise IntegrityError(f"the leader contradicts the committed entry {prev_index}")
        # Skip the conflicting term at once instead of entry by entry (paper, end of 5.3).
        index = prev_index
        while index > self.commit_index + 1 and self.term_at(index - 1) == own_term:
            index -= 1
        return index

    def _store(self, entries: list[tuple[bytes, int, int]]) -> None:
        """Append what is new; truncate on a real conflict only (rules 3 and 4)."""
        for command, index, term in entries:
            own_term = self.term_at(index)
            if own_term == term:
                continue
            if own_term is not None:
                self.truncate_from(index)
            self.add_entry(command, index, term)

    # --- snapshots (InstallSnapshot, paper, figure 13) -----------------------------------------
    def _send_snapshot(self, node: Node, peer: _Peer) -> None:
        if self.snapshots.latest_index < self.first_index:
            raise IntegrityError(f"the log begins at {self.first_index} and no snapshot reaches it")
        if peer.outgoing is None:
            peer.outgoing = self.snapshots.open()
        chunk = peer.outgoing.chunk(now_s(), resend_after_s=self.conf.raftMaxTimeout)
        if chunk is None:
            self.send(
                node,
                {
                    "type": "append_entries",
                    "term": self.term,
                    "round": self._round,
                    "commit_index": self.commit_index,
                },
            )
            return
        self.send(
            node, {"type": "install_snapshot", "term": self.term, "round": self._round, **chunk}
        )

    def on_snapshot_reply(self, node: Node, message: SnapshotReply) -> None:
        """Send the next piece once the one before has arrived."""
        if not self._answered(node, message.term, message.round):
            return
        peer = self._peers[node]
        if peer.outgoing is not None and peer.outgoing.arrived(message.index, message.offset):
            self._send_snapshot(node, peer)

    def on_snapshot_chunk(self, node: Node, message: SnapshotChunk) -> None:
        """Gather a snapshot; once it is whole and stored, `snapshot_received` continues."""
        if message.term < self.term:
            self._reply(node, message.round, self.last_index + 1)
            return
        self.heard_leader(node, message.term)
        if message.index <= self.commit_index:
            self._incoming = None
            self._reply(node, message.round, self.commit_index + 1, success=True)
            return
        if message.index == self._storing:
            self._reply(node, message.round, self.last_index + 1)
            return
        if message.offset == 0:
            self._incoming = Incoming(message.index)
        incoming = self._incoming
        offset = 0
        if incoming is not None and incoming.index == message.index:
            whole = incoming.add(message.offset, message.data) and message.last
            offset = incoming.size
            if whole:
                self._receive(node, message, incoming)
                return
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

    def _receive(self, node: Node, message: SnapshotChunk, incoming: Incoming) -> None:
        self._incoming = None
        self._storing = message.index

        def stored(snapshot: Snapshot | None) -> None:
            self._storing = None
            if snapshot is None:
                return  # unreadable, or the disk is full: the leader sends it again
            self._on_snapshot(snapshot)
            if message.term == self.term:
                self._reply(node, message.round, self.commit_index + 1, success=True)

        self.snapshots.receive(incoming, stored)

    # --- links -----------------------------------------------------------------------------------
    def _SyncObj__onNodeConnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeConnected(node)
        self._link_changed(node)
        self.heartbeat_due_at(0.0)

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeDisconnected(node)
        self._link_changed(node)
        self.suspect(node)

    def _link_changed(self, node: Node) -> None:
        # Whatever was on its way is lost; the next heartbeat finds out how much. The peer may even
        # come back with less than it vouched for, its disk emptied: what it has is asked anew.
        # That the match index falls is safe: it is only ever counted, the commit index stays.
        peer = self._peers.get(node)
        if peer is not None:
            peer.forget_unacknowledged()
            peer.outgoing = None
            self.match_index[node] = 0

    def keep_links_alive(self) -> None:
        """Say something on every link now and then, so that idle ones are not dropped."""
        if now_s() >= self._keep_alive_s:
            self._keep_alive_s = now_s() + self.conf.connectionTimeout / 4
            for node in self.others:
                if node in self.linked:
                    self.send(node, KEEP_ALIVE)
