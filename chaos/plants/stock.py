"""PySyncObj as it comes, behind the port: its journal, its votes, its links, its rules.

What is put around it lets the daemon run, and is as kind as can be: each proposal has a deadline,
what the library is not sure of is unknown, reads wait for an empty entry of their own, and its
log is never compacted (with a journal but no dump it would lose what it drops).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node, TCPNode

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.port import (
    EngineStatus,
    Listener,
    Outcome,
    PeerStatus,
    Role,
    StartError,
    Transfer,
)

logger = logging.getLogger(__name__)

TICK_S = 0.01
NEVER = 10**9
TRANSFER_S = 2.0
ROLES = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
OUTCOMES = {
    FAIL_REASON.SUCCESS: Outcome.COMMITTED,
    FAIL_REASON.QUEUE_FULL: Outcome.REJECTED,
    FAIL_REASON.MISSING_LEADER: Outcome.REJECTED,
    FAIL_REASON.NOT_LEADER: Outcome.REJECTED,
    FAIL_REASON.REQUEST_DENIED: Outcome.REJECTED,
}
"""All others are unknown."""


class Replicated(SyncObj):  # type: ignore[misc]
    """The library's replica. It replicates calls of `put`; other messages pass it by."""

    def __init__(
        self,
        own: Node,
        others: list[Node],
        conf: SyncObjConf,
        commit: Callable[[int, int, bytes], None],
        receive: Callable[[Node, bytes], None],
    ) -> None:
        self._commit = commit
        self._receive = receive
        super().__init__(own, others, conf)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, payload: bytes) -> None:
        """Deliver an entry."""
        index = self.raftLastApplied + 1
        self._commit(index, self._SyncObj__getEntries(index, 1)[0][2], payload)

    def send(self, node: Node, payload: bytes) -> None:
        """Send something of the daemon's own over the library's link."""
        self._SyncObj__transport.send(node, {"type": "agentkeeper", "payload": payload})

    def _SyncObj__onMessageReceived(self, node: Node, message: Any) -> None:  # noqa: N802
        if message["type"] == "agentkeeper":
            self._receive(node, message["payload"])
        else:
            super()._SyncObj__onMessageReceived(node, message)

    @property
    def role(self) -> Role:
        """What it is."""
        return ROLES[self._SyncObj__raftState]

    @property
    def last_index(self) -> int:
        """Index of its log's last entry."""
        return int(self._SyncObj__raftLog[-1][1])

    def match_index(self, node: Node) -> int | None:
        """What it knows of another one's log, if it leads."""
        return self._SyncObj__raftMatchIndex.get(node) if self._isLeader() else None


@dataclass(eq=False)
class _Open:
    """Something that is owed an answer."""

    deadline_s: float
    answer: Callable[[Any], None]
    late: Any
    """The answer once the time is up."""

    def end(self, result: Any) -> None:
        """Answer the first time, and never again."""
        answer, self.answer = self.answer, lambda _: None
        answer(result)


