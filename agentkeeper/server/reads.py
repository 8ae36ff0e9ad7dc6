"""Linearizable reads: a shared quorum round finds the index that must be applied first.

Reads that arrive while a round is under way share the next one (ReadIndex, Raft thesis 6.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentkeeper.core import limits
from agentkeeper.server.errors import overloaded, unavailable
from agentkeeper.server.messages import AskIndex, TellIndex

ROUND_TIMEOUT_S = 0.5
RETRY_PAUSE_S = 0.02


class ReadRounds:
    """Finds read indexes: at the leader from its engine, elsewhere by asking the leader.

    `read_index(on_result)` asks the local engine and calls back on the event loop; `send` reaches
    another replica, best effort. `first_number` is to be drawn at random: an answer meant for this
    replica before it was restarted must not fit.
    """

    def __init__(
        self,
        read_index: Callable[[float, Callable[[int | None], None]], None],
        send: Callable[[str, AskIndex | TellIndex], bool],
        first_number: int = 0,
    ) -> None:
        self._read_index = read_index
        self._send = send
        self._leading = False
        self._leader_id: str | None = None
        self._waiting: list[asyncio.Future[int]] = []
        self._number = first_number
        self._told: asyncio.Future[int | None] | None = None
        self._runner: asyncio.Task[None] | None = None

    def lead(self) -> None:
        """This replica leads."""
        self._change(True, None)

    def follow(self, leader_id: str | None) -> None:
        """Another replica leads, or nobody that is known."""
        self._change(False, leader_id)

    async def index(self, deadline_s: float) -> int:
        """An index that makes a read linearizable as of now.

        Raises `CallError` (unavailable) when none is found by the deadline, on the loop's clock.
        """
        if len(self._waiting) >= limits.PENDING_READS:
            raise overloaded(f"{limits.PENDING_READS} reads wait on this replica")
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(found)
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run())
        try:
            async with asyncio.timeout_at(deadline_s):
                return await found
        except TimeoutError:
            raise unavailable("no leader could confirm the read in time") from None

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an index."""
        return self._runner is not None

    def answer(self, sender_id: str, ask: AskIndex) -> None:
        """Answer another replica's question."""

        def tell(index: int | None) -> None:
            self._send(sender_id, TellIndex(ask.number, index))

        if self._leading:
            self._read_index(ROUND_TIMEOUT_S, tell)
        else:
            tell(None)

    def told(self, told: TellIndex) -> None:
        """Take the leader's answer."""
        self._tell(told.number, told.read_index)

    async def _run(self) -> None:
        """Run rounds, one at a time, as long as somebody waits."""
        try:
            while self._waiting:
                sharing, self._waiting = self._waiting, []
                index = await self._round()
                if index is None:
                    await asyncio.sleep(RETRY_PAUSE_S)
                    self._waiting = [f for f in sharing if not f.done()] + self._waiting
                    continue
                for found in sharing:
                    if not found.done():
                        found.set_result(index)
        finally:
            self._runner = None

    async def _round(self) -> int | None:
        """Ask once; None when there is no answer, or no use in waiting for one any longer."""
        self._number += 1
        number = self._number
        self._told = asyncio.get_running_loop().create_future()
        if self._leading:
            self._read_index(ROUND_TIMEOUT_S, lambda index: self._tell(number, index))
        elif self._leader_id is None or not self._send(self._leader_id, AskIndex(number)):
            return None
        await asyncio.wait((self._told,), timeout=ROUND_TIMEOUT_S)
        return self._told.result() if self._told.done() else None

    def _tell(self, number: int, index: int | None) -> None:
        if number == self._number and self._told is not None and not self._told.done():
            self._told.set_result(index)

    def _change(self, leading: bool, leader_id: str | None) -> None:
        self._leading, self._leader_id = leading, leader_id
        self._tell(self._number, None)
