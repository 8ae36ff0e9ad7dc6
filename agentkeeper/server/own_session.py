"""This replica's own session, for callers who bring none (clients of 0.1.x).

It makes the replica's own forwarding safe: a command handed on twice takes effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agentkeeper.core import limits, refusals
from agentkeeper.core.commands import Body, Command, OpenSession
from agentkeeper.core.records import Refused, Result
from agentkeeper.core.sessions import REPLICA
from agentkeeper.server.errors import overloaded, refused
from agentkeeper.server.proposer import Proposer

TTL_MS: Final = 3_600_000

Key = tuple[str, int]


class OwnSession:
    """Numbers commands and tells the state machine which answers have arrived."""

    def __init__(self, node_id: str, proposer: Proposer, draw_id: Callable[[], str]) -> None:
        self._identity = REPLICA + node_id
        self._proposer = proposer
        self._draw_id = draw_id
        self._session_id = ""
        self._number = 0
        self._unanswered: dict[int, None] = {}
        self._opening: asyncio.Lock = asyncio.Lock()

    async def submit(self, body: Body, identity: str, deadline_s: float) -> tuple[Key, Result]:
        """Get a command applied; returns its key in this session and its result."""
        while True:
            if not self._session_id:
                await self._open(deadline_s)
            if len(self._unanswered) >= limits.REPLICA_SESSION_WINDOW:
                raise overloaded("too many commands under way on this replica")
            session_id = self._session_id
            self._number += 1
            number = self._number
            self._unanswered[number] = None
            seen = next(iter(self._unanswered)) - 1
            try:
                command = Command(identity, session_id, number, seen, body)
                result = await self._proposer.submit(command, deadline_s)
            finally:
                self._unanswered.pop(number, None)
            if isinstance(result, Refused) and result.reason == refusals.SESSION_EXPIRED:
                # Idle for longer than its time to live; nothing was done.
                if self._session_id == session_id:
                    self._session_id = ""
                continue
            return (session_id, number), result

    async def _open(self, deadline_s: float) -> None:
        async with self._opening:
            if self._session_id:
                return
            session_id = self._draw_id()
            body = OpenSession(session_id, TTL_MS, limits.REPLICA_SESSION_WINDOW)
            command = Command(self._identity, "", 0, 0, body)
            result = await self._proposer.submit(command, deadline_s)
            if isinstance(result, Refused):
                raise refused(result)
            self._number = 0
            self._unanswered = {}
            self._session_id = session_id
