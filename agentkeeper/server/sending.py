"""One stream of events on its way to a client that may have stopped to take them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agentkeeper.server.errors import CallError
from agentkeeper.server.replica import shutting_down


class Sending:
    """Writes events one by one, until `look` finds that this can't go on.

    `write` returns when an event is on its way and there is room for another. A client that takes
    nothing for `stalled_s` does not read any more; None lets it take its time.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        closing: asyncio.Event,
        stalled_s: float | None,
    ) -> None:
        self._write = write
        self._closing = closing
        self._stalled_s = stalled_s
        self._loop = asyncio.get_running_loop()
        self._scope: asyncio.Timeout | None = None
        """Of the write that is under way."""
        self._since_s = 0.0
        self._error: CallError | None = None

    async def send(self, event: bytes) -> None:
        """Write an event. Raises `CallError` if that was broken off."""
        self._since_s = self._loop.time()
        try:
            async with asyncio.timeout(None) as self._scope:
                await self._write(event)
        except TimeoutError:
            if self._error is None:
                raise
            raise self._error from None
        finally:
            self._scope = None

    def look(self) -> None:
        """Break off a write that takes too long, or that would keep this replica from stopping."""
        if self._scope is None or self._error is not None:
            return
        if self._closing.is_set():
            self._error = shutting_down()
        elif self._stalled_s is not None and self._loop.time() - self._since_s > self._stalled_s:
            message = f"nothing was read for {self._stalled_s:.0f} s"
            self._error = CallError("RESOURCE_EXHAUSTED", "slow_reader", message)
        else:
            return
        self._scope.reschedule(self._loop.time())
