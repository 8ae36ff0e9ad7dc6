"""This replica's own session, for callers who bring none (clients of 0.1.x).

It makes the replica's own forwarding safe: a command handed on twice takes effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agentkeeper.core import limits
from agentkeeper.core.commands import Command, OpenSession
from agentkeeper.core.records import Refused
from agentkeeper.core.sessions import REPLICA
from agentkeeper.server.errors import refused, unavailable
from agentkeeper.server.proposer import Proposer

TTL_MS: Final = 3_600_000

Key = tuple[str, int]


@dataclass(slots=True)
class _Open:
    session_id: str
    last_number: int = 0
    unanswered: dict[int, None] = field(default_factory=dict)
    """Request numbers under way, in rising order."""


@dataclass(frozen=True, slots=True)
class Place:
    """A request number in this replica's session, until released."""

    session: _Open
    number: int

    @property
    def key(self) -> Key:
        """Session id and number."""
        return (self.session.session_id, self.number)

    @property
    def seen(self) -> int:
        """All numbers up to this one are answered."""
        return next(iter(self.session.unanswered)) - 1

    def release(self) -> None:
        """The request has its answer, or wants none any more."""
        self.session.unanswered.pop(self.number, None)


class OwnSession:
    """Numbers commands and tells the state machine which answers have arrived."""

    def __init__(self, node_id: str, proposer: Proposer, draw_id: Callable[[], str]) -> None:
        self._identity = REPLICA + node_id
        self._proposer = proposer
        self._draw_id = draw_id
        self._session: _Open | None = None
        self._next_id = draw_id()
        self._opening = asyncio.Lock()

    async def place(self, deadline_s: float) -> Place:
        """A place for one request. Raises `CallError` if no session can be had."""
        session = self._session or await self._open(deadline_s)
        session.last_number += 1
        number = session.last_number
        session.unanswered[number] = None
        if number - next(iter(session.unanswered)) >= limits.REPLICA_SESSION_WINDOW - 1:
            self._session = None  # leave it to those under way: the next request opens another
        return Place(session, number)

    def expired(self, place: Place) -> None:
        """The state machine does not know the session: idle for longer than its time to live."""
        if self._session is place.session:
            self._session = None

    async def _open(self, deadline_s: float) -> _Open:
        try:
            async with asyncio.timeout_at(deadline_s), self._opening:
                if self._session is None:
                    # The same id until it succeeds, so that failures leave no sessions behind.
                    body = OpenSession(self._next_id, TTL_MS, limits.REPLICA_SESSION_WINDOW)
                    command = Command(self._identity, "", 0, 0, body)
                    result = await self._proposer.submit(command, deadline_s)
                    if isinstance(result, Refused):
                        raise refused(result)
                    self._session = _Open(self._next_id)
                    self._next_id = self._draw_id()
                return self._session
        except TimeoutError:
            raise unavailable("no leader could be reached") from None
