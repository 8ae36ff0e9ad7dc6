"""Log replication: what a leader sends, what a follower accepts, when a read is safe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pysyncobj.node import Node

from agentkeeper.consensus import limits
from agentkeeper.consensus.internals import IntegrityError, disk_errors, now_s
from agentkeeper.consensus.journal import JournalFullError
from agentkeeper.consensus.messages import Append, AppendReply
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.peers import Peer
from agentkeeper.consensus.snapshots import SnapshotStore
from agentkeeper.consensus.voting import Voting

logger = logging.getLogger(__name__)


class Replication(Voting):
    """Replaces the library's message handling on the way of an entry."""

    def __init__(
        self,
        *args: Any,
        snapshots: SnapshotStore,
        on_round: Callable[[int], None],
        observation: Observation,
        **kwargs: Any,
    ) -> None:
        self.snapshots = snapshots
        self.observation = snapshots.observation = observation
        self._on_round = on_round  # told before anything of a round is sent
        self.peers: dict[Node, Peer] = {}
        self.round = 0
        self._to_vouch: dict[Node, tuple[int, int, int]] = {}
        self.full = ""
        """Why the disk takes no more entries now; empty while it does."""
        self._flush_again_s = 0.0
        super().__init__(*args, **kwargs)
        self.log.observation = observation

    # --- leading -----------------------------------------------------------------------------
    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self.peers = {node: Peer() for node in self.others}
        super()._SyncObj__onBecomeLeader()

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        super()._SyncObj__setState(state)
        if not self.leads:
            self.observation.rounds_lost(node.id for node in self.peers)
            for peer in self.peers.values():
                peer.outgoing = None  # an open snapshot keeps its room on the disk

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self.replicate()

    def replicate(self) -> None:
        """Send every follower what it lacks, or a heartbeat: one round."""
        self.heartbeat_due_at(now_s() + self.conf.appendEntriesPeriod)
        self.round += 1
        self._on_round(self.round)
        for node in self.others:
            if node in self.linked:
                self.observation.round_sent(node.id, self.round)
                self._send_to(node)

    def _send_to(self, node: Node) -> None:
        """Send one follower all it lacks, within the bound on what is on its way."""
        peer = self.peers[node]
        if self.next_index[node] <= self.first_index:
            self.send_snapshot(node, peer)
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
                    "round": self.round,
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
        if not self.answered(node, message.term, message.round):
            return
        peer = self.peers[node]
        if message.success:
            self._matched(node, peer, message.next_index - 1)
        elif message.reset and message.round > peer.rewound:
            # Only a rejection moves nextIndex back, never to or below what is known to match,
            # and the rejections of all that was on its way count as one.
            if message.next_index <= peer.match_index:
                self._distrust(node, peer)
                return
            peer.rewound = self.round
            peer.forget_unacknowledged()
            hint = min(self.next_index[node], message.next_index)
            self.next_index[node] = max(hint, peer.match_index + 1, 2)
            self.round += 1
            self._send_to(node)
            return
        room = peer.unacknowledged_bytes < limits.MAX_UNACKNOWLEDGED_BYTES
        if message.success and room and self.next_index[node] <= self.last_index:
            self._send_to(node)

    def _matched(self, node: Node, peer: Peer, index: int) -> None:
        if index > self.last_index:
            self._distrust(node, peer)
            return
        peer.acknowledge(index)
        # matchIndex only grows while one replica leads and the link holds (paper, figure 2).
        peer.match_index = max(peer.match_index, index)
        self.count(node, peer)
        self.next_index[node] = max(self.next_index[node], peer.match_index + 1)
        if peer.outgoing is not None and peer.outgoing.index <= index:
            peer.outgoing = None

    def _distrust(self, node: Node, peer: Peer) -> None:
        if not peer.distrusted:
            logger.error("replica %s says of its log what cannot be; ignored", node.id)
        peer.distrusted = True

    def count(self, node: Node, peer: Peer) -> None:
        """Let what `node` has stored count towards a commit, if it votes."""
        self.counted_index[node] = peer.match_index if self.counts(node) else 0

    def answered(self, node: Node, term: int, round_: int) -> bool:
        """Note a follower's answer; False if it must be dropped (paper, 5.1)."""
        if term > self.term:
            self.become_follower(term, None)
            return False
        if term < self.term or not self.leads or round_ > self.round:
            return False
        if node not in self.peers:
            return False
        if round_ > self.peers[node].echoed:
            self.peers[node].echoed = round_
            self.observation.round_answered(node.id, round_)
        if self.counts(node):
            self.last_response_s[node] = now_s()
            self.excused = False
        return True

    def confirmed_round(self) -> int:
        """Highest round that a majority, this leader included, has answered in this term.

        Whoever answered was in this term then, so no other leader can have committed anything
        before the round was begun (ReadIndex, thesis 6.4).
        """
        echoed = [peer.echoed for node, peer in self.peers.items() if self.counts(node)]
        needed = self.majority - 1
        if not needed:
            return self.round
        return sorted(echoed, reverse=True)[needed - 1] if len(echoed) >= needed else 0

    def may_serve_reads(self) -> bool:
        """Whether an entry of this term is committed, so that the commit index is current."""
        return (
            self.leads
            and self.own_first_index is not None
            and self.commit_index >= self.own_first_index
        )

    # --- following -----------------------------------------------------------------------------
    def reply(
        self,
        node: Node,
        round_: int,
        next_index: int,
        *,
        success: bool = False,
        reset: bool = False,
    ) -> None:
        """Answer an append; `vouch` does it for those that were accepted."""
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
            self.reply(node, message.round, self.last_index + 1)
            return
        self.heard_leader(node, message.term)
        self._SyncObj__leaderCommitIndex = message.commit_index
        if message.prev_index is None:
            # A bare heartbeat says nothing about the log, so it commits nothing.
            self.reply(node, message.round, self.last_index + 1)
            return
        prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
        if prev_index < self.first_index:
            # All up to the first entry is committed, thus in the leader's log as well.
            entries = entries[self.first_index - prev_index :]
            prev_index = self.first_index
        else:
            mismatch = self._mismatch(prev_index, prev_term)
            if mismatch is not None:
                self.reply(node, message.round, mismatch, reset=True)
                return
        self._store(entries)
        matched = prev_index + len(entries)
        self.vouch(node, message.round, matched)
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

    def send_snapshot(self, node: Node, peer: Peer) -> None:
        """Send the next piece of the newest snapshot, or a heartbeat while one is on its way."""
        raise NotImplementedError

    # --- the disk ------------------------------------------------------------------------------
    def flush(self) -> None:
        """Make durable what was appended, all of it at once, and only then vouch for it.

        A follower answers after its entries are stored (paper, figure 2, and 5.3); a leader counts
        itself for what is durable only. Raises `StorageError` if the disk fails: going on would
        mean to vouch for what may be lost.
        """
        if self.log.has_unflushed and not (self.full and now_s() < self._flush_again_s):
            try:
                with disk_errors():
                    self.log.flush()
            except JournalFullError as error:
                self._flush_again_s = now_s() + limits.FULL_DISK_RETRY_S
                if not self.full:
                    logger.error("this replica stores no entries: %s", error)
                self.full = str(error)
            else:
                if self.full:
                    logger.info("this replica stores entries again")
                self.full = ""
        vouching, self._to_vouch = self._to_vouch, {}
        for node, (term, round_, index) in vouching.items():
            if term == self.term:
                self.reply(node, round_, min(index, self.durable_index) + 1, success=True)

    def vouch(self, node: Node, round_: int, index: int) -> None:
        """Tell the leader, after the next flush, that the log equals its own up to `index`."""
        term, _, earlier = self._to_vouch.get(node, (0, 0, 0))
        self._to_vouch[node] = (self.term, round_, max(index, earlier * (term == self.term)))

    @property
    def eligible(self) -> bool:
        """See `Voting.eligible`."""
        return super().eligible and not self.full

    # --- links -----------------------------------------------------------------------------------
    def _SyncObj__onNodeConnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeConnected(node)
        self._link_changed(node)
        self.introduce(node)
        self.heartbeat_due_at(0.0)

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeDisconnected(node)
        self._link_changed(node)
        self.suspect(node)

    def _link_changed(self, node: Node) -> None:
        # Whatever was on its way is lost; the next heartbeat finds out how much. The peer may even
        # come back with less than it vouched for, its disk emptied: what it has is asked anew.
        # That the match index falls is safe: it is only ever counted, the commit index stays.
        self.observation.rounds_lost([node.id])
        self.forget_introduction(node)
        self.forget_vote_of(node)
        self._to_vouch.pop(node, None)
        if self.leads:
            # Voters that were counted before are asked anew, learners must be admitted anew.
            lacks = self.peers[node]
            self.peers[node] = Peer(echoed=lacks.echoed, rewound=lacks.rewound)
            self.counted_index[node] = 0
