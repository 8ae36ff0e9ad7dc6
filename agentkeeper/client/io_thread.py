"""The SDK's own I/O thread: one event loop per process that every client shares.

User code runs on other threads, so neither a blocked event loop nor a long computation between
two awaits can starve heartbeats and streams.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:  # not on this platform
    _new_event_loop = asyncio.new_event_loop

T = TypeVar("T")

STOP_TIMEOUT_S = 2.0


class IoThread:
    """A daemon thread that runs an event loop until the interpreter exits."""

    def __init__(self) -> None:
        self.loop = _new_event_loop()
        self._thread = threading.Thread(target=self._main, name="agentkeeper-io", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run `coroutine` on the loop; cancelling the future cancels it. From any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def is_current(self) -> bool:
        """Whether the caller runs on this thread, where waiting for it would never end."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Stop the loop and join the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_TIMEOUT_S)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_shared: IoThread | None = None
_lock = threading.Lock()


def shared_io_thread() -> IoThread:
    """Return the process's I/O thread, started when first asked for."""
    global _shared  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _shared is None:
            _shared = IoThread()
            atexit.register(_shared.stop)
        return _shared
