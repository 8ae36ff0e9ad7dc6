"""The daemon that runs on a machine: engine and stack, for real.

What a process would do on three threads (engine, event loop, snapshots) it does in turns, which
the world gives it whenever there is something to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pysyncobj.node import Node

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, Role
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.commands import Announce
from agentkeeper.server.caller import Caller
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.errors import CallError, out_of_time
from agentkeeper.server.machine import Applied
from agentkeeper.server.stack import Stack
from tests.simulation.host import Host, PowerCutError
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import SimulatedTransport

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK_S = 0.05
"""How long an engine waits when nothing happens."""
WAKING_S = 0.002
"""From when an engine's thread has something to do until it runs; what comes meanwhile shares."""
LOOP_WAKING_S = 0.001
"""The same of its event loop."""
LATE_S = 4.0
"""By how much a step on a slow disk may delay what is due."""

Answer = Callable[[bytes | None, CallError | None, int], None]


class SimulatedRaft(HardenedRaft):
    """The real one; only what would wake its thread tells the world instead."""

    durable_known: Callable[[int], None] | None = None

    def wake(self) -> None:
        self.transport.wake()

    def flush(self) -> None:
        super().flush()
        if self.durable_known is not None:
            self.durable_known(self.durable_index)


def make_raft(*args: Any, **kwargs: Any) -> SimulatedRaft:
    raft = SimulatedRaft(*args, **kwargs)
    raft._poller = raft.transport
    return raft


