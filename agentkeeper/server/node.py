"""The composition root: one replica, from settings to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import structlog

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, StartError
from agentkeeper.core import records
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.commands import Announce
from agentkeeper.core.queue import ToolSet
from agentkeeper.core.snapshot import pack_snapshot
from agentkeeper.server import convert
from agentkeeper.server.agent_index import AgentIndex
from agentkeeper.server.caller import Caller
from agentkeeper.server.claims import ClaimWaiters
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.cluster_view import ClusterView, endpoint_of, view_of
from agentkeeper.server.config import Settings
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.app import HttpServer
from agentkeeper.server.leadership import TICK_S, Leadership
from agentkeeper.server.listener import LoopListener
from agentkeeper.server.machine import Applied, Machine
from agentkeeper.server.messages import Message, pack_message
from agentkeeper.server.metrics import Metrics
from agentkeeper.server.own_session import OwnSession
from agentkeeper.server.proposer import Proposer
from agentkeeper.server.reads import ReadRounds
from agentkeeper.server.replica import Notices, Replica, shutting_down
from agentkeeper.server.rpc import BindError, RpcServer, Surroundings
from agentkeeper.server.services.cluster import ClusterService
from agentkeeper.server.services.elections import ElectionService
from agentkeeper.server.services.entitlements import EntitlementsService
from agentkeeper.server.services.leases import LeaseService
from agentkeeper.server.services.method import Method
from agentkeeper.server.services.registry import RegistryService
from agentkeeper.server.services.sessions import SessionService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.watch import WatchHub, no_leader_cut

log = structlog.get_logger(__name__)

PROPOSAL_TIMEOUT_S: Final = 5.0
LEADERLESS_CUT_S: Final = 5.0
"""Watches on a replica without a leader are cut after this long, so that they resume elsewhere."""
READY_TIMEOUT_S: Final = 1.0
ANNOUNCE_PAUSE_S: Final = 0.5
DRAIN_S: Final = 5.0
HANDOVER_S: Final = 2.0


class Node:
    """One replica. `serve` runs it until it is told to stop or fails."""

    def __init__(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._loop = loop
        self._failure = ""
        self._stopping = asyncio.Event()
        self._closing = asyncio.Event()
        self._background: set[asyncio.Task[Any]] = set()
        self._engine = RaftEngine(_raft_config(settings))
        self._machine = Machine(on_failure=self._fail)
        clock = ClusterClock(time.monotonic, _wall_ms)
        self._proposer = Proposer(self._put_into_log, self._send, clock.stamp)
        self._reads = ReadRounds(self._read_index, self._send)
        self._leadership = Leadership(
            node_id=settings.node_id,
            machine=self._machine,
            proposer=self._proposer,
            reads=self._reads,
            clock=clock,
            propose_takeover=self._propose_takeover,
        )
        self._hub = WatchHub(self._machine, lambda e: convert.event(e).SerializeToString())
        self._replica = Replica(
            node_id=settings.node_id,
            machine=self._machine,
            proposer=self._proposer,
            reads=self._reads,
            hub=self._hub,
            claims=ClaimWaiters(self._machine),
            own_session=OwnSession(settings.node_id, self._proposer, _draw_id),
            index=AgentIndex(),
            notices=Notices(),
            draw_id=_draw_id,
            draw_attempt=_draw_attempt,
            leader_known=lambda: self._leadership.leader_id is not None,
            closing=self._closing,
            background=self._background,
        )
        self._machine.on_applied += [
            self._proposer.applied,
            self._leadership.applied,
            self._observe_events,
        ]
        self._machine.on_restored.append(self._observe_restore)
        self._metrics = Metrics(lambda: self._machine.state)
        self._http = HttpServer(self._metrics, self.probe_readiness)
        self._rpc = RpcServer(
            self._services(),
            Surroundings(
                applied_index=lambda: self._machine.applied_index,
                leader_endpoint=self._leader_endpoint,
                count=self._metrics.count_call,
                closing=self._closing,
            ),
        )

    async def serve(self) -> int:
        """Start, serve until SIGTERM or SIGINT, stop cleanly. Returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        ticking = self._loop.create_task(self._tick())
        try:
            await self._start()
            await self._stopping.wait()
        except (StartError, BindError, OSError) as error:
            log.error("can't start", error=str(error))
            self._failure = self._failure or str(error)
        finally:
            await self._stop()
            ticking.cancel()
            for number in (signal.SIGTERM, signal.SIGINT):
                # Asked twice, it still ends with its own exit code.
                self._loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
        if self._failure:
            log.error("stopped by a failure", reason=self._failure)
            return 1
        log.info("stopped")
        return 0

    async def probe_readiness(self) -> str:
        """Why a linearizable call can't be served now; empty if one just was."""
        reason = self.not_ready_reason()
        if reason:
            return reason
        try:
            await self._replica.read(Caller(deadline_s=self._loop.time() + READY_TIMEOUT_S))
        except CallError as error:
            return error.message
        return ""

    def not_ready_reason(self) -> str:
        """Why linearizable calls can't be served, as far as this replica knows by itself."""
        if self._closing.is_set():
            return "shutting down"
        if self._leadership.leader_id is None:
            return "no leader is known"
        if self._leadership.may_lead and not self._leadership.established:
            return "taking over as leader"
        return ""

    def view(self) -> ClusterView:
        """This replica's view of the cluster."""
        return view_of(self._engine.status(), self._machine.state, self.not_ready_reason())

    def _services(self) -> dict[str, list[Method]]:
        replica = self._replica
        return {
            "RegistryService": RegistryService(replica).methods(),
            "LeaseService": LeaseService(replica).methods(),
            "ElectionService": ElectionService(replica).methods(),
            "EntitlementsService": EntitlementsService(replica).methods(),
            "TaskService": TaskService(replica).methods(),
            "SessionService": SessionService(replica).methods(),
            "ClusterService": ClusterService(replica, self.view).methods(),
        }

    async def _start(self) -> None:
        settings = self._settings
        listener = LoopListener(
            loop=self._loop,
            machine=self._machine,
            leadership=self._leadership,
            proposer=self._proposer,
            reads=self._reads,
            save_snapshot=self._save_snapshot,
            fail=self._fail,
        )
        await asyncio.to_thread(self._engine.start, listener)
        await self._start_http()
        if not settings.peers:
            # Whoever reaches a daemon alone can use it at once.
            await self._established_or_stopping()
            if self._stopping.is_set():
                return
        await self._rpc.start(str(settings.addr))
        self._replica.spawn(self._announce())
        _tame_garbage_collection()
        log.info(
            "serving",
            node=settings.node_id,
            grpc=str(settings.addr),
            http=str(settings.metrics_addr),
            endpoint=settings.endpoint(),
            replicas=len(settings.peers) or 1,
            data_dir=str(settings.data_dir or "") or "none: in memory only",
        )

    async def _established_or_stopping(self) -> None:
        stopping = self._loop.create_task(self._stopping.wait())
        while not self._leadership.established and not self._stopping.is_set():
            self._leadership.changed.clear()
            changed = self._loop.create_task(self._leadership.changed.wait())
            await asyncio.wait((changed, stopping), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        stopping.cancel()

    async def _start_http(self) -> None:
        address = self._settings.metrics_addr
        if not self._settings.metrics_addr_explicit and address.port == self._settings.addr.port:
            log.warning("no HTTP: its default port is wanted for gRPC", address=str(address))
            return
        try:
            await self._http.start(address.host, address.port)
        except OSError as error:
            if self._settings.metrics_addr_explicit:
                raise OSError(f"can't listen for HTTP on {address}: {error}") from error
            log.warning("no HTTP: its default address is taken", address=str(address))

    async def _stop(self) -> None:
        """Refuse new calls, finish those under way, hand leadership on, close."""
        log.info("stopping")
        self._closing.set()
        self._hub.cut(shutting_down)
        await self._rpc.drain(DRAIN_S)
        if self._settings.peers and not self._failure:
            await self._hand_over_leadership()
        # Last, as gRPC's own stop breaks off new calls without a word: until then they are told.
        await self._rpc.stop()
        await asyncio.to_thread(self._engine.stop)
        await self._http.stop()
        for task in tuple(self._background):
            task.cancel()

    async def _hand_over_leadership(self) -> None:
        self._engine.transfer_leadership()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_S):
                while self._leadership.may_lead:
                    self._leadership.changed.clear()
                    await self._leadership.changed.wait()

    async def _announce(self) -> None:
        """Tell the cluster where clients reach this replica, until that is in the state."""
        node_id = self._settings.node_id
        body = Announce(node_id, self._settings.endpoint(), version("agentkeeper"), ENCODING)
        while self._machine.state.replicas.get(node_id) != records.Replica(*body):
            try:
                await self._replica.submit(body, Caller())
            except CallError as error:
                log.debug("can't announce yet", error=error.message)
                await asyncio.sleep(ANNOUNCE_PAUSE_S)

    async def _tick(self) -> None:
        try:
            while True:
                self._leadership.tick()
                self._proposer.sweep()
                since_s = self._leadership.leaderless_since_s
                if not self._closing.is_set():
                    lost = since_s is not None and self._loop.time() - since_s > LEADERLESS_CUT_S
                    self._hub.cut(no_leader_cut if lost else None)
                await asyncio.sleep(TICK_S)
        except Exception as error:
            log.exception("the clock's tick failed")
            self._fail(f"the clock's tick failed: {error}")

    def _observe_events(self, applied: Applied) -> None:
        if not applied.events:
            return
        self._hub.wake()
        queued: Counter[ToolSet] = Counter()
        for event in applied.events:
            self._replica.index.observe(event)
            if event.topic.startswith("lease."):
                self._replica.notices.tell(event.subject)
            elif event.topic == "agent.died":
                self._replica.notices.tell(event.subject)
                self._replica.claims.wake_agent(event.subject)
            elif event.topic in ("task.created", "task.requeued"):
                task = self._machine.state.tasks.get(event.subject)
                if task is not None:
                    queued[task.required_tools] += 1
        if queued:
            self._replica.claims.dispatch(queued)

    def _observe_restore(self) -> None:
        # What happened between is not told one by one: whoever waits for anything must look.
        self._replica.index.rebuild(self._machine.state)
        self._hub.wake()
        self._replica.notices.tell_all()
        self._replica.claims.wake_all()

    def _save_snapshot(self) -> None:
        captured = self._machine.capture()

        async def pack_and_save() -> None:
            began_s = self._loop.time()
            data = await asyncio.to_thread(pack_snapshot, captured)
            self._engine.save_snapshot(captured.log_index, data)
            took_ms = int((self._loop.time() - began_s) * 1000)
            log.info("snapshot", index=captured.log_index, bytes=len(data), pack_ms=took_ms)

        self._replica.spawn(pack_and_save())

    def _leader_endpoint(self) -> str:
        return endpoint_of(self._machine.state, self._leadership.leader_id or "")

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._stopping.set()

    def _propose_takeover(self, payload: bytes) -> None:
        self._put_into_log(payload, self._leadership.takeover_ended)

    def _put_into_log(self, payload: bytes, ended: Callable[[Outcome], None]) -> None:
        def on_outcome(outcome: Outcome) -> None:
            self._hand_over(ended, outcome)

        self._engine.propose(payload, PROPOSAL_TIMEOUT_S, on_outcome)

    def _read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        self._engine.read_index(timeout_s, lambda index: self._hand_over(on_result, index))

    def _send(self, node_id: str, message: Message) -> bool:
        return self._engine.send(node_id, pack_message(message))

    def _hand_over(self, callback: Callable[..., None], *args: object) -> None:
        """Call back on the event loop, unless it is closed already."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *args)


def _raft_config(settings: Settings) -> RaftConfig:
    timeout_ms = settings.election_timeout_ms
    return RaftConfig(
        node_id=settings.node_id,
        peers=dict(settings.peers),
        data_dir=settings.data_dir,
        bind_address=settings.raft_bind or None,
        secret=settings.raft_secret(),
        election_timeout_ms=(timeout_ms, 2 * timeout_ms),
        heartbeat_ms=settings.heartbeat_ms,
        snapshot_entries=settings.snapshot_entries,
    )


def _tame_garbage_collection() -> None:
    """Visit the oldest generation rarely: with a large state, one pass over it stalls all calls.

    The state's records form no cycles; what does is short-lived and found in the younger ones.
    """
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)


def _draw_attempt() -> int:
    return secrets.randbits(52) + 1


def _draw_id() -> str:
    return uuid.uuid4().hex


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
