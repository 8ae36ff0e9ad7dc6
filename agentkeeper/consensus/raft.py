"""The library's Raft replica with corrected rules, one payload type and own snapshots."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from pysyncobj.node import Node

from agentkeeper.consensus import limits
from agentkeeper.consensus.admission import Admission
from agentkeeper.consensus.entries import NO_OP, REGULAR
from agentkeeper.consensus.installation import Installation
from agentkeeper.consensus.internals import IntegrityError, now_s
from agentkeeper.consensus.links.refusals import Refusal
from agentkeeper.consensus.messages import (
    Admit,
    Append,
    AppendReply,
    Introduction,
    Payload,
    SnapshotChunk,
    SnapshotReply,
    Standing,
    Stay,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    parse,
)
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.recovery import REJOIN
from agentkeeper.consensus.snapshot_file import Snapshot

logger = logging.getLogger(__name__)

_STALL_S = 0.1
"""A time between two ticks above which this replica did not run as it should."""


class Delivery(Protocol):
    """Where a replica's output goes: the engine, which passes it on to its listener."""

    def on_entry(self, index: int, term: int, payload: bytes | None) -> None:
        """Take the committed entry at `index`; None for the replica's own entries."""

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the state by a snapshot."""

    def on_payload(self, node: Node, payload: bytes) -> None:
        """Take a message from another replica."""

    def on_round(self, number: int) -> None:
        """Note that round `number` is about to be sent."""

    def on_progress(self) -> None:
        """Look whether role, term or leader have changed."""


class HardenedRaft(Admission, Installation):
    """One replica. Everything in it happens inside `doTick`, on the engine's thread."""

    def __init__(self, *args: Any, delivery: Delivery, **kwargs: Any) -> None:
        self._delivery = delivery
        self.backlog = False
        """Whether committed entries still wait for delivery."""
        self._ticked_s = math.inf
        self._moved_index, self._moved_s = 0, math.inf
        super().__init__(*args, on_round=delivery.on_round, on_snapshot=self.take_over, **kwargs)
        self._handlers: dict[type, Callable[[Node, Any], None]] = {
            Append: self.on_append,
            AppendReply: self.on_append_reply,
            SnapshotChunk: self.on_snapshot_chunk,
            SnapshotReply: self.on_snapshot_reply,
            VoteRequest: self.on_vote_request,
            VoteReply: self.on_vote_reply,
            TimeoutNow: self.on_timeout_now,
            Stay: self.on_stay,
            Introduction: self.on_introduction,
            Admit: self.on_admit,
            Payload: self._on_payload,
        }

    def _SyncObj__onMessageReceived(self, node: Node, raw: object) -> None:  # noqa: N802
        message = parse(raw)
        sender = f"replica {node.id}"
        if message is None:
            self.transport.note(Refusal.MALFORMED, f"{sender} sent a message of unknown shape")
        elif getattr(message, "term", 0) > self.term + limits.MAX_TERM_LEAP:
            # No cluster comes that far; following it would leave no terms to go on with.
            self.transport.note(Refusal.MALFORMED, f"{sender} sent a message of an impossible term")
        elif isinstance(message, Introduction) or self.introduced(node):
            self._handlers[type(message)](node, message)
        else:
            self.transport.note(
                Refusal.UNINTRODUCED, f"{sender} sent a message before it was let in"
            )

    @property
    def trouble(self) -> str:
        """Why this replica cannot take its full part now, in words; empty if it can."""
        if self.full:
            return f"it stores no entries: {self.full}"
        if self.standing is Standing.NEW and self.leader is None:
            waits = "it is new, and waits for the other replicas to begin a cluster with or to join"
            return "; ".join(filter(None, (waits, self.at_odds)))
        if self._stuck:
            return self._stuck
        if not self.votes:
            return "it came with an empty disk, and does not vote before it has caught up"
        return ""

    @property
    def refused(self) -> Mapping[str, int]:
        """What was dropped on the links to other replicas, counted by reason."""
        counted: Mapping[str, int] = getattr(self.transport, "refused", {})
        return counted

    def takes_payloads(self, node: Node) -> bool:
        """Whether the link to `node` has room for a message that heartbeats would wait behind."""
        return self.unsent_bytes(node) <= limits.MAX_UNSENT_MESSAGE_BYTES

    def _on_payload(self, node: Node, message: Payload) -> None:
        self._delivery.on_payload(node, message.payload)

    # --- the tick --------------------------------------------------------------------------------
    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803
        lost_s = now_s() - self._ticked_s
        self._ticked_s = now_s()
        if lost_s > _STALL_S:
            self.make_up_for(lost_s)
            self._moved_s += lost_s
        self.decide_on_standing()
        self.give_up_if_full()
        self.continue_transfer()
        self.admit_learners()
        super()._onTick(timeToWait)
        waiting = self.leads and self.commit_index < self.last_index
        if not waiting or self.commit_index != self._moved_index:
            self._moved_index, self._moved_s = self.commit_index, now_s()

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """Flush: what was committed is delivered, what was appended is sent, the wait is ahead.

        The followers store the new entries at the same time (thesis 10.2.1). Of the library's own
        queue there is nothing to be done, since the engine appends.
        """
        self.flush()

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """Nothing to do: the engine decides when to compact."""

    @property
    def takes_proposals(self) -> bool:
        """Whether this replica leads and may append; a refusal is definite."""
        return self.leads and not (self.handing_over or self.full or self._stuck)

    @property
    def _stuck(self) -> str:
        """Why nothing can be committed, or stored, though this replica may lead."""
        if self.log_bytes > limits.MAX_LOG_BYTES:
            return "no snapshot could be stored, so its log has become too long"
        if self.leads and now_s() - self._moved_s > limits.COMMIT_STALL_S:
            return "too few other replicas store entries; their disks may be full"
        return ""

    def append(self, payload: bytes) -> int:
        """Append an entry to the leader's log and give its index; `replicate` sends it."""
        index = self.last_index + 1
        self.add_entry(REGULAR + payload, index, self.term)
        return index

    # --- delivery --------------------------------------------------------------------------------
    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Deliver what is committed, in order, each entry once (paper, 5.3).

        Gives True if followers should be told of a new commit index at once.
        """
        self._delivery.on_progress()
        before = self.delivered_index
        until_s = now_s() + limits.MAX_DELIVERY_S
        in_time = True
        while in_time and self.delivered_index < self.commit_index:
            count = min(64, self.commit_index - self.delivered_index)
            for command, index, term in self.entries_from(self.delivered_index + 1, count):
                self._delivery.on_entry(index, term, _payload(index, command))
                self.delivered_index = index
                in_time = now_s() <= until_s
                if not in_time:
                    break
        self.backlog = self.delivered_index < self.commit_index
        return self.delivered_index > before

    # --- snapshots -------------------------------------------------------------------------------
    def restore_stored(self) -> None:
        """Begin from the stored snapshot and whatever of the log follows it.

        A process may have died after storing a snapshot and before trimming the log, so the log
        may begin before the snapshot's index; its matching rest is kept. Raises `StartError` if
        the log begins after it.
        """
        snapshot = self.snapshots.load()
        index = 1 if snapshot is None else snapshot.index
        if self.first_index > index:
            raise StartError(
                f"the log begins at entry {self.first_index}, but the snapshot reaches only entry "
                f"{index}; {REJOIN}"
            )
        if snapshot is not None:
            self.delivered_index = 0
            self.take_over(snapshot)

    def take_over(self, snapshot: Snapshot) -> None:
        """Replace state and log by `snapshot`, unless the state is past it already."""
        if snapshot.index <= self.delivered_index:
            return
        if self.term_at(snapshot.index) == snapshot.term:
            # Rule 6: what follows the snapshot's last entry is still good.
            self.trim_to(snapshot.index)
        else:
            # Rule 7: the log is older than the snapshot or contradicts it.
            self.restart_log(snapshot.index, snapshot.term)
        self.commit_index = max(self.commit_index, snapshot.index)
        self.delivered_index = snapshot.index
        self._delivery.on_snapshot(snapshot)

    def save_snapshot(
        self, index: int, pieces: Iterable[bytes], done: Callable[[bool], None]
    ) -> bool:
        """Store the state at `index` and drop the log below it; False if it is of no use."""
        term = self.term_at(index)
        if term is None or not self.snapshots.latest_index < index <= self.delivered_index:
            return False
        if self.snapshots.busy:
            return False

        def stored(success: bool) -> None:
            if success:
                self.trim_to(self._trim_point(index))
            done(success)

        self.snapshots.save(index, term, pieces, stored)
        return True

    def _trim_point(self, index: int) -> int:
        """Keep what linked followers still lack, within reason: sending it beats a snapshot."""
        if not self.leads:
            return index
        lacking = [self._reach(node) for node in self.others if node in self.linked]
        most = limits.TRIM_SLACK_SNAPSHOTS * int(self.conf.logCompactionMinEntries)
        keep_from = max(min([index, *lacking]), index - most)
        return self.within_bytes(keep_from, index, limits.MAX_TRIM_SLACK_BYTES)

    def _reach(self, node: Node) -> int:
        """How far a follower comes by what it has or is being sent as a snapshot."""
        peer = self.peers[node]
        return max(peer.match_index, 0 if peer.outgoing is None else peer.outgoing.index)


def _payload(index: int, command: bytes) -> bytes | None:
    if command[:1] not in (REGULAR, NO_OP):
        raise IntegrityError(f"entry {index} is of a kind that this release does not know")
    return command[1:] if command[:1] == REGULAR else None
