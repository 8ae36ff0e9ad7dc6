"""Numbered requests: what makes a retry take effect at most once (Raft thesis, section 6.3).

Pure bookkeeping; opening and closing sessions at the cluster is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

DEFAULT_WINDOW = 256

SESSION_KEY = "agentkeeper-session"
REQUEST_KEY = "agentkeeper-request"
SEEN_KEY = "agentkeeper-seen"


@dataclass(slots=True, eq=False)
class Session:
    """One session of the cluster and the requests under way in it."""

    session_id: str
    window: int
    last_number: int = 0
    pending: set[int] = field(default_factory=set)
    _seen: int = 0

    @property
    def seen(self) -> int:
        """The highest number up to which every request is over."""
        while self._seen < self.last_number and self._seen + 1 not in self.pending:
            self._seen += 1
        return self._seen

    @property
    def has_room(self) -> bool:
        """Whether the next number is within the window that the cluster keeps."""
        return self.last_number + 1 - self.seen <= self.window


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request's number in its session, the same for all its attempts."""

    session: Session
    number: int

    def metadata(self) -> dict[str, str]:
        """Return the request metadata of an attempt made now."""
        return {
            SESSION_KEY: self.session.session_id,
            REQUEST_KEY: str(self.number),
            SEEN_KEY: str(self.session.seen),
        }


class Sessions:
    """Hands out tickets, from a session that is opened when first needed.

    A session whose window is full (a claim may wait for hours and holds its number) is left to
    the requests under way in it, and a new one is opened for the rest.
    """

    def __init__(
        self,
        open_session: Callable[[float], Awaitable[Session]],
        close_session: Callable[[Session], None],
    ) -> None:
        """`open_session` gets the time it may take in seconds; `close_session` returns at once."""
        self._open = open_session
        self._close = close_session
        self._current: Session | None = None
        self._opening = asyncio.Lock()
        self._retired: set[Session] = set()

    async def ticket(self, timeout_s: float) -> Ticket:
        """Begin a request. Raises TimeoutError, or what opening a session raises."""
        ticket = self.ticket_at_once()
        return ticket or _next_ticket(await self._renewed(timeout_s))

    def ticket_at_once(self) -> Ticket | None:
        """Begin a request, unless a session has to be opened for it."""
        session = self._usable()
        return None if session is None else _next_ticket(session)

    def finish(self, ticket: Ticket) -> None:
        """End a request: it was answered, or nobody will ask for it again."""
        session = ticket.session
        session.pending.discard(ticket.number)
        if session in self._retired and not session.pending:
            self._retired.discard(session)
            self._close(session)

    def expired(self, session: Session) -> None:
        """Note that the cluster has forgotten `session`."""
        self._retired.discard(session)
        if self._current is session:
            self._current = None

    def take_all(self) -> list[Session]:
        """Forget all sessions and return them, to be closed."""
        sessions = [*self._retired, *([self._current] if self._current else [])]
        self._retired.clear()
        self._current = None
        return sessions

    def _usable(self) -> Session | None:
        session = self._current
        return session if session is not None and session.has_room else None

    async def _renewed(self, timeout_s: float) -> Session:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        async with asyncio.timeout_at(deadline):
            await self._opening.acquire()
        try:
            # Whoever held the lock before may have opened one.
            while (session := self._usable()) is None:
                full = self._current
                self._current = await self._open(max(0.0, deadline - loop.time()))
                if full is not None and full.pending:
                    self._retired.add(full)
                elif full is not None:
                    self._close(full)
            return session
        finally:
            self._opening.release()


def _next_ticket(session: Session) -> Ticket:
    session.last_number += 1
    session.pending.add(session.last_number)
    return Ticket(session, session.last_number)
