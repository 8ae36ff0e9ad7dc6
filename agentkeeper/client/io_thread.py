"""The SDK's own I/O thread: one event loop per process that every client shares.

User code runs on other threads, so neither a blocked event loop nor a long computation between
two awaits can starve heartbeats and streams.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agentkeeper import errors

try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:  # not on this platform
    _new_event_loop = asyncio.new_event_loop

T = TypeVar("T")

STOP_TIMEOUT_S = 2.0


def _uptime_s() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is such a clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class IoThread:
    """A daemon thread that runs an event loop until it is stopped or the interpreter exits."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Run `loop`, by default a new one; `clock` must be callable from any thread."""
        self.loop = _new_event_loop() if loop is None else loop
        self.clock = _uptime_s if clock is None else clock
        """In seconds: for deadlines that must hold although the machine was asleep meanwhile."""
        self._pid = os.getpid()
        # Re-entrant: a signal handler or a finalizer may come by on the thread that holds it.
        self._lock = threading.RLock()
        self._stopped = False
        self._pending: set[concurrent.futures.Future[Any]] = set()
        self._thread = threading.Thread(target=self._main, name="agentkeeper-io", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run `coroutine` on the loop; cancelling the future cancels it. From any thread.

        Raises ClientClosed once the thread is stopped, and in a fork, which has no such thread.
        """
        if self._pid != os.getpid():  # before the lock, which the fork may have copied locked
            coroutine.close()
            raise errors.ClientClosed("the client belongs to the process that this one forked from")
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise errors.ClientClosed("the client's background thread has ended")
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def is_current(self) -> bool:
        """Whether the caller runs on this thread, where waiting for it would never end."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Stop the loop and join the thread; what is under way or queued is cancelled."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._stopped = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        for future in list(self._pending):
            future.cancel()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_shared: IoThread | None = None
_forked = False
_lock = threading.Lock()


def shared_io_thread() -> IoThread:
    """Return the process's I/O thread, started when first asked for.

    Raises RuntimeError in a fork of a process that had one: gRPC hangs there.
    """
    global _shared  # noqa: PLW0603 - one per process is the point
    if _forked:
        raise RuntimeError(
            "no client can be used in a fork of a process that has used one:"
            " fork before the first client, or start processes by 'spawn' or 'forkserver'"
        )
    with _lock:
        if _shared is None:
            _shared = IoThread()
            atexit.register(_shared.stop)
        return _shared


def _forget() -> None:
    """In a fork: the thread stayed behind, and the lock may have been held by another one."""
    global _shared, _forked, _lock  # noqa: PLW0603
    _forked = _forked or _shared is not None
    _shared = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
