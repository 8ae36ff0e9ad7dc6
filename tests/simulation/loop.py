"""An event loop without sockets and threads, run by the world whenever its replica has a turn."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

_PASSES = 200
"""Passes after which a loop that always finds more to do gives others a turn."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Implements what asyncio's tasks, futures, events and timeouts ask of a loop.

    `read_clock` gives its time; `wake(at_s)` asks the world for a turn at a true time; `now_s` is
    true time; `offload(work)` has `work` done a little later, as a thread of a pool would;
    `report` is told of callbacks that raised.
    """

    def __init__(
        self,
        *,
        read_clock: Callable[[], float],
        now_s: Callable[[], float],
        wake: Callable[[float], None],
        offload: Callable[[Callable[[], None]], None],
        report: Callable[[str], None],
    ) -> None:
        self.time = read_clock  # type: ignore[method-assign]  # a call less on every reading
        self._now_s = now_s
        self._wake = wake
        self._offload = offload
        self._report = report
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._handed_over: deque[tuple[float, asyncio.Handle]] = deque()
        self._running = False
        self._abandoned = False
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # --- turns -----------------------------------------------------------------------------------
    def run(self) -> float | None:
        """Do all that is ready; returns the local time of the next timer, None without any."""
        self._running = True
        asyncio._set_running_loop(self)
        try:
            now_s = self._now_s()
            handed_over = self._handed_over
            while handed_over and handed_over[0][0] <= now_s:
                self._ready.append(handed_over.popleft()[1])
            local_s = self.time()
            for _ in range(_PASSES):
                timers = self._timers
                while timers and timers[0][0] <= local_s:
                    handle = heapq.heappop(timers)[2]
                    handle._scheduled = False  # type: ignore[attr-defined]  # as asyncio does
                    if not handle.cancelled():
                        self._ready.append(handle)
                ready = self._ready
                if not ready:
                    break
                for _ in range(len(ready)):
                    handle_ = ready.popleft()
                    if not handle_.cancelled():
                        handle_._run()
        finally:
            asyncio._set_running_loop(None)
            self._running = False
        if self._ready:
            self._wake(self._now_s())
        if self._handed_over:
            self._wake(self._handed_over[0][0])
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def abandon(self) -> None:
        """End all tasks of a process that is dead; what they do in the end reaches nobody."""
        self._abandoned = True
        for _ in range(10):
            for task in list(self._tasks):
                task.cancel()
            self._timers.clear()
            self._handed_over.clear()
            if not self._tasks:
                break
            self.run()
        for task in self._tasks:
            # The process was killed: that its tasks did not end is no mistake to complain of.
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
        self._ready.clear()

    # --- what asyncio asks for (without the variadic generics of its stubs: so the silencers) ----
    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._running:
            self._wake(self._now_s())
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """From the engine's turn: the loop hears of it at the time at which that has arrived."""
        handle = asyncio.Handle(callback, args, self, context)
        if self._running:
            self._ready.append(handle)
            return handle
        now_s = self._now_s()
        if self._handed_over:
            now_s = max(now_s, self._handed_over[-1][0])
        self._handed_over.append((now_s, handle))
        self._wake(now_s)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name or "", context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.Future(loop=self)

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                self.call_soon_threadsafe(_settle, future, error, None)
            else:
                self.call_soon_threadsafe(_settle, future, None, result)

        self._offload(work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._abandoned:
            self._report(f"{context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._abandoned


def _settle(future: asyncio.Future[T], error: Exception | None, result: T) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
