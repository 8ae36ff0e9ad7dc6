"""Moving the leader: any replica can be asked; the leader hands over, and the asked one waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from agentkeeper.consensus.port import Transfer
from agentkeeper.server.errors import CallError, outcome_unknown, unavailable
from agentkeeper.server.leadership import Leadership
from agentkeeper.server.messages import AskTransfer, TellTransfer

Ended = Callable[[Transfer], None]

PATIENCE_S: Final = 10.0
"""How long a call waits for another leader, unless its own time is up before."""


class LeaderMoves:
    """The calls on this replica that wait for another leader.

    `transfer(to, ended)` lets the engine hand over, if this replica leads, and tells how that
    ended. `send` reaches another replica, best effort; `understands` tells which of them can be
    asked. `first_number` is drawn at random, as in `Proposer`.
    """

    def __init__(
        self,
        leadership: Leadership,
        *,
        transfer: Callable[[str | None, Ended], None],
        send: Callable[[str, AskTransfer | TellTransfer], bool],
        understands: Callable[[str], bool],
        first_number: int = 0,
    ) -> None:
        self._leadership = leadership
        self._transfer = transfer
        self._send = send
        self._understands = understands
        self._number = first_number
        self._asked: dict[int, asyncio.Future[Transfer]] = {}

    async def move(self, to: str, deadline_s: float | None) -> tuple[str, int]:
        """Have another replica lead, `to` unless that is empty; returns it and its term.

        Nothing is moved if `to` leads already. `deadline_s` is on the loop's clock. Raises
        `CallError`.
        """
        latest_s = asyncio.get_running_loop().time() + PATIENCE_S
        asked = False
        try:
            async with asyncio.timeout_at(min(latest_s, deadline_s or latest_s)):
                former, term = await self._leader_after(0)
                if to == former:
                    return former, term
                asked = True
                leader, term = await self._led_on(former, term, to)
        except TimeoutError:
            if asked:
                raise outcome_unknown("no other leader is known yet") from None
            raise unavailable("no leader is known") from None
        if leader != (to or leader) or leader == former:
            raise unavailable(f"replica {leader!r} leads now", "not_moved")
        return leader, term

    async def resign(self) -> None:
        """Let any other replica lead instead of this one; returns once it does not lead, or has
        no others. Asked again for as long as nobody takes over.
        """
        while self._leadership.may_lead:
            answer: asyncio.Future[Transfer] = asyncio.get_running_loop().create_future()
            self._transfer(None, partial(_settle, answer))
            ended = await answer
            if ended is Transfer.ALONE:
                return
            if ended in {Transfer.DONE, Transfer.NOT_LEADING} and self._leadership.may_lead:
                self._leadership.changed.clear()
                await self._leadership.changed.wait()

    def take(self, sender_id: str, ask: AskTransfer) -> None:
        """Hand over for another replica's call."""

        def tell(ended: Transfer) -> None:
            self._send(sender_id, TellTransfer(ask.number, ended.value))

        self._transfer(ask.to or None, tell)

    def told(self, message: TellTransfer) -> None:
        """Take the leader's answer."""
        asked = self._asked.get(message.number)
        if asked is not None:
            known = message.transfer in {ended.value for ended in Transfer}
            _settle(asked, Transfer(message.transfer) if known else Transfer.GAVE_UP)

    async def _led_on(self, former: str, term: int, to: str) -> tuple[str, int]:
        """Have `former` hand over, and wait for who leads after `term`.

        Its answer may be lost, so a leader that is known here does without.
        """
        self._number += 1
        number = self._number
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        later = asyncio.ensure_future(self._leader_after(term))
        try:
            self._ask(former, AskTransfer(number, to))
            await asyncio.wait({answer, later}, return_when=asyncio.FIRST_COMPLETED)
            if not later.done() and (ended := answer.result()) is not Transfer.DONE:
                raise _failed(ended, former, to)
            return await later
        finally:
            later.cancel()
            del self._asked[number]

    def _ask(self, leader_id: str, ask: AskTransfer) -> None:
        if self._leadership.may_lead:

            def tell(ended: Transfer) -> None:
                self.told(TellTransfer(ask.number, ended.value))

            self._transfer(ask.to or None, tell)
        elif not self._understands(leader_id):
            message = f"the leader {leader_id!r} runs a build that can't be asked: upgrade it"
            raise CallError("FAILED_PRECONDITION", "old_leader", message)
        elif not self._send(leader_id, ask):
            raise unavailable(f"the leader {leader_id!r} can't be reached")

    async def _leader_after(self, term: int) -> tuple[str, int]:
        """Wait until some replica leads in a term above `term`."""
        leadership = self._leadership
        while leadership.leader_id is None or leadership.term <= term:
            leadership.changed.clear()
            await leadership.changed.wait()
        return leadership.leader_id, leadership.term


def _settle(answer: asyncio.Future[Transfer], ended: Transfer) -> None:
    if not answer.done():
        answer.set_result(ended)


def _failed(ended: Transfer, leader_id: str, to: str) -> CallError:
    if ended is Transfer.NOT_LEADING:
        return unavailable(f"replica {leader_id!r} does not lead any more", "not_moved")
    whom = f"replica {to!r}" if to else "any other replica"
    if ended is Transfer.GAVE_UP:
        message = f"{whom} was told to take over and did not in time: {leader_id!r} leads on"
        return CallError("ABORTED", "not_moved", message)
    reason, message = _REFUSED[ended]
    return CallError("FAILED_PRECONDITION", reason, message.format(whom))


_REFUSED: Final = {
    Transfer.ALONE: ("alone", "this replica has no others to lead in its place"),
    Transfer.UNKNOWN: ("unknown_replica", "there is no {} in this cluster"),
    Transfer.NOT_CONNECTED: ("not_connected", "{} is not connected to the leader"),
    Transfer.NO_VOTE: (
        "no_vote",
        "{} does not vote: it came with an empty disk, and has not caught up yet",
    ),
    Transfer.SILENT: ("silent", "no answer came from {} in time"),
    Transfer.BEHIND: ("behind", "the leader's log did not reach {} in time: is it far behind?"),
}
