"""Something that is held for a time: a lease, a claim, an agent's life, a leadership.

The holder's own clock decides when it can no longer be sure of what it holds, so that it knows in
time also when no server can be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import weakref
from collections.abc import Callable

CLOCK_DRIFT = 0.01
MAX_MARGIN_S = 0.5


def safe_s(ttl_s: float) -> float:
    """How much of a ttl the holder counts on: less what clocks may differ and a timer be late."""
    return ttl_s - min(MAX_MARGIN_S, CLOCK_DRIFT * ttl_s)


class Tenure:
    """Is held until it is given back or lost, and lost for good.

    Made and extended on the I/O thread; may be asked on any. It is lost when somebody says so,
    when its deadline passes, or with another tenure that it depends on, whichever is first; whoever
    asks then is told so even if the timer, on a machine that was paused, has yet to fire.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that go on while the machine sleeps; callable on any thread."""
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._lock = threading.Lock()
        self._deadline_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._reason = ""
        self._observers: list[Callable[[], None]] = []
        self._within: Tenure | None = None
        self._dependents: weakref.WeakSet[Tenure] = weakref.WeakSet()

    @property
    def deadline_s(self) -> float:
        """When it is lost unless extended, on the clock."""
        return self._deadline_s

    @property
    def reason(self) -> str:
        """Why it was lost; empty if it was not."""
        self._look()
        return self._reason

    @property
    def lost(self) -> bool:
        """Whether it was lost. Never true after it was given back."""
        return bool(self.reason)

    @property
    def held(self) -> bool:
        """Whether it is neither lost nor given back."""
        self._look()
        return not self._over

    def extend_to(self, deadline_s: float) -> bool:
        """Move the deadline; False if it is too late for that. On the loop only."""
        with self._lock:
            if self._over or self._clock() >= self._deadline_s:
                return False
            self._deadline_s = deadline_s
        self._set_timer()
        return True

    def depend_on(self, other: Tenure) -> None:
        """Be lost when `other` is lost. On the loop only."""
        self._within = other
        other._dependents.add(self)
        self._look()

    def lose(self, reason: str) -> None:
        """End it as lost, unless it is over already. On any thread."""
        self._end(reason)

    def give_back(self) -> bool:
        """End it as given back; False if it was over already. On any thread."""
        return self._end("")

    def on_lost(self, observer: Callable[[], None]) -> None:
        """Call `observer`, on the loop, when it is lost; soon, if it is already. On any thread."""
        with self._lock:
            if not self._over:
                self._observers.append(observer)
                return
        if self._reason:
            self._loop.call_soon_threadsafe(observer)

    def forget(self, observer: Callable[[], None]) -> None:
        """Take back what was given to `on_lost`, if it was not called yet. On any thread."""
        with self._lock, contextlib.suppress(ValueError):
            self._observers.remove(observer)

    def _look(self) -> None:
        if self._over:
            return
        if self._clock() >= self._deadline_s:
            self._end("not renewed in time")
        elif self._within is not None and self._within.lost:
            self._end(self._within.reason)

    def _end(self, reason: str) -> bool:
        with self._lock:
            if self._over:
                return False
            self._over = True
            self._reason = reason
            observers, self._observers = self._observers, []
        with contextlib.suppress(RuntimeError):  # the interpreter is exiting
            self._loop.call_soon_threadsafe(self._tell, observers if reason else [])
        return True

    def _tell(self, observers: list[Callable[[], None]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for dependent in list(self._dependents):
            dependent._look()
        for observer in observers:
            observer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if math.isfinite(self._deadline_s):
            self._timer = self._loop.call_later(self._deadline_s - self._clock(), self._due)

    def _due(self) -> None:
        self._timer = None
        self._look()
        if not self._over:
            self._set_timer()  # the timer's clock and ours need not agree to the last bit
