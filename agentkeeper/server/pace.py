"""Events go to many watchers at the pace that leaves calls their time.

One change may be an event for each of hundreds of watchers, and to send one costs about as much as
a call. An event may come somewhat later, while a call has somebody waiting for its answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

TOGETHER: Final = 8
"""Steps that are taken in one pass of the event loop."""
REST: Final = 1
"""Times as long as these took no others are: whatever else there is to do is done meanwhile,"""
BUSY_REST: Final = 4
"""and the same while calls are under way on this replica."""


class Pace:
    """Steps of many, a few at a time, and a rest in between, a longer one while it is `busy`."""

    def __init__(self, busy: Callable[[], bool] = lambda: False) -> None:
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._going = False
        self._began_s = 0.0

    async def step(self) -> None:
        """Wait until one more step may be taken, in the order of asking."""
        turn = self._loop.create_future()
        self._waiting.append(turn)
        if not self._going:
            self._going = True
            self._loop.call_soon(self._go)
        await turn

    def _go(self) -> None:
        self._began_s = self._loop.time()
        left = TOGETHER
        while self._waiting and left:
            turn = self._waiting.popleft()
            if not turn.done():  # by being cancelled
                turn.set_result(None)
                left -= 1
        self._loop.call_soon(self._gone)  # after those who were woken

    def _gone(self) -> None:
        if not self._waiting:
            self._going = False
        else:
            rest = BUSY_REST if self._busy() else REST
            self._loop.call_later(rest * (self._loop.time() - self._began_s), self._go)