class StockEngine:
    """Implements `agentkeeper.consensus.port.Engine`, on a thread that ticks the library."""

    def __init__(self, config: RaftConfig) -> None:
        """Nothing is opened before `start`."""
        self.observation = Observation(config.other_ids)
        self._config = config
        addresses = dict(config.peers)
        addresses[config.node_id] = config.bind_address or addresses[config.node_id]
        self._nodes = {node_id: TCPNode(address) for node_id, address in addresses.items()}
        self._ids = {node: node_id for node_id, node in self._nodes.items()}
        self._asked: deque[Callable[[], None]] = deque()
        self._open: set[_Open] = set()
        self._delivered_index = 0
        self._told: tuple[Role, int, str | None] | None = None
        self._status = EngineStatus(config.node_id, Role.FOLLOWER, 0, None, 0, 0, 0, {})
        self._stopping = threading.Event()
        self._raft: Replicated
        self._listener: Listener
        self._thread = threading.Thread(target=self._run, name="stock", daemon=True)

    def start(self, listener: Listener) -> None:
        """Implement `Engine.start`."""
        self._listener = listener
        folder, own = self._config.data_dir, self._nodes[self._config.node_id]
        if folder is None:
            raise StartError("the library keeps no votes without a journal")
        folder.mkdir(parents=True, exist_ok=True)
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            bindAddress=own.address,
            journalFile=str(folder / "journal"),
            logCompactionMinEntries=NEVER,
            logCompactionMinTime=NEVER,
        )
        others = [self._nodes[node_id] for node_id in self._config.other_ids]
        self._raft = Replicated(own, others, conf, self._commit, self._receive)
        self._thread.start()

    def stop(self) -> None:
        """Implement `Engine.stop`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._ask()
                self._raft.doTick(TICK_S)
            except Exception:  # the library's own thread logs it and goes on as well
                logger.exception("a tick failed")
                time.sleep(TICK_S)
            self._look()
        self._ask()
        for waiting in self._open:
            waiting.end(waiting.late)
        self._raft.destroy()

    def _ask(self) -> None:
        while self._asked:
            self._asked.popleft()()

    def _look(self) -> None:
        """Tell what has changed, and answer what is late."""
        raft = self._raft
        leader = raft._getLeader()
        leader_id = None if leader is None else self._ids.get(leader)
        self._status = EngineStatus(
            node_id=self._config.node_id,
            role=raft.role,
            term=raft.raftCurrentTerm,
            leader_id=leader_id,
            commit_index=raft.raftCommitIndex,
            delivered_index=self._delivered_index,
            last_log_index=raft.last_index,
            durable_index=raft.last_index,
            proposals=len(self._open),
            peers={
                node_id: PeerStatus(raft.isNodeConnected(node), raft.match_index(node))
                for node_id, node in self._nodes.items()
                if node_id != self._config.node_id
            },
        )
        now = (raft.role, raft.raftCurrentTerm, leader_id)
        if now != self._told:
            self._told = now
            self._listener.role_changed(*now)
        now_s = time.monotonic()
        for waiting in [waiting for waiting in self._open if waiting.deadline_s < now_s]:
            self._end(waiting, waiting.late)

    def _end(self, waiting: _Open, result: Any) -> None:
        self._open.discard(waiting)
        waiting.end(result)

    # --- from the library ------------------------------------------------------------------------
    def _commit(self, index: int, term: int, payload: bytes) -> None:
        if payload:
            self._delivered_index = index
            self._listener.committed(index, term, payload)

    def _receive(self, node: Node, payload: bytes) -> None:
        self._listener.received(self._ids[node], payload)

    # --- requests --------------------------------------------------------------------------------
    def propose(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Implement `Engine.propose`."""
        waiting = _Open(time.monotonic() + timeout_s, on_outcome, Outcome.UNKNOWN)

        def ended(_: object, error: int) -> None:
            self._end(waiting, OUTCOMES.get(error, Outcome.UNKNOWN))

        self._put(payload, waiting, Outcome.REJECTED, ended)

    def read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        """Implement `Engine.read_index`, by an entry: all that was committed comes before it."""
        waiting = _Open(time.monotonic() + timeout_s, on_result, None)

        def ended(_: object, error: int) -> None:
            success = error == FAIL_REASON.SUCCESS
            self._end(waiting, self._delivered_index if success else None)

        self._put(b"", waiting, None, ended)

    def _put(
        self, payload: bytes, waiting: _Open, refusal: Any, ended: Callable[[object, int], None]
    ) -> None:
        def put() -> None:
            if self._raft._isLeader() and not self._stopping.is_set():
                self._open.add(waiting)
                self._raft.put(payload, callback=ended)
            else:
                waiting.end(refusal)

        self._asked.append(put)

    def send(self, node_id: str, payload: bytes) -> bool:
        """Implement `Engine.send`."""
        peer = self._status.peers.get(node_id)
        if peer is None or not peer.connected:
            return False
        self._asked.append(lambda: self._raft.send(self._nodes[node_id], payload))
        return True

    def save_snapshot(self, index: int, snapshot: Iterable[bytes]) -> None:
        """Implement `Engine.save_snapshot`: it is of no use here, and never asked for."""

    def transfer_leadership(
        self, to: str | None = None, on_ended: Callable[[Transfer], None] | None = None
    ) -> None:
        """Implement `Engine.transfer_leadership` by the library's, which tells little of it."""
        waiting = _Open(
            time.monotonic() + TRANSFER_S,
            lambda _: on_ended(self._moved()) if on_ended else None,
            None,
        )

        def transfer() -> None:
            self._open.add(waiting)
            self._raft.transferLeadership(self._nodes.get(to or ""))

        self._asked.append(transfer)

    def _moved(self) -> Transfer:
        return Transfer.GAVE_UP if self._raft._isLeader() else Transfer.DONE

    def status(self) -> EngineStatus:
        """Implement `Engine.status`."""
        return self._status
