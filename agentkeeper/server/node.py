"""The composition root: one replica, from settings to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import secrets
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import StartError
from agentkeeper.core import records
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.commands import Announce
from agentkeeper.search.model.locate import ModelFiles, locate
from agentkeeper.search.worker.process import EmbeddingProcess
from agentkeeper.server.build import BUILD
from agentkeeper.server.caller import Caller
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.cluster_view import ClusterView
from agentkeeper.server.config import Address, Settings
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.app import HttpServer
from agentkeeper.server.metrics import CallCounts, Metrics
from agentkeeper.server.rpc import BindError, RpcServer, Surroundings
from agentkeeper.server.stack import Stack

log = structlog.get_logger(__name__)

READY_TIMEOUT_S: Final = 1.0
ANNOUNCE_PAUSE_S: Final = 0.5
DRAIN_S: Final = 5.0
VECTOR_CACHE: Final = Path("search", "vectors.sqlite")
"""Vectors by text, in the data folder: may be removed at any time."""
HANDOVER_S: Final = 3.0
"""How long to try: one who is asked may not answer, and what another asked for goes first."""


class Node:
    """One replica. `serve` runs it until it is told to stop or fails."""

    def __init__(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._loop = loop
        self._failure = ""
        self._stopping = asyncio.Event()
        config = _raft_config(settings)
        self._engine = RaftEngine(config)
        self._model = _find_model(settings)
        self._stack = Stack(
            node_id=settings.node_id,
            engine=self._engine,
            clock=ClusterClock(time.monotonic, _wall_ms),
            draw_id=_draw_id,
            draw_attempt=_draw_attempt,
            fail=self._fail,
            other_ids=config.other_ids,
            make_embedder=self._make_embedder if self._model else None,
        )
        calls = CallCounts()
        around = Surroundings(
            applied_index=lambda: self._stack.machine.applied_index,
            leader_endpoint=self._stack.leader_endpoint,
            count=calls.begun,
            ended=calls.ended,
            closing=self._stack.closing,
            turns=self._stack.turns,
        )
        self._metrics = Metrics(
            stack=self._stack,
            status=self._engine.status,
            observation=self._engine.observation,
            calls=calls,
            around=around,
            data_dir=settings.data_dir,
        )
        self._http = HttpServer(
            self._stack, self._metrics, self.probe_readiness, settings.http_names
        )
        self._rpc = RpcServer(self._stack.services(), around)

    async def serve(self) -> int:
        """Start, serve until SIGTERM or SIGINT, stop cleanly. Returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        ticking = self._loop.create_task(self._stack.run_clock())
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
            await self._stack.replica.read(Caller(deadline_s=self._loop.time() + READY_TIMEOUT_S))
        except CallError as error:
            return error.message
        return ""

    def not_ready_reason(self) -> str:
        """Why linearizable calls can't be served, as far as this replica knows by itself."""
        return self._stack.not_ready_reason()

    def view(self) -> ClusterView:
        """This replica's view of the cluster."""
        return self._stack.view()

    async def _start(self) -> None:
        settings = self._settings
        for setting, path in settings.exposed_secrets():
            log.warning("others than its owner may read it", setting=setting, path=str(path))
        self._metrics.start()
        await asyncio.to_thread(self._engine.start, self._stack.listener)
        await self._start_http()
        if not settings.peers:
            # Whoever reaches a daemon alone can use it at once.
            await self._established_or_stopping()
            if self._stopping.is_set():
                return
        await self._rpc.start(str(settings.addr))
        self._stack.replica.spawn(self._announce())
        self._stack.replica.index.warm_up()
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

    def _make_embedder(
        self, on_change: Callable[[], None], on_embedded: Callable[[float], None]
    ) -> EmbeddingProcess:
        assert self._model is not None
        folder = self._settings.data_dir
        cache = None if folder is None else folder / VECTOR_CACHE
        return EmbeddingProcess(self._model, cache, on_change=on_change, on_embedded=on_embedded)

    async def _established_or_stopping(self) -> None:
        leadership = self._stack.leadership
        stopping = self._loop.create_task(self._stopping.wait())
        while not leadership.established and not self._stopping.is_set():
            leadership.changed.clear()
            changed = self._loop.create_task(leadership.changed.wait())
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
        self._stack.refuse_calls()
        await self._rpc.drain(DRAIN_S)
        if self._settings.peers and not self._failure:
            await self._hand_over_leadership()
        # Last, as gRPC's own stop breaks off new calls without a word: until then they are told.
        await self._rpc.stop()
        await asyncio.to_thread(self._engine.stop)
        await self._http.stop()
        await self._stack.replica.index.stop()
        self._stack.stop()
        self._metrics.stop()

    async def _hand_over_leadership(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_S):
                await self._stack.moves.resign()

    async def _announce(self) -> None:
        """Tell the cluster where clients reach this replica, and what its build is.

        What is known of it as of now counts: the state at the start may be from before another
        build ran here.
        """
        replica, node_id = self._stack.replica, self._settings.node_id
        body = Announce(node_id, self._settings.endpoint(), BUILD, ENCODING)
        while True:
            try:
                state = await replica.read(Caller())
                if state.replicas.get(node_id) == records.Replica(*body):
                    return
                await replica.submit(body, Caller())
            except CallError as error:
                log.debug("can't announce yet", error=error.message)
                await asyncio.sleep(ANNOUNCE_PAUSE_S)

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._stopping.set()


def _find_model(settings: Settings) -> ModelFiles | None:
    """The model to use, with what that takes here loaded; says so if there is none."""
    located = locate(settings.model, settings.data_dir)
    if located.model is None:
        if located.tried:
            log.warning("agents are found by words only: no model", tried=located.tried)
        return None
    try:
        importlib.import_module("agentkeeper.search.vectors")
    except Exception as error:  # a broken installation; all else goes on without it
        log.warning("agents are found by words only: can't import", error=repr(error))
        return None
    return located.model


def _raft_config(settings: Settings) -> RaftConfig:
    timeout_ms = settings.election_timeout_ms
    bind = settings.raft_bind and str(Address.parse(settings.raft_bind, "--raft-bind"))
    return RaftConfig(
        node_id=settings.node_id,
        peers=dict(settings.peers),
        data_dir=settings.data_dir,
        bind_address=bind or None,
        secret=settings.raft_secret(),
        tls=settings.raft_tls(),
        durability=settings.durability,
        bootstrap=settings.bootstrap,
        election_timeout_ms=(timeout_ms, 2 * timeout_ms),
        heartbeat_ms=settings.heartbeat_ms,
        snapshot_entries=settings.snapshot_entries,
    )


def _tame_garbage_collection() -> None:
    """Visit the oldest generation rarely: with a large state, one pass over it stalls all calls.

    The state's records form no cycles; what does is short-lived and found in the younger ones.
    """
    gc.freeze()
    gc.set_threshold(5_000, 50, 1_000)


def _draw_attempt() -> int:
    return secrets.randbits(52) + 1


def _draw_id() -> str:
    return uuid.uuid4().hex


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
