"""Whoever has much to do at once lets others have a turn in between.

The event loop runs all that is ready in one pass, however much that is; what comes meanwhile waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from agentkeeper.server.lines import Lines

PASS_S: Final = 0.002
"""In one pass of the event loop no more work is begun after this long."""
PASS_STEPS: Final = 16
"""Put-off steps of one pass. Each may wake a call, which has more to do than the step itself."""
PASS_TURNS: Final = 64
"""Turns of one pass, at most; fewer if those of the last one took long."""
BUSY_S: Final = 0.008
"""So much work in a pass is too much, whatever it is: every call goes through some passes."""
TURNS_MORE: Final = 4
"""In a pass than in the last one, if that was not too long."""
BUSY_TURNS: Final = 8
"""Turns of a pass all the same."""


class Turns:
    """One for all of a replica that may come in heaps."""

    def __init__(self, held: Callable[[], bool] = lambda: False) -> None:
        """While `held` no turns are given; `resume` tells that it may not be any more."""
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._spent_at_s = 0.0
        self._counting = False
        self._waiting: Lines[Hashable, asyncio.Future[None]] = Lines()
        self._turns = 1
        """In the next pass."""
        self._giving = False
        self._worked_s = 0.0
        """By this thread, in all, as turns were given last."""
        self._put_off: deque[Callable[[], object]] = deque()
        self._stepping = False

    @property
    def free(self) -> bool:
        """Whether something may begin at once, as nobody waits and this pass has time left."""
        return not self._waiting and not self._held() and not self.spent()

    def waits(self, owner: Hashable) -> bool:
        """Whether this one waits for a turn."""
        return owner in self._waiting

    async def take(self, owner: Hashable = None) -> float:
        """Wait for a turn, which each owner has after the other; returns for how many seconds."""
        if self.free:
            return 0.0
        began_s = self._loop.time()
        turn = self._loop.create_future()
        self._waiting.put(owner, turn)
        self.resume()
        await turn
        return self._loop.time() - began_s

    def resume(self) -> None:
        """Give turns, if some wait for one."""
        if self._waiting and not self._giving:
            self._giving = True
            self._worked_s = time.thread_time()
            self._loop.call_soon(self._give)

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

    async def step(self) -> None:
        """Go on now if this pass has time left, else in one of the next, in the order of asking."""
        if self._put_off or self.spent():
            mine = self._loop.create_future()
            self.soon(partial(_go_on, mine))
            await mine

    def _next_pass(self) -> None:
        self._counting = False

    def _give(self) -> None:
        """Give turns. Those who get one run in the next pass, between the two calls put there."""
        began_s = 0.0

        def begin() -> None:
            nonlocal began_s
            began_s = self._loop.time()

        def end() -> None:
            self._adapt(self._loop.time() - began_s)
            self._give()

        self._loop.call_soon(begin)
        given = 0
        while self._waiting and given < self._turns and not self._held():
            turn = self._waiting.take()
            if not turn.done():  # by being cancelled
                turn.set_result(None)
                given += 1
        self._giving = given > 0
        if self._giving:
            self._loop.call_soon(end)

    def _adapt(self, took_s: float) -> None:
        """Learn from a pass how many turns the next one can have. `took_s`: by its own turns."""
        before_s, self._worked_s = self._worked_s, time.thread_time()
        if took_s > PASS_S:
            self._turns = max(1, self._turns // 2)
        elif self._worked_s - before_s > BUSY_S:
            self._turns = max(min(self._turns, BUSY_TURNS), self._turns // 2)
        else:
            self._turns = min(PASS_TURNS, self._turns + TURNS_MORE)

    def _take_steps(self) -> None:
        try:
            for _ in range(min(PASS_STEPS, len(self._put_off))):
                self._put_off.popleft()()
        finally:
            self._stepping = bool(self._put_off)
            if self._stepping:
                self._loop.call_soon(self._take_steps)


def _go_on(future: asyncio.Future[None]) -> None:
    if not future.done():  # by being cancelled
        future.set_result(None)
