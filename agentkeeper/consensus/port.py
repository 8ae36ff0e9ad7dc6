"""The port between the daemon and its Raft engine.

An engine orders opaque payloads and nothing else. It runs on a thread of its own and tells the
rest of the daemon what happened through one `Listener`; what it is asked for, it is asked for
through `Engine`, from any thread. Nothing here knows what a payload means.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Role(enum.StrEnum):
    """What a replica is in its current term (Raft paper, section 5.1)."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Outcome(enum.Enum):
    """How a proposal ended. Every proposal ends as exactly one of these, by its deadline."""

    COMMITTED = "committed"
    """Committed; the listener has been told of the entry before this outcome."""
    REJECTED = "rejected"
    """Definitely not in the log, now or ever: safe to propose again."""
    UNKNOWN = "unknown"
    """May or may not commit, now or later. Only a retry that the state machine can recognise
    is safe."""


class Transfer(enum.StrEnum):
    """How an attempt to hand leadership over ended."""

    DONE = "done"
    """This replica leads no longer."""
    NOT_LEADING = "not leading"
    """It did not lead to begin with."""
    ALONE = "alone"
    """There is no other replica."""
    UNKNOWN = "unknown"
    """No other replica has the given name."""
    NOT_CONNECTED = "not connected"
    NO_VOTE = "no vote"
    """It came with an empty disk, and has not caught up yet."""
    SILENT = "silent"
    """It did not answer in time, so nothing was done."""
    BEHIND = "behind"
    """It did not catch up in time, so nothing was done."""
    GAVE_UP = "gave up"
    """It was told to take over, and did not in time; this replica leads on."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What this replica knows of another one."""

    connected: bool
    match_index: int | None
    """Highest log index known to be stored by the peer; None unless this replica leads."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A consistent picture of the engine, taken between two of its steps."""

    node_id: str
    role: Role
    term: int
    leader_id: str | None
    commit_index: int
    delivered_index: int
    """Index of the last entry handed to the listener."""
    last_log_index: int
    peers: Mapping[str, PeerStatus]
    durable_index: int = 0
    """Index of the last entry stored on this replica's disk."""
    first_log_index: int = 1
    """Index of the oldest entry kept."""
    log_bytes: int = 0
    """Size of the entries kept."""
    proposals: int = 0
    """How many proposals have no outcome yet."""
    voter: bool = True
    """Whether this replica votes and counts; one that came empty does not before it caught up."""
    trouble: str = ""
    """Why this replica cannot take its full part now (a full disk, not a member yet), in words."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """What was dropped on the links between replicas, counted by reason."""


class Listener(Protocol):
    """Told what happens, in order, on the engine's thread. Must be quick and never block.

    A listener that raises has missed something, so the engine then stops instead of going on with
    a hole; only of `received` it is logged and no more.
    """

    def committed(self, index: int, term: int, payload: bytes) -> None:
        """Deliver the committed entry at `index`; indexes rise, each at most once per restore.

        The engine's own entries (a new leader's no-op) are not delivered, so indexes may skip.
        """

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        """Replace everything delivered so far by `snapshot`, which holds all up to `index`."""

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        """Report a new role, term or known leader."""

    def received(self, sender_id: str, payload: bytes) -> None:
        """Deliver a message that another replica sent with `Engine.send`."""

    def snapshot_wanted(self) -> None:
        """The log has grown: answer, some time soon, with `Engine.save_snapshot`."""

    def failed(self, reason: str) -> None:
        """The engine has stopped for good and cannot serve; the daemon must exit."""


class Engine(Protocol):
    """A replica's consensus engine. All methods may be called from any thread and return at once.

    Callbacks run on the engine's thread (on the caller's, once the engine has ended), each exactly
    once, no later than its deadline plus one step of the engine.
    """

    def start(self, listener: Listener) -> None:
        """Start the engine's thread, replay what is stored, bind the transport.

        Raises `StartError` if the address cannot be bound or the stored data cannot be read.
        """

    def stop(self) -> None:
        """Stop the thread and close links and files. Blocks until done; harmless when repeated."""

    def propose(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Append `payload` to the log if this replica leads, REJECTED otherwise.

        Followers never forward proposals by themselves: that is the caller's business.
        """

    def read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        """Find an index such that a state at or past it is linearizable as of this call.

        Leader only; None when this replica does not lead, or could not confirm it with a majority
        in time (ReadIndex, Raft thesis 6.4). One round serves all reads then waiting.
        """

    def send(self, node_id: str, payload: bytes) -> bool:
        """Send a message to another replica over the Raft link, best effort, at most once.

        False if there is no link at the moment. Order between two replicas is kept.
        """

    def save_snapshot(self, index: int, snapshot: Iterable[bytes]) -> None:
        """Store `snapshot`, the state at `index` (delivered before), and drop the log below it.

        The pieces are taken one by one, on a thread of the engine's own.
        """

    def transfer_leadership(
        self, to: str | None = None, on_ended: Callable[[Transfer], None] | None = None
    ) -> None:
        """Hand leadership to the peer `to`, or to the furthest, with the whole log (thesis 3.10).

        It has an election timeout to answer and come near, meanwhile all goes on; then another in
        which proposals are REJECTED. If that is not enough, this replica gives up and leads on.
        What is asked meanwhile, to another peer, waits for its turn.
        """

    def status(self) -> EngineStatus:
        """Report the engine's state as of its last step."""


class StartError(Exception):
    """The engine cannot start; the message says why and what to do."""
