"""What a replica does as leader: takes over, keeps the cluster clock, lets things fall due."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final

import structlog

from agentkeeper.consensus.port import Outcome, Role
from agentkeeper.core import limits
from agentkeeper.core.codec import pack_batch
from agentkeeper.core.commands import Batch, Command, Takeover
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.machine import Applied, Machine
from agentkeeper.server.proposer import Proposer
from agentkeeper.server.reads import ReadRounds

log = structlog.get_logger(__name__)

TICK_S: Final = 0.1
STAMP_EVERY_MS: Final = 1_000
"""While any deadline exists, time is stamped at least this often, so a failover loses no more."""


class _Phase(enum.Enum):
    FOLLOWING = "following"
    TAKING_OVER = "taking over"
    LEADING = "leading"


class Leadership:
    """Follows the engine's role; tells proposer and reads whom to turn to.

    `propose_takeover` puts bytes into the log and reports to `takeover_ended`.
    """

    def __init__(
        self,
        *,
        node_id: str,
        machine: Machine,
        proposer: Proposer,
        reads: ReadRounds,
        clock: ClusterClock,
        propose_takeover: Callable[[bytes], None],
    ) -> None:
        self._node_id = node_id
        self._machine = machine
        self._proposer = proposer
        self._reads = reads
        self._clock = clock
        self._propose_takeover = propose_takeover
        self._phase = _Phase.FOLLOWING
        self._term = 0
        self._due: asyncio.TimerHandle | None = None
        self.leader_id: str | None = None
        self.leaderless_since_s: float | None = asyncio.get_running_loop().time()
        self.changed = asyncio.Event()
        """Set when anything changes here; whoever waits clears it."""

    @property
    def term(self) -> int:
        """The current term, as far as the engine has told."""
        return self._term

    @property
    def may_lead(self) -> bool:
        """Whether this replica leads, or is about to."""
        return self._phase is not _Phase.FOLLOWING

    @property
    def established(self) -> bool:
        """Whether this replica leads and takes commands."""
        return self._phase is _Phase.LEADING

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        """The engine has a new role, term or leader."""
        log.info("role changed", role=role.value, term=term, leader=leader_id or "")
        self._term, self.leader_id = term, leader_id
        if leader_id is not None:
            self.leaderless_since_s = None
        elif self.leaderless_since_s is None:
            self.leaderless_since_s = asyncio.get_running_loop().time()
        if role is Role.LEADER:
            self._phase = _Phase.TAKING_OVER
            self._proposer.follow(None)
            self._reads.lead()
            self._take_over()
        else:
            self._phase = _Phase.FOLLOWING
            self._proposer.follow(leader_id)
            self._reads.follow(leader_id)
        self.changed.set()

    def takeover_ended(self, outcome: Outcome) -> None:
        """The takeover's proposal has ended; if it failed while this replica leads, try again."""
        if outcome is not Outcome.COMMITTED:
            asyncio.get_running_loop().call_later(TICK_S, self._take_over)

    def applied(self, applied: Applied) -> None:
        """Notice the own takeover, and work that is left over or due next."""
        if (
            self._phase is _Phase.TAKING_OVER
            and applied.term == self._term
            and any(isinstance(c.body, Takeover) for c in applied.batch.commands)
        ):
            # All that earlier leaders committed is applied now, their times included.
            self._phase = _Phase.LEADING
            self._clock.start(self._machine.state.time_ms)
            self._proposer.lead()
            log.info("leading", term=self._term, index=applied.index)
            self.changed.set()
        if self._phase is _Phase.LEADING:
            self._schedule()

    def tick(self) -> None:
        """Look at the clock. Called every `TICK_S`, so that standing still is noticed."""
        if self._phase is not _Phase.LEADING:
            return
        now_ms = self._clock.now_ms()
        due_ms = self._machine.state.next_due_ms()
        if due_ms is not None and (
            due_ms <= now_ms or now_ms - self._clock.stamped_ms >= STAMP_EVERY_MS
        ):
            self._proposer.tick()

    def _schedule(self) -> None:
        """Tick right when the next deadline is due, if that is before the next regular tick."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        due_ms = self._machine.state.next_due_ms()
        if due_ms is None:
            return
        wait_s = max(0.0, (due_ms - self._clock.now_ms()) / 1000)
        if wait_s < TICK_S:
            self._due = asyncio.get_running_loop().call_later(wait_s + 0.001, self.tick)

    def _take_over(self) -> None:
        if self._phase is not _Phase.TAKING_OVER:
            return
        state = self._machine.state
        body = Takeover(limits.TAKEOVER_GRACE_MS)
        command = Command(self._node_id, "", 0, 0, body)
        batch = Batch(state.time_ms, self._clock.wall_ms(), (command,))
        self._propose_takeover(pack_batch(batch, state.cluster_version))
