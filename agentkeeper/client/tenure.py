"""Something that is held for a time: a lease, a claim, an agent's life, a leadership.

The holder's own clock decides when it can no longer be sure of what it holds, so that it knows in
time also when no server can be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable

CLOCK_DRIFT = 0.01
MAX_MARGIN_S = 0.5
LOOK_S = 4.0
"""How long a timer runs at most: those of the loop stand still while the machine sleeps, and the
clock does not."""

logger = logging.getLogger("agentkeeper")


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
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._deadline_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._lost = False
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
        self._look()
        return self._lost

    @property
    def held(self) -> bool:
        """Whether it is neither lost nor given back."""
        self._look()
        return not self._over

    def extend_to(self, deadline_s: float) -> bool:
        """Move the deadline; False if it is too late for that. On the loop only."""
        self._look()
        with self._lock:
            if self._over:
                return False
            self._deadline_s = deadline_s
        self._set_timer()
        return self.held

    def depend_on(self, other: Tenure) -> None:
        """Be lost when `other` is lost. On the loop only."""
        self._within = other
        other._dependents.add(self)
        self._look()

    def lose(self, reason: str) -> None:
        """End it as lost, unless it is over already. On any thread."""
        self._end(reason, lost=True)

    def give_back(self) -> bool:
        """End it as given back; False if it was over already. On any thread."""
        return self._end("", lost=False)

    def on_end(self, observer: Callable[[], None]) -> None:
        """Call `observer`, on the loop, when it is over; soon, if it is already. On any thread."""
        with self._lock:
            if not self._over:
                self._observers.append(observer)
                return
        self._call_soon([observer])

    def on_lost(self, observer: Callable[[], None]) -> None:
        """As `on_end`, but only if it is lost."""

        def tell() -> None:
            if self._lost:
                observer()

        self.on_end(tell)

    def forget(self, observer: Callable[[], None]) -> None:
        """Take back what was given to `on_end`, if it was not called yet. On any thread."""
        with self._lock, contextlib.suppress(ValueError):
            self._observers.remove(observer)

    def _look(self) -> None:
        if self._over:
            return
        if os.getpid() != self._pid:
            # A copy that nobody tells anything. The lock may have been copied locked.
            self._reason, self._lost, self._over = "held by the process forked from", True, True
        elif self._clock() >= self._deadline_s:
            self._end("not renewed in time", lost=True)
        elif self._within is not None and not self._within.held:
            self._end(self._within.reason or "its agent was deregistered", lost=True)

    def _end(self, reason: str, *, lost: bool) -> bool:
        with self._lock:
            if self._over:
                return False
            self._reason, self._lost = reason or ("lost" if lost else ""), lost
            self._over = True  # last: others look at it without the lock
            observers, self._observers = self._observers, []
        self._call_soon(observers)
        return True

    def _call_soon(self, observers: list[Callable[[], None]]) -> None:
        with contextlib.suppress(RuntimeError):  # the interpreter is exiting
            self._loop.call_soon_threadsafe(self._tell, observers)

    def _tell(self, observers: list[Callable[[], None]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for dependent in list(self._dependents):
            dependent._look()
        for observer in observers:
            try:
                observer()
            except Exception:
                logger.exception("an observer of a loss failed")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if math.isfinite(self._deadline_s):
            left_s = min(LOOK_S, self._deadline_s - self._clock())
            self._timer = self._loop.call_later(left_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._look()
        if not self._over:
            self._set_timer()
