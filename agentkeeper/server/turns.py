"""Whoever has much to do at once lets others have a turn in between.

The event loop runs all that is ready in one pass, however much that is; what comes meanwhile waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PASS_S: Final = 0.002
"""In one pass of the event loop no more work is begun after this long."""
PASS_STEPS: Final = 16
"""Put-off steps of one pass. Each may wake a call, which has more to do than the step itself."""


class Turns:
    """One for all of a replica that may come in heaps."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spent_at_s = 0.0
        self._counting = False
        self._put_off: deque[Callable[[], object]] = deque()
        self._stepping = False

    async def take(self) -> None:
        """Wait until this pass has time left."""
        while self.spent():  # noqa: ASYNC110  # a pass is what is waited for
            await asyncio.sleep(0)

    def spent(self) -> bool:
        """Whether this pass has had its share of work; it counts from the first time of asking."""
        now_s = self._loop.time()
        if self._counting:
            return now_s >= self._spent_at_s
        self._counting = True
        self._spent_at_s = now_s + PASS_S
        self._loop.call_soon(self._next_pass)
        return False

    def soon(self, step: Callable[[], object]) -> None:
        """Take a short step in one of the next passes, in the order of asking."""
        self._put_off.append(step)
        if not self._stepping:
            self._stepping = True
            self._loop.call_soon(self._take_steps)

    def _next_pass(self) -> None:
        self._counting = False

    def _take_steps(self) -> None:
        try:
            for _ in range(min(PASS_STEPS, len(self._put_off))):
                self._put_off.popleft()()
        finally:
            self._stepping = bool(self._put_off)
            if self._stepping:
                self._loop.call_soon(self._take_steps)
