"""The one place that knows the library's private names.

`RaftInternals` gives readable, typed names to the parts of `SyncObj` that the hardened rules build
upon. They are private to the library, hence its exact pin and the test over its sources' hash.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

from pysyncobj import SyncObj, syncobj
from pysyncobj.node import Node

from agentkeeper.consensus.entries import NO_OP, Entry
from agentkeeper.consensus.port import Role, StartError
from agentkeeper.consensus.recovery import REJOIN
from agentkeeper.consensus.storage import Storage

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
_ROLES = {FOLLOWER: Role.FOLLOWER, CANDIDATE: Role.CANDIDATE, LEADER: Role.LEADER}


def now_s() -> float:
    """Read the library's monotonic clock, in seconds; simulations replace it there."""
    return float(syncobj.monotonicTime())


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raise `StorageError` for an `OSError` of the block."""
    try:
        yield
    except OSError as error:
        raise StorageError(str(error)) from error


class IntegrityError(Exception):
    """Something that a correct cluster cannot do has happened; going on could corrupt the state."""


class StorageError(Exception):
    """The disk failed: what was written may be lost, so this replica must not go on."""


class RaftInternals(SyncObj):  # type: ignore[misc]
    """`SyncObj` with names for what it keeps private."""

    def __init__(
        self, self_node: Node, others: Sequence[Node], storage: Storage, **kwargs: Any
    ) -> None:
        self.log = storage.journal
        """A sequence of entries with gapless indexes, kept on disk."""
        self.ballot = storage.ballot
        """Term, vote and standing, kept on disk."""
        self.incarnation = storage.incarnation
        """Drawn when the data folder was made."""
        self.others = sorted(others, key=lambda node: str(node.id))
        """The other replicas, in the order of their ids."""
        self._pipe_lock = threading.Lock()
        self._pipe_open = True
        if len(self.log) == 0:
            self.log.add(NO_OP, 1, 0)  # before the library looks at the properties below
        super().__init__(self_node, others, **kwargs)
        self._adopt_stored()

    def _adopt_stored(self) -> None:
        self._SyncObj__raftLog = self.log
        # Term and vote are stored before anything is done in a term, so no entry is ahead of them.
        self._SyncObj__raftCurrentTerm = self.ballot.term
        self._SyncObj__votedForNodeId = self.ballot.vote
        if self.last_term > self.term:
            raise StartError(
                f"the log reaches term {self.last_term}, the stored term is only {self.term}; "
                f"{REJOIN}"
            )
        # The commit index is volatile (Raft paper, figure 2): the leader tells it anew.
        self._SyncObj__raftCommitIndex = self.first_index
        self._SyncObj__raftLastApplied = self.first_index

    # --- role and term -----------------------------------------------------------------------
    @property
    def role(self) -> Role:
        """The replica's role in its current term."""
        return _ROLES[self._SyncObj__raftState]

    @property
    def leads(self) -> bool:
        """Whether this replica believes that it leads."""
        return bool(self._SyncObj__raftState == LEADER)

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def leader(self) -> Node | None:
        """The leader of the current term, as far as known."""
        return self._SyncObj__raftLeader

    @leader.setter
    def leader(self, node: Node | None) -> None:
        self._SyncObj__raftLeader = node

    @property
    def voted_for(self) -> str | None:
        """Node id that got this replica's vote in the current term."""
        return self.ballot.vote

    def random_timeout_s(self) -> float:
        """Draw an election timeout (paper, 5.2)."""
        return float(self._SyncObj__generateRaftTimeout())

    def may_stand_in_this_tick(self, may: bool) -> None:
        """Let the library's tick stand for election, or keep it from that, whatever the time."""
        self._SyncObj__raftElectionDeadline = 0.0 if may else math.inf

    def store_vote(self, term: int, node_id: str | None) -> None:
        """Set term and vote; durable before this returns, thus before any answer (figure 2)."""
        self._SyncObj__setCurrentTerm(term, node_id)

    def _SyncObj__setCurrentTerm(self, term: int, node_id: str | None) -> None:  # noqa: N802
        with disk_errors():
            self.ballot.store(term=term, vote=node_id)
        self._SyncObj__raftCurrentTerm = term
        self._SyncObj__votedForNodeId = node_id

    def become_follower(self, term: int, leader: Node | None) -> None:
        """Follow, in `term`, which must not be lower than the current one (paper, 5.1)."""
        if term > self.term:
            self.store_vote(term, None)
        self._SyncObj__setState(FOLLOWER)
        self.leader = leader

    # --- the log -----------------------------------------------------------------------------
    @property
    def first_index(self) -> int:
        """Index of the oldest entry kept; it and all before it are committed."""
        return int(self.log[0][1])

    @property
    def last_index(self) -> int:
        """Index of the newest entry."""
        return int(self.log[-1][1])

    @property
    def last_term(self) -> int:
        """Term of the newest entry."""
        return int(self.log[-1][2])

    @property
    def durable_index(self) -> int:
        """Index of the last entry that survives a power cut."""
        return self.log.durable_index

    @property
    def log_bytes(self) -> int:
        """Size of the entries in the log."""
        return self.log.size_bytes

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`; None if it is not in the log (any more or yet)."""
        at = index - self.first_index
        if at < 0 or at >= len(self.log):
            return None
        return int(self.log[at][2])

    def entries_from(self, index: int, count: int, max_bytes: int | None = None) -> list[Entry]:
        """Copy up to `count` entries from `index` on, at least one, up to about `max_bytes`."""
        at = index - self.first_index
        if at < 0:
            return []
        entries = self.log[at : at + count]
        if max_bytes is not None:
            total = 0
            for position, entry in enumerate(entries):
                total += len(entry[0])
                if total >= max_bytes:
                    return entries[: position + 1]
        return entries

    def within_bytes(self, index: int, end: int, max_bytes: int) -> int:
        """Give the lowest index from `index` on from which the entries up to `end` fit."""
        first = self.first_index
        while end > max(index, first):
            max_bytes -= len(self.log[end - first][0])
            if max_bytes < 0:
                break
            end -= 1
        return end

    def _SyncObj__getEntries(  # noqa: N802
        self, index: int, count: int | None = None, max_bytes: int | None = None
    ) -> list[Entry]:
        """Show the library's rule of commitment nothing that is not durable here.

        It counts this replica for every entry that it is shown (paper, 5.3), and shown none it
        leaves the commit index where it is.
        """
        return [] if index > self.durable_index else self.entries_from(index, count or 1)

    def add_entry(self, command: bytes, index: int, term: int) -> None:
        """Append an entry; the next flush makes it durable."""
        self.log.add(command, index, term)

    def truncate_from(self, index: int) -> None:
        """Drop the entry at `index` and all after it; refuses to touch committed ones."""
        if index <= self.commit_index:
            raise IntegrityError(
                f"the leader's log contradicts the committed entry {index} "
                f"(commit index {self.commit_index})"
            )
        self.log.deleteEntriesFrom(index - self.first_index)

    def trim_to(self, index: int) -> None:
        """Drop all entries before `index`, which stays as the first one."""
        at = index - self.first_index
        if at > 0:
            self.log.deleteEntriesTo(at)

    def restart_log(self, index: int, term: int) -> None:
        """Replace the whole log by the point where a snapshot ends."""
        self.log.restart(index, term)

    # --- progress ----------------------------------------------------------------------------
    @property
    def commit_index(self) -> int:
        """Highest index known to be committed."""
        return int(self._SyncObj__raftCommitIndex)

    @commit_index.setter
    def commit_index(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = index

    @property
    def delivered_index(self) -> int:
        """Highest index handed to the listener."""
        return int(self._SyncObj__raftLastApplied)

    @delivered_index.setter
    def delivered_index(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    @property
    def next_index(self) -> dict[Node, int]:
        """Next index to send, by peer (paper, figure 2)."""
        return cast("dict[Node, int]", self._SyncObj__raftNextIndex)

    @property
    def counted_index(self) -> dict[Node, int]:
        """Highest index for which each peer counts towards a commit (paper, figure 2)."""
        return cast("dict[Node, int]", self._SyncObj__raftMatchIndex)

    @property
    def own_first_index(self) -> int | None:
        """Index of the no-op this replica appended when it last began to lead."""
        return cast("int | None", self._SyncObj__noopIDx)

    @property
    def last_response_s(self) -> dict[Node, float]:
        """When each peer last answered this leader."""
        return cast("dict[Node, float]", self._SyncObj__lastResponseTime)

    # --- peers -------------------------------------------------------------------------------
    @property
    def majority(self) -> int:
        """Number of replicas, this one included, that make a majority."""
        return (len(self._SyncObj__otherNodes) + 1) // 2 + 1

    @property
    def linked(self) -> set[Node]:
        """Peers to which there is a link now."""
        return cast("set[Node]", self._SyncObj__connectedNodes)

    @property
    def transport(self) -> Any:
        """The transport in use."""
        return self._SyncObj__transport

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Hand a message to the link to `node`; False if there is none."""
        return bool(self.transport.send(node, message))

    def unsent_bytes(self, node: Node) -> int:
        """Bytes that wait for the link to `node`. May be called from any thread."""
        return int(self.transport.unsent_bytes(node))

    def rejuvenate_links(self, span_s: float) -> None:
        """Do not count a span of time towards the age at which silent links are dropped."""
        self.transport.rejuvenate(span_s)

    def poll(self) -> None:
        """Take in what has arrived, without waiting."""
        self._poller.poll(0.0)

    def heartbeat_due_at(self, at_s: float) -> None:
        """Let the tick send appends when `at_s` has passed."""
        self._SyncObj__newAppendEntriesTime = at_s

    # --- waking and closing ------------------------------------------------------------------
    def wake(self) -> None:
        """Interrupt the wait for network events. May be called from any thread."""
        with self._pipe_lock:  # else a closed descriptor's number could be somebody else's by now
            if self._pipe_open:
                # A full pipe raises, and is as good a reason to wake up.
                with contextlib.suppress(BlockingIOError):
                    self._SyncObj__pipeNotifier.notify()

    def close(self) -> None:
        """Close the links and the notifier's pipe, which the library forgets."""
        with self._pipe_lock:
            self._pipe_open = False
            notifier = self._SyncObj__pipeNotifier
            os.close(notifier._PipeNotifier__pipeR)
            os.close(notifier._PipeNotifier__pipeW)
        self.transport.destroy()
