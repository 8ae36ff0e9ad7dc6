"""Runs a client's coroutines on the I/O thread for callers on any other."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agentkeeper import errors
from agentkeeper.client.io_thread import IoThread, shared_io_thread

T = TypeVar("T")


class Runner:
    """The work of one client on the I/O thread, ended together when the client closes."""

    def __init__(self, io: IoThread | None = None) -> None:
        """Work on `io`, by default on the process's shared I/O thread."""
        self._io = shared_io_thread() if io is None else io
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The I/O thread's event loop."""
        return self._io.loop

    @property
    def clock(self) -> Callable[[], float]:
        """The I/O thread's clock (see `IoThread`)."""
        return self._io.clock

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def start(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start `coroutine` and return at once. Raises ClientClosed."""
        if self._closed:
            coroutine.close()
            raise errors.ClientClosed("the client is closed")
        if self._io.is_current():
            coroutine.close()
            raise RuntimeError("the SDK's I/O thread must not wait for itself")
        try:
            return self._io.submit(self._tracked(coroutine))
        except errors.ClientClosed:
            coroutine.close()
            raise

    def close(self, farewell: Coroutine[Any, Any, None]) -> None:
        """Cancel everything under way, run `farewell`, refuse what comes later.

        Where the I/O thread is gone (at the interpreter's exit, in a fork) there is nothing to do.
        """
        if self._closed:
            farewell.close()
            return
        self._closed = True
        try:
            self._io.submit(self._close(farewell)).result()
        except (errors.ClientClosed, concurrent.futures.CancelledError):
            farewell.close()

    async def _tracked(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        if self._closed:  # meanwhile: nobody would end the task any more
            coroutine.close()
            raise errors.ClientClosed("the client is closed")
        self._tasks.add(task)
        try:
            return await coroutine
        finally:
            self._tasks.discard(task)

    async def _close(self, farewell: Coroutine[Any, Any, None]) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await farewell
