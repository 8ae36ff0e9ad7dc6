"""This replica's own session, for callers who bring none (clients of 0.1.x).

It makes the replica's own forwarding safe: a command handed on twice takes effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agentkeeper.core import limits, refusals
from agentkeeper.core.commands import Body, Command, OpenSession
from agentkeeper.core.records import Refused, Result
from agentkeeper.core.sessions import REPLICA
from agentkeeper.server.errors import overloaded, refused
from agentkeeper.server.proposer import Proposer

TTL_MS: Final = 3_600_000

Key = tuple[str, int]


@dataclass(slots=True)
class _Open:
    session_id: str
    number: int = 0
    unanswered: dict[int, None] = field(default_factory=dict)
    """Request numbers under way, in rising order."""


class OwnSession:
    """Numbers commands and tells the state machine which answers have arrived."""

    def __init__(self, node_id: str, proposer: Proposer, draw_id: Callable[[], str]) -> None:
        self._identity = REPLICA + node_id
        self._proposer = proposer
        self._draw_id = draw_id
        self._open: _Open | None = None
        self._opening = asyncio.Lock()

    async def submit(self, body: Body, identity: str, deadline_s: float) -> tuple[Key, Result]:
        """Get a command applied; returns its key in this session and its result."""
        while True:
            session = self._open or await self._reopen(deadline_s)
            if len(session.unanswered) >= limits.REPLICA_SESSION_WINDOW:
                raise overloaded("too many commands under way on this replica")
            session.number += 1
            number = session.number
            session.unanswered[number] = None
            seen = next(iter(session.unanswered)) - 1
            try:
                command = Command(identity, session.session_id, number, seen, body)
                result = await self._proposer.submit(command, deadline_s)
            finally:
                del session.unanswered[number]
            if isinstance(result, Refused) and result.reason == refusals.SESSION_EXPIRED:
                # Idle for longer than its time to live; nothing was done.
                if self._open is session:
                    self._open = None
                continue
            return (session.session_id, number), result

    async def _reopen(self, deadline_s: float) -> _Open:
        async with self._opening:
            if self._open is None:
                session_id = self._draw_id()
                body = OpenSession(session_id, TTL_MS, limits.REPLICA_SESSION_WINDOW)
                command = Command(self._identity, "", 0, 0, body)
                result = await self._proposer.submit(command, deadline_s)
                if isinstance(result, Refused):
                    raise refused(result)
                self._open = _Open(session_id)
            return self._open