class Engine(RaftEngine):
    """The real one; the world learns when a batch is stamped, and that it ends once and in time."""

    process: Process

    def propose(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        process, world = self.process, self.process.world
        world.checks.stamped(payload)
        world.checks.proposed(payload)
        outcomes: list[Outcome] = []

        def ended(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) > 1:
                world.checks.violated(f"{process.node_id}: a proposal ended twice: {outcomes}")
            if outcome is Outcome.REJECTED:
                world.checks.rejected(payload)
            on_outcome(outcome)

        def overdue() -> None:
            stood_still = process.host.paused or process.host.resumed_s > asked_s
            if process.alive and not outcomes and not stood_still:
                world.checks.violated(f"{process.node_id}: a proposal has not ended in time")

        asked_s = world.now_s()
        world.at(asked_s + timeout_s + LATE_S, overdue)
        super().propose(payload, timeout_s, ended)


class Process:
    """A daemon from its start to its end."""

    def __init__(self, world: World, host: Host) -> None:
        self.world = world
        self.host = host
        self.node_id = host.node_id
        self.alive = True
        self.failure: str | None = None
        self.engine_turns = 0
        self._commit_index = 0
        self._engine_due_s = math.inf
        self._engine_free_s = 0.0
        self._engine_running = False
        self._woken = False
        self._loop_due_s = math.inf
        self._loop_free_s = 0.0
        self._loop_running = False
        self._loop_again_s = math.inf
        self._stored_s = 0.0
        self._rng = random.Random(host.rng.random())
        self.loop = SimulatedLoop(  # type: ignore[abstract]  # nobody asks it for more
            read_clock=self._read_clock,
            now_s=world.now_s,
            wake=self.wake_loop,
            offload=self._offload,
            report=lambda what: world.checks.violated(f"{self.node_id}: {what}"),
        )
        self.transport: SimulatedTransport
        self.engine = Engine(
            RaftConfig(
                node_id=self.node_id,
                peers=dict.fromkeys(world.ids, "localhost:1"),
                election_timeout_ms=(500, 1000),
                snapshot_entries=world.snapshot_entries,
            ),
            transport=self._make_transport,
            raft_factory=make_raft,
            disk=host.disk,
            draw_incarnation=self._draw_id,
        )
        self.engine.process = self
        asyncio._set_running_loop(self.loop)
        try:
            self.stack = Stack(
                node_id=self.node_id,
                engine=self.engine,
                clock=ClusterClock(self._read_clock, host.wall_ms),
                draw_id=self._draw_id,
                draw_attempt=lambda: self._rng.getrandbits(52) + 1,
                fail=self._fail,
                other_ids=[node_id for node_id in world.ids if node_id != self.node_id],
            )
            around = Surroundings(
                applied_index=lambda: self.stack.machine.applied_index,
                leader_endpoint=self.stack.leader_endpoint,
                count=lambda method: None,
                closing=self.stack.closing,
            )
            self.dispatcher = Dispatcher(self.stack.services(), around)
        finally:
            asyncio._set_running_loop(None)
        self.stack.machine.on_applied.append(self._applied)
        self.stack.machine.on_restored.append(self._restored)

    # --- life ------------------------------------------------------------------------------------
    def start(self) -> None:
        """Open the engine; raises `StartError`. In a turn of its host."""
        self.engine.open(Overheard(self))
        raft = self.engine._raft
        assert isinstance(raft, SimulatedRaft)
        raft.snapshots._run = self._store_later
        raft.durable_known = self.host.stored
        self.host.stored(raft.durable_index)
        self.transport.nodes = {str(node.id): node for node in raft.others}
        self.world.network.join(self.transport)
        self.loop.create_task(self.stack.run_clock())
        announcement = Announce(self.node_id, f"{self.node_id}:7070", "simulated", ENCODING)
        self.loop.create_task(self._announce(announcement))
        self.wake_engine()

    async def _announce(self, announcement: Announce) -> None:
        while True:
            with contextlib.suppress(CallError):
                await self.stack.replica.submit(announcement, Caller())
                return
            await asyncio.sleep(0.5)  # simulated

    def end(self) -> None:
        """Be no more: nothing of what is still done here reaches anybody."""
        self.alive = False
        self.loop.abandon()
        with contextlib.suppress(PowerCutError):
            self.engine.stop()

    def stop(self) -> None:
        """Refuse calls and break off what goes on, as a daemon does that is asked to stop."""
        asyncio._set_running_loop(self.loop)
        try:
            self.stack.refuse_calls()
            self.stack.stop()
        finally:
            asyncio._set_running_loop(None)

    def _fail(self, reason: str) -> None:
        if self.alive and self.failure is None:
            self.failure = reason
            self.world.at(self.world.now_s(), self.world.failed, self)

    # --- turns -----------------------------------------------------------------------------------
    def wake_engine(self) -> None:
        if self._engine_running:
            self._woken = True
        else:
            self._engine_soon(max(self.world.now_s() + WAKING_S, self._engine_free_s))

    def _engine_soon(self, at_s: float) -> None:
        if at_s < self._engine_due_s:
            self._engine_due_s = at_s
            self.world.at(at_s, self._engine_turn, at_s)

    def _engine_turn(self, due_s: float) -> None:
        if not self.alive or due_s != self._engine_due_s:
            return
        self._engine_due_s = math.inf
        if self.host.paused:
            return
        self._engine_running, self._woken = True, False
        self.engine_turns += 1
        self._engine_free_s = self.world.turn(self.host, self.engine.step)
        self._engine_running = False
        if not self.alive:
            return
        commit_index = self.engine.status().commit_index
        if commit_index < self._commit_index:
            self.world.checks.violated(f"{self.node_id}: its commit index fell to {commit_index}")
        self._commit_index = commit_index
        if self.failure is None and self.host.failed_sync:
            self.world.checks.violated(f"{self.node_id} goes on, though its disk failed")
        raft = self.engine._raft
        assert raft is not None
        busy = self._woken or self.transport.inbox or raft.backlog
        self._engine_soon(self._engine_free_s + (WAKING_S if busy else TICK_S))

    def wake_loop(self, at_s: float) -> None:
        if self._loop_running:
            self._loop_again_s = min(self._loop_again_s, at_s)
            return
        at_s = max(at_s + LOOP_WAKING_S, self._loop_free_s)
        if at_s < self._loop_due_s:
            self._loop_due_s = at_s
            self.world.at(at_s, self._loop_turn, at_s)

    def _loop_turn(self, due_s: float) -> None:
        if not self.alive or due_s != self._loop_due_s:
            return
        self._loop_due_s = math.inf
        if self.host.paused:
            return
        self._loop_running, self._loop_again_s = True, math.inf
        self._loop_free_s = self.world.turn(self.host, self._run_loop)
        self._loop_running = False
        if self._loop_again_s < math.inf:
            self.wake_loop(self._loop_again_s)

    def _run_loop(self) -> None:
        timer_s = self.loop.run()
        if timer_s is not None:
            self.wake_loop(self.host.clock.true_s(timer_s) + 1e-6)

    def _offload(self, work: Callable[[], None]) -> None:
        """To a thread of a pool: done a little later."""
        at_s = self.world.now_s() + self._rng.uniform(0.0005, 0.01)
        self.world.at(at_s, self._elsewhere, work)

    def _store_later(self, job: Callable[[], None]) -> None:
        """To the snapshots' thread: one after the other."""
        at_s = max(self._stored_s, self.world.now_s()) + self._rng.uniform(0.001, 0.05)
        self._stored_s = at_s
        self.world.at(at_s, self._elsewhere, job)

    def _elsewhere(self, work: Callable[[], None]) -> None:
        if not self.alive:
            return
        if self.host.paused:
            self.world.at(self.world.now_s() + 0.05, self._elsewhere, work)
        else:
            self.world.turn(self.host, work)

    def resume(self) -> None:
        """After a pause everything is late."""
        self.host.resumed_s = self.world.time_s
        self.wake_engine()
        self.wake_loop(self.world.now_s())

    # --- calls -----------------------------------------------------------------------------------
    def call(self, name: str, data: bytes, caller: dict[str, Any], answer: Answer) -> None:
        """A call has arrived at this machine's socket."""
        self.loop.call_soon_threadsafe(self._begin, name, data, caller, answer)

    def _begin(self, name: str, data: bytes, caller: dict[str, Any], answer: Answer) -> None:
        timeout_s = caller.pop("timeout_s")
        deadline_s = self.loop.time() + timeout_s
        known = Caller(deadline_s=deadline_s, **caller)
        self.loop.create_task(self._serve(name, data, known, answer))

    async def _serve(self, name: str, data: bytes, caller: Caller, answer: Answer) -> None:
        try:
            async with asyncio.timeout_at(caller.deadline_s):
                response = await self.dispatcher.answer(name, data, caller)
        except CallError as error:
            answer(None, error, self.stack.machine.applied_index)
        except TimeoutError:
            answer(None, out_of_time(), self.stack.machine.applied_index)
        else:
            answer(response, None, self.stack.machine.applied_index)

    # --- what is overheard -----------------------------------------------------------------------
    def _applied(self, applied: Applied) -> None:
        self.world.checks.applied(self.host, applied, self.stack.machine.state)

    def _restored(self) -> None:
        machine = self.stack.machine
        self.world.checks.restored(self.host, machine.applied_index, machine.state)

    # --- what it is given ------------------------------------------------------------------------
    def _make_transport(self, node: Node) -> SimulatedTransport:
        self.transport = SimulatedTransport(self.world.network, node, self.wake_engine)
        return self.transport

    def _read_clock(self) -> float:
        world = self.world
        world.ahead_s += 1e-6
        return self.host.clock.local_s(world.time_s + world.ahead_s)

    def _draw_id(self) -> str:
        return f"{self._rng.getrandbits(128):032x}"


class Overheard:
    """Implements `Listener`: what the engine tells is checked, then passed on to the stack."""

    def __init__(self, process: Process) -> None:
        self._host = process.host
        self._process = process
        self._checks = process.world.checks
        self._listener = process.stack.listener
        self._delivered = 0

    def committed(self, index: int, term: int, payload: bytes) -> None:
        self._checks.committed(self._host, self._delivered, index, term, payload)
        self._checks.stored(index, self._process.world.hosts.values())
        self._delivered = index
        self._listener.committed(index, term, payload)

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        self._checks.restoring(self._host, self._delivered, index)
        self._delivered = index
        self._listener.restored(index, term, snapshot)

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        self._checks.role_changed(self._host, role, term)
        self._listener.role_changed(role, term, leader_id)

    def received(self, sender_id: str, payload: bytes) -> None:
        self._listener.received(sender_id, payload)

    def snapshot_wanted(self) -> None:
        self._listener.snapshot_wanted()

    def failed(self, reason: str) -> None:
        self._process._fail(reason)
