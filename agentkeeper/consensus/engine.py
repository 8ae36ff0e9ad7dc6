"""The Raft engine behind the port: one replica on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pysyncobj.node import Node

from agentkeeper.consensus import limits
from agentkeeper.consensus.assembly import RaftFactory, make_raft
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.disk import Disk
from agentkeeper.consensus.internals import IntegrityError, StorageError, now_s
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.open_requests import OpenRequests
from agentkeeper.consensus.picture import Picture
from agentkeeper.consensus.port import (
    EngineStatus,
    Listener,
    Outcome,
    Role,
    StartError,
    Transfer,
)
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.requests import Budget, call
from agentkeeper.consensus.snapshot_file import Snapshot
from agentkeeper.consensus.transfers import Transfers
from agentkeeper.consensus.transport import PeerNode

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 0.025
"""Longest wait for network events; elections and heartbeats are as punctual as this."""
_SNAPSHOT_RETRY_S = 10.0
"""Time after which a snapshot that was asked for, but not stored, is asked for again."""


class _StoppedError(Exception):
    """The listener failed: the engine must not go on."""


class RaftEngine:
    """Implements `agentkeeper.consensus.port.Engine`.

    Simulations drive it by hand: `open` and `step` instead of `start`, with their own transport.
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        transport: Callable[[Node], Any] | None = None,
        raft_factory: RaftFactory = HardenedRaft,
        disk: Disk | None = None,
        draw_incarnation: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """Make an engine; nothing is opened before `start`.

        Args:
            config: what this replica is.
            transport: makes the transport instead of TCP, given this replica's node.
            raft_factory: makes the replica; tests put other rules there.
            disk: used instead of the data folder.
            draw_incarnation: gives the name by which a new data folder is told from others.
        """
        self._config = config
        self._make_transport = transport
        self._raft_factory = raft_factory
        self._disk = disk
        self._draw_incarnation = draw_incarnation
        self._nodes = {
            node_id: PeerNode(node_id, address) for node_id, address in config.peers.items()
        }
        self._requests: deque[Callable[[], None]] = deque()
        self._awake = False
        self._message_budget = Budget(2**31, limits.MAX_QUEUED_MESSAGE_BYTES)
        self.observation = Observation(config.other_ids)
        """What it notes of its own work; others only read it."""
        self._open = OpenRequests(self.observation)
        self._transfers = Transfers(self._nodes)
        self._told_role: tuple[Role, int, str | None] | None = None
        self._snapshot_asked_s: float | None = None
        self._raft: HardenedRaft | None = None
        self._opened = contextlib.ExitStack()
        self._listener: Listener
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._ended = False
        self._end_lock = threading.Lock()
        self._picture = Picture()

    # --- life ------------------------------------------------------------------------------------
    def start(self, listener: Listener) -> None:
        """Implement `Engine.start`; returns once the stored snapshot has been restored."""
        self.open(listener)
        assert self._raft is not None
        self._raft.snapshots.run_thread(f"raft-{self._config.node_id}-snapshots")
        self._thread = threading.Thread(
            target=self._run, name=f"raft-{self._config.node_id}", daemon=True
        )
        self._thread.start()

    def open(self, listener: Listener) -> None:
        """Open log, snapshot and transport without starting a thread; raises `StartError`."""
        if self._raft is not None or self._ended:
            raise StartError("an engine can be started once only")
        self._listener = listener
        try:
            self._raft = make_raft(
                self._config,
                self._nodes,
                transport=self._make_transport,
                raft_factory=self._raft_factory,
                disk=self._disk,
                draw_incarnation=self._draw_incarnation,
                post=self._post_own,
                delivery=self,
                observation=self.observation,
                opened=self._opened,
            )
            self.observation.opened_index = self._raft.last_index
            self._raft.restore_stored()
        except StartError:
            self._end()
            self._close()
            raise
        except Exception as error:
            self._end()
            self._close()
            what = "stored snapshot cannot be restored"
            if not isinstance(error, _StoppedError):
                what = "Raft engine cannot start"
            raise StartError(f"the {what}: {error}") from error
        self._raft.addOnTickCallback(self._before_wait)
        self._publish()

    def stop(self) -> None:
        """Implement `Engine.stop`. A leadership transfer under way is finished first."""
        self._stopping = True
        if self._thread is None:
            self._end()
            self._close()
        elif self._thread is not threading.current_thread():
            self._wake()
            self._thread.join()

    def _run(self) -> None:
        while not self._ended:
            stopping = self._stopping  # what was asked before `stop` gets one step
            self.step(_LONGEST_WAIT_S)
            if stopping and not self._running().transferring:
                break
        self._end()
        self._close()

    def _end(self) -> None:
        """Answer everyone; does nothing the second time."""
        with self._end_lock:
            if self._ended:
                return
            self._ended = True
        self._picture = self._picture._replace(
            role=Role.FOLLOWER, leader=None, linked=frozenset(), match_index=None
        )
        self._drain()
        self._open.end()
        self._transfers.answer(None)

    def _close(self) -> None:
        """Close links and files; waits for what is being written."""
        try:
            self._opened.close()  # goes on after a step that fails
        except Exception:
            logger.exception("the Raft engine could not be closed cleanly")

    def _fail(self, reason: str) -> None:
        logger.error("the Raft engine stops: %s", reason)
        self._end()
        call(self._listener.failed, reason)

    # --- stepping --------------------------------------------------------------------------------
    def step(self, timeout_s: float = 0.0) -> None:
        """Do everything that is due, then wait for network events up to `timeout_s` seconds."""
        if self._ended or self._raft is None:
            return
        try:
            self._drain()
            self._open.begin_round(self._raft)
            self._open.expire()
            self._raft.doTick(self._wait_s(timeout_s))
            self._raft.flush()  # what the wait brought is vouched for at once
            self.on_progress()
            self._open.answer_reads(self._raft)
            self._transfers.answer(self._raft)
        except IntegrityError as error:
            self._fail(f"going on would be unsafe: {error}")
        except _StoppedError as error:
            self._fail(str(error))
        except StorageError as error:
            self._fail(f"the disk failed, and what it has stored is uncertain: {error}")
        except Exception as error:
            logger.exception("unexpected error in the Raft engine")
            self._fail(f"unexpected error: {error!r}")

    def _drain(self) -> None:
        """Do what has been asked for so far; what that asks for waits for the next step."""
        self._awake = False
        for _ in range(len(self._requests)):
            try:
                request = self._requests.popleft()
            except IndexError:
                return  # another thread drains as well, after the end
            request()

    def _before_wait(self) -> None:
        self.on_progress()
        self._want_snapshot()
        self._publish()

    def _wait_s(self, timeout_s: float) -> float:
        raft = self._running()
        if raft.backlog or self._requests or not timeout_s:
            return 0.0
        if raft.leads and not raft.others and raft.commit_index < raft.last_index and not raft.full:
            return 0.0  # what this step flushes is committed by the next
        next_s = self._open.next_deadline_s()
        if next_s is not None:
            timeout_s = min(timeout_s, max(0.0, next_s - now_s()))
        return timeout_s

    def _running(self) -> HardenedRaft:
        assert self._raft is not None
        return self._raft

    def _post(self, request: Callable[[], None]) -> None:
        """Run `request` on the engine's thread, soon. May be called from any thread."""
        self._requests.append(request)
        self._wake()

    def _post_own(self, completion: Callable[[], None]) -> None:
        """Post what the engine has to do itself, thus never once it has ended."""
        self._post(lambda: None if self._ended else completion())

    def _wake(self) -> None:
        raft = self._raft
        if not self._awake and raft is not None and not self._ended:
            self._awake = True
            raft.wake()

    # --- requests --------------------------------------------------------------------------------
    def propose(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Implement `Engine.propose`. An ended engine answers REJECTED on the caller's thread."""
        proposal = self._open.proposal(payload, timeout_s, on_outcome)
        if proposal is None:
            self._answer_soon(lambda: self._open.refuse(on_outcome))
        else:
            self._answer_soon(lambda: self._open.append(proposal, self._accepting))

    def read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        """Implement `Engine.read_index`. An ended engine answers None on the caller's thread."""
        read = self._open.read(timeout_s, on_result)
        if read is None:
            self._answer_soon(lambda: call(on_result, None))
        else:
            self._answer_soon(lambda: self._open.wait_for_round(read, self._accepting))

    @property
    def _accepting(self) -> HardenedRaft | None:
        return None if self._stopping else self._alive

    @property
    def _alive(self) -> HardenedRaft | None:
        return None if self._ended else self._raft

    def _answer_soon(self, request: Callable[[], None]) -> None:
        self._post(request)
        if self._ended:
            self._drain()  # the engine's thread has ended and may have missed this

    def send(self, node_id: str, payload: bytes) -> bool:
        """Implement `Engine.send`."""
        node, raft = self._nodes.get(node_id), self._raft
        size = len(payload)
        if raft is None or node not in self._picture.linked or self._ended:
            return False
        if size > limits.MAX_PAYLOAD_BYTES or not raft.takes_payloads(node):
            return False
        if not self._message_budget.take(size):
            return False

        def hand_over() -> None:
            self._message_budget.release(size)
            if not self._ended and raft.takes_payloads(node):
                raft.send(node, {"type": "agentkeeper", "payload": payload})

        self._answer_soon(hand_over)
        return True

    def transfer_leadership(
        self, to: str | None = None, on_ended: Callable[[Transfer], None] | None = None
    ) -> None:
        """Implement `Engine.transfer_leadership`."""
        self._answer_soon(lambda: self._transfers.begin(self._alive, to, on_ended))

    def status(self) -> EngineStatus:
        """Implement `Engine.status`."""
        others = [self._nodes[node_id] for node_id in self._config.other_ids]
        refused = {} if self._raft is None else dict(self._raft.refused)
        proposals = self._open.proposals
        return self._picture.status(self._config.node_id, others, refused, proposals)

    # --- snapshots -------------------------------------------------------------------------------
    def save_snapshot(self, index: int, snapshot: Iterable[bytes]) -> None:
        """Implement `Engine.save_snapshot`."""
        self._post(lambda: self._save_snapshot(index, snapshot))

    def _save_snapshot(self, index: int, snapshot: Iterable[bytes]) -> None:
        if self._ended or self._raft is None:
            return

        def stored(success: bool) -> None:
            if success:
                self._snapshot_asked_s = None

        if not self._raft.save_snapshot(index, snapshot, stored):
            # Asked for again after a while: the state may be behind what was delivered.
            logger.info("a snapshot at entry %d is of no use", index)

    def _want_snapshot(self) -> None:
        raft = self._running()
        since = raft.delivered_index - max(1, raft.snapshots.latest_index)
        many = since > self._config.snapshot_entries
        large = since > 0 and raft.log_bytes > limits.SNAPSHOT_LOG_BYTES
        if raft.snapshots.busy or not (many or large):
            return
        if self._snapshot_asked_s is None or now_s() - self._snapshot_asked_s > _SNAPSHOT_RETRY_S:
            self._snapshot_asked_s = now_s()
            self._tell(self._listener.snapshot_wanted)

    # --- what the replica reports ----------------------------------------------------------------
    def on_entry(self, index: int, term: int, payload: bytes | None) -> None:
        """Deliver a committed entry, then tell whoever proposed it."""
        if payload is not None:
            self._tell(self._listener.committed, index, term, payload)
        self._open.committed(index, term)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the listener's state; what became of skipped proposals stays unknown."""
        self._tell(self._listener.restored, snapshot.index, snapshot.term, snapshot.payload)
        self._open.skipped(snapshot.index)

    def on_payload(self, node: Node, payload: bytes) -> None:
        """Pass on a message; a listener that fails here has missed no entry."""
        call(self._listener.received, node.id, payload)

    def on_round(self, number: int) -> None:
        """Let waiting reads take part in a round that is about to be sent."""
        self._open.round_begun(number, self._running())

    def on_progress(self) -> None:
        """Report a change of role, term or leader."""
        raft = self._raft
        if raft is None:
            return
        leader_id = None if raft.leader is None else str(raft.leader.id)
        role = (raft.role, raft.term, leader_id)
        if role == self._told_role:
            return
        if self._told_role is not None and self._told_role[0] is Role.LEADER:
            self._open.deposed(patience_s=self._config.election_timeout_ms[1] / 1000)
        self._told_role = role
        self.observation.leader_known(raft.term, leader_id)
        self._publish()
        self._tell(self._listener.role_changed, *role)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            logger.exception("the listener failed")
            raise _StoppedError(f"the listener failed in {callback.__name__}: {error!r}") from error

    def _publish(self) -> None:
        self._picture = Picture.of(self._running())
