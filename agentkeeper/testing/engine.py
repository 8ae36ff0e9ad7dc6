"""An engine of one replica without a log: what is proposed is committed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agentkeeper.consensus.port import EngineStatus, Listener, Outcome, Role, Transfer

TERM = 1


class InstantEngine:
    """Implements `agentkeeper.consensus.port.Engine` on the event loop, in memory.

    Leads from its start. Its callbacks and those of the listener run on the loop, each in a turn of
    its own after the call that caused it.
    """

    def __init__(self, node_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self._node_id = node_id
        self._loop = loop
        self._listener: Listener | None = None
        self._last_index = 0

    def start(self, listener: Listener) -> None:
        """See `Engine.start`."""
        self._listener = listener
        self._loop.call_soon_threadsafe(listener.role_changed, Role.LEADER, TERM, self._node_id)

    def stop(self) -> None:
        """See `Engine.stop`."""
        self._listener = None

    def propose(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """See `Engine.propose`."""
        self._loop.call_soon_threadsafe(self._commit, payload, on_outcome)

    def read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        """See `Engine.read_index`."""
        self._loop.call_soon_threadsafe(self._tell_index, on_result)

    def send(self, node_id: str, payload: bytes) -> bool:
        """See `Engine.send`: there is nobody else."""
        return False

    def save_snapshot(self, index: int, snapshot: Iterable[bytes]) -> None:
        """See `Engine.save_snapshot`: there is no log to be dropped."""

    def transfer_leadership(
        self, to: str | None = None, on_ended: Callable[[Transfer], None] | None = None
    ) -> None:
        """See `Engine.transfer_leadership`: there is nobody else."""
        if on_ended is not None:
            self._loop.call_soon_threadsafe(on_ended, Transfer.ALONE)

    def status(self) -> EngineStatus:
        """See `Engine.status`."""
        leads = self._listener is not None
        return EngineStatus(
            node_id=self._node_id,
            role=Role.LEADER if leads else Role.FOLLOWER,
            term=TERM if leads else 0,
            leader_id=self._node_id if leads else None,
            commit_index=self._last_index,
            delivered_index=self._last_index,
            last_log_index=self._last_index,
            peers={},
        )

    def _commit(self, payload: bytes, on_outcome: Callable[[Outcome], None]) -> None:
        if self._listener is None:
            on_outcome(Outcome.REJECTED)
            return
        self._last_index += 1
        self._listener.committed(self._last_index, TERM, payload)
        on_outcome(Outcome.COMMITTED)

    def _tell_index(self, on_result: Callable[[int | None], None]) -> None:
        on_result(None if self._listener is None else self._last_index)
