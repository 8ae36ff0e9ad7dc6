"""Everything of a replica above its engine: the parts put together, and what makes them tick."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import structlog

from agentkeeper.consensus.port import Engine, Outcome, Transfer
from agentkeeper.core.queue import ToolSet
from agentkeeper.core.snapshot import pack_snapshot
from agentkeeper.server import convert
from agentkeeper.server.agent_index import AgentIndex
from agentkeeper.server.build import BUILD
from agentkeeper.server.claims import ClaimWaiters
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.cluster_view import ClusterView, endpoint_of, view_of
from agentkeeper.server.digests import Digests
from agentkeeper.server.embedding import MakeEmbedder
from agentkeeper.server.leadership import TICK_S, Leadership
from agentkeeper.server.listener import LoopListener
from agentkeeper.server.machine import Applied, Machine
from agentkeeper.server.messages import VITALS_SINCE, Message, pack_message
from agentkeeper.server.moves import LeaderMoves
from agentkeeper.server.own_session import OwnSession
from agentkeeper.server.pace import Pace
from agentkeeper.server.proposer import Proposer
from agentkeeper.server.reads import ReadRounds
from agentkeeper.server.replica import Notices, Replica, shutting_down
from agentkeeper.server.services.cluster import ClusterService
from agentkeeper.server.services.elections import ElectionService
from agentkeeper.server.services.entitlements import EntitlementsService
from agentkeeper.server.services.leases import LeaseService
from agentkeeper.server.services.method import Method
from agentkeeper.server.services.registry import RegistryService
from agentkeeper.server.services.sessions import SessionService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.turns import Turns
from agentkeeper.server.upgrade import Upgrade
from agentkeeper.server.vitals import VitalSigns
from agentkeeper.server.watch import WatchHub, no_leader_cut

log = structlog.get_logger(__name__)

PROPOSAL_TIMEOUT_S: Final = 5.0
LEADERLESS_CUT_S: Final = 5.0
"""Watches on a replica without a leader are cut after this long, so that they resume elsewhere."""


class Stack:
    """The state machine, its ways in and out, and the services, on the running event loop.

    `clock` is the cluster clock to lead by; `draw_id` and `draw_attempt` are as in `Replica`;
    `fail` is called, with the reason, when this replica can't go on; `other_ids` names the other
    replicas. With `make_embedder` agents are found by meaning. The engine is started, with
    `listener`, and stopped by whoever made it.
    """

    def __init__(
        self,
        *,
        node_id: str,
        engine: Engine,
        clock: ClusterClock,
        draw_id: Callable[[], str],
        draw_attempt: Callable[[], int],
        fail: Callable[[str], None],
        other_ids: Sequence[str] = (),
        make_embedder: MakeEmbedder | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._clock = clock
        self._began_s = self._loop.time()
        self._fail = fail
        self._trouble = ""
        self._background: dict[asyncio.Task[Any], None] = {}
        self.closing = asyncio.Event()
        """Set once this replica refuses new calls."""
        self.turns = Turns(lambda: self.proposer.crowded)
        self.machine = Machine(on_failure=fail)
        self.proposer = Proposer(
            self._put_into_log,
            self._send,
            clock.stamp,
            encoding=lambda: self.machine.state.cluster_version,
            first_number=draw_attempt(),
            on_room=self.turns.resume,
        )
        self.reads = ReadRounds(self._read_index, self._send, first_number=draw_attempt())
        self.leadership = Leadership(
            node_id=node_id,
            machine=self.machine,
            proposer=self.proposer,
            reads=self.reads,
            clock=clock,
            propose_takeover=self._propose_takeover,
        )
        self._meet_the_others(node_id, other_ids, draw_attempt)
        self._hub = WatchHub(
            self.machine,
            lambda e: convert.event(e).SerializeToString(),
            Pace(lambda: self.proposer.busy or self.reads.busy),
        )
        self.replica = Replica(
            node_id=node_id,
            machine=self.machine,
            proposer=self.proposer,
            reads=self.reads,
            hub=self._hub,
            claims=ClaimWaiters(self.machine, self.turns),
            own_session=OwnSession(node_id, self.proposer, draw_id),
            index=AgentIndex(make_embedder),
            notices=Notices(),
            draw_id=draw_id,
            draw_attempt=draw_attempt,
            leader_known=lambda: self.leadership.leader_id is not None,
            closing=self.closing,
            background=self._background,
            turns=self.turns,
        )
        self._listen()

    def _meet_the_others(
        self, node_id: str, other_ids: Sequence[str], draw_attempt: Callable[[], int]
    ) -> None:
        """What replicas do among themselves, beside agreeing on entries."""
        self.digests = Digests(node_id, other_ids, self.machine, self._send, self._fail)
        self.vitals = VitalSigns(
            node_id,
            other_ids,
            build=BUILD,
            view=self.view,
            applied_index=lambda: self.machine.applied_index,
            now_s=self._loop.time,
            send=self._send,
            understands=self._is_recent,
        )
        self._upgrade = Upgrade(
            [node_id, *other_ids],
            state=lambda: self.machine.state,
            leads=lambda: self.leadership.established,
            vitals=self.vitals.latest,
            stamp=self._clock.stamp,
            propose=self._put_into_log,
        )
        self.moves = LeaderMoves(
            self.leadership,
            transfer=self._transfer,
            send=self._send,
            understands=self._is_recent,
            first_number=draw_attempt(),
        )

    def _listen(self) -> None:
        """Who is told of what the engine and the machine have done."""
        self.machine.on_applied += [
            self.proposer.applied,
            self.leadership.applied,
            self._observe_events,
            self.digests.applied,
        ]
        self.machine.on_restored += [self._observe_restore, self.digests.restored]
        self.listener = LoopListener(
            loop=self._loop,
            machine=self.machine,
            leadership=self.leadership,
            proposer=self.proposer,
            reads=self.reads,
            digests=self.digests,
            vitals=self.vitals,
            moves=self.moves,
            save_snapshot=self._save_snapshot,
            fail=self._fail,
        )

    def services(self) -> dict[str, list[Method]]:
        """All methods, by the name of their service."""
        replica = self.replica
        return {
            "RegistryService": RegistryService(replica).methods(),
            "LeaseService": LeaseService(replica).methods(),
            "ElectionService": ElectionService(replica).methods(),
            "EntitlementsService": EntitlementsService(replica).methods(),
            "TaskService": TaskService(replica).methods(),
            "SessionService": SessionService(replica).methods(),
            "ClusterService": ClusterService(
                replica,
                view=self.view,
                vitals=self.vitals.latest,
                moves=self.moves,
                uptime_ms=self.uptime_ms,
                wall_ms=self._clock.wall_ms,
            ).methods(),
        }

    def view(self) -> ClusterView:
        """This replica's view of the cluster."""
        return view_of(self._engine.status(), self.machine.state, self.not_ready_reason())

    def uptime_ms(self) -> int:
        """How long this replica has run."""
        return int(1000 * (self._loop.time() - self._began_s))

    def not_ready_reason(self) -> str:
        """Why linearizable calls can't be served, as far as this replica knows by itself."""
        if self.closing.is_set():
            return "shutting down"
        if trouble := self._engine.status().trouble:
            return trouble
        if self.leadership.leader_id is None:
            return "no leader is known"
        if self.leadership.may_lead and not self.leadership.established:
            return "taking over as leader"
        return ""

    def leader_endpoint(self) -> str:
        """Where clients reach the leader; empty where that is not known."""
        return endpoint_of(self.machine.state, self.leadership.leader_id or "")

    async def run_clock(self) -> None:
        """Tick for ever, unless that fails: then `fail` is called."""
        try:
            while True:
                self.tick()
                await asyncio.sleep(TICK_S)
        except Exception as error:
            log.exception("the clock's tick failed")
            self._fail(f"the clock's tick failed: {error}")

    def tick(self) -> None:
        """Let what is due fall due, and what was out for too long be handed on again."""
        self.leadership.tick()
        self.proposer.sweep()
        self.digests.tick()
        self._upgrade.tick()
        self.vitals.tick()
        self._tell_trouble()
        since_s = self.leadership.leaderless_since_s
        if not self.closing.is_set():
            lost = since_s is not None and self._loop.time() - since_s > LEADERLESS_CUT_S
            self._hub.cut(no_leader_cut if lost else None)

    def refuse_calls(self) -> None:
        """Begin to stop: no new calls, and watches and waits end."""
        self.replica.refuse_calls()
        self._hub.cut(shutting_down)

    def stop(self) -> None:
        """Break off what goes on in the background."""
        for task in tuple(self._background):
            task.cancel()

    def _tell_trouble(self) -> None:
        trouble = self._engine.status().trouble
        if trouble == self._trouble:
            return
        if trouble:
            log.warning("this replica can't take its full part", reason=trouble)
        else:
            log.info("this replica takes its full part now", after=self._trouble)
        self._trouble = trouble

    def _observe_events(self, applied: Applied) -> None:
        if not applied.events:
            return
        self._hub.wake()
        queued: Counter[ToolSet] = Counter()
        for event in applied.events:
            self.replica.index.observe(event)
            if event.topic.startswith("lease."):
                self.replica.notices.tell(event.subject)
            elif event.topic == "agent.died":
                self.replica.notices.tell(event.subject)
                self.replica.claims.wake_agent(event.subject)
            elif event.topic in ("task.created", "task.requeued"):
                task = self.machine.state.tasks.get(event.subject)
                if task is not None:
                    queued[task.required_tools] += 1
        if queued:
            self.replica.claims.dispatch(queued)

    def _observe_restore(self) -> None:
        # What happened between is not told one by one: whoever waits for anything must look.
        self.replica.index.rebuild(self.machine.state)
        self._hub.wake()
        self.replica.notices.tell_all()
        self.replica.claims.wake_all()

    def _save_snapshot(self) -> None:
        self.replica.spawn(self._capture_and_save())

    async def _capture_and_save(self) -> None:
        captured = await self.machine.capture()
        log_index = captured.log_index
        self._engine.save_snapshot(log_index, _pieces(log_index, pack_snapshot(captured)))

    def _propose_takeover(self, payload: bytes) -> None:
        self._put_into_log(payload, self.leadership.takeover_ended)

    def _put_into_log(self, payload: bytes, ended: Callable[[Outcome], None]) -> None:
        def on_outcome(outcome: Outcome) -> None:
            self._hand_over(ended, outcome)

        self._engine.propose(payload, PROPOSAL_TIMEOUT_S, on_outcome)

    def _transfer(self, to: str | None, ended: Callable[[Transfer], None]) -> None:
        self._engine.transfer_leadership(to, lambda how: self._hand_over(ended, how))

    def _is_recent(self, node_id: str) -> bool:
        return self._upgrade.knows(node_id, VITALS_SINCE)

    def _read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        self._engine.read_index(timeout_s, lambda index: self._hand_over(on_result, index))

    def _send(self, node_id: str, message: Message) -> bool:
        return self._engine.send(node_id, pack_message(message))

    def _hand_over(self, callback: Callable[..., None], *args: object) -> None:
        """Call back on the event loop, unless it is closed already."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *args)


def _pieces(log_index: int, packing: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a snapshot, packed as they are taken; tells of it at the end."""
    size_bytes, began_s = 0, time.monotonic()
    for piece in packing:
        size_bytes += len(piece)
        yield piece
    took_ms = int((time.monotonic() - began_s) * 1000)
    log.info("snapshot", index=log_index, bytes=size_bytes, took_ms=took_ms)
