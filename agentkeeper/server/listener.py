"""From the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from agentkeeper.consensus.port import Role
from agentkeeper.core.codec import UnknownEncodingError
from agentkeeper.server.digests import Digests
from agentkeeper.server.leadership import Leadership
from agentkeeper.server.machine import Machine
from agentkeeper.server.messages import (
    AskIndex,
    AskTransfer,
    Digest,
    Forward,
    Forwarded,
    MalformedMessageError,
    TellIndex,
    TellTransfer,
    Vitals,
    unpack_message,
)
from agentkeeper.server.moves import LeaderMoves
from agentkeeper.server.proposer import Proposer
from agentkeeper.server.reads import ReadRounds
from agentkeeper.server.vitals import VitalSigns

log = structlog.get_logger(__name__)


class LoopListener:
    """Implements `agentkeeper.consensus.port.Listener`: hands everything over, in order.

    A loop that is closed already (the daemon is stopping) hears no more, which is no harm.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        machine: Machine,
        leadership: Leadership,
        proposer: Proposer,
        reads: ReadRounds,
        digests: Digests,
        vitals: VitalSigns,
        moves: LeaderMoves,
        save_snapshot: Callable[[], None],
        fail: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._machine = machine
        self._leadership = leadership
        self._proposer = proposer
        self._reads = reads
        self._digests = digests
        self._vitals = vitals
        self._moves = moves
        self._save_snapshot = save_snapshot
        self._fail = fail

    def committed(self, index: int, term: int, payload: bytes) -> None:
        """An entry to apply."""
        self._hand_over(self._machine.deliver, index, term, payload)

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        """A snapshot to start from."""
        self._hand_over(self._machine.deliver_snapshot, index, term, snapshot)

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        """A new role, term or leader."""
        self._hand_over(self._leadership.role_changed, role, term, leader_id)

    def received(self, sender_id: str, payload: bytes) -> None:
        """A message from another replica."""
        self._hand_over(self._receive, sender_id, payload)

    def snapshot_wanted(self) -> None:
        """The log has grown."""
        self._hand_over(self._save_snapshot)

    def failed(self, reason: str) -> None:
        """The engine has stopped for good."""
        self._hand_over(self._fail, reason)

    def _hand_over(self, callback: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _receive(self, sender_id: str, payload: bytes) -> None:
        try:
            message = unpack_message(payload)
            if isinstance(message, Forward):
                self._proposer.take(sender_id, message, may_lead=self._leadership.may_lead)
            elif isinstance(message, Forwarded):
                self._proposer.forwarded(message)
            elif isinstance(message, AskIndex):
                self._reads.answer(sender_id, message)
            elif isinstance(message, TellIndex):
                self._reads.told(message)
            elif isinstance(message, Digest):
                self._digests.told(sender_id, message)
            elif isinstance(message, Vitals):
                self._vitals.told(sender_id, message)
            elif isinstance(message, AskTransfer):
                self._moves.take(sender_id, message)
            elif isinstance(message, TellTransfer):
                self._moves.told(message)
        except (MalformedMessageError, UnknownEncodingError) as error:
            log.warning("message dropped", sender=sender_id, error=str(error))
