"""An event loop whose time stands still until it is moved by hand."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol


class Agenda(Protocol):
    """What is to happen at some time beside the loop's own timers."""

    def next_s(self) -> float | None:
        """When there is something to do next, on the loop's clock; None if there is nothing."""
        ...

    def work_off(self) -> None:
        """Do what is due now, or have the loop do it. `next_s` must be later then."""
        ...


class HandMovedLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 0 and moves only while a `move` is under way.

    It then goes from timer to timer, to the next one (or what the agenda has next) only when
    nothing is left to do. Work that other threads hand over is done at once, at the time there is.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._moves: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._until_s: float | None = None
        self.agenda: Agenda | None = None
        super().__init__(_IdleSelector(self._idle))

    def time(self) -> float:
        """The present time in seconds. From any thread."""
        return self._now_s

    def move(self, seconds: float) -> asyncio.Future[None]:
        """Let `seconds` pass; the future is done once all that falls into them has been done.

        Moves follow one upon another. On the loop's thread only.
        """
        moved = self.create_future()
        self._moves.append((seconds, moved))
        return moved

    def _idle(self, timer_in_s: float) -> bool:
        """Nothing can be done without time passing. Whether there is something to do now."""
        while self._moves and self._moves[0][1].cancelled():
            self._moves.popleft()
            self._until_s = None
        if not self._moves:
            return False
        seconds, moved = self._moves[0]
        if self._until_s is None:
            self._until_s = self._now_s + seconds
        due_s = None if self.agenda is None else self.agenda.next_s()
        if self.agenda is not None and due_s is not None and due_s <= self._now_s:
            self.agenda.work_off()
            return True
        next_s = min(self._now_s + timer_in_s, math.inf if due_s is None else due_s)
        if next_s <= self._until_s:
            self._now_s = next_s
            return True
        self._now_s, self._until_s = self._until_s, None
        self._moves.popleft()
        moved.set_result(None)
        return True


class _IdleSelector(selectors.DefaultSelector):
    """Asks `idle` when the loop has nothing to do, and waits for other threads only after that."""

    def __init__(self, idle: Callable[[float], bool]) -> None:
        super().__init__()
        self._ask = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """See `BaseSelector.select`. The timeout is how far off the loop's next timer is."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._ask(math.inf if timeout is None else timeout):
            return []
        return super().select(None)
