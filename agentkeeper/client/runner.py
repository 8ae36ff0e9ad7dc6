"""Runs a client's coroutines on the I/O thread for callers on any other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agentkeeper import errors
from agentkeeper.client.io_thread import IoThread, shared_io_thread

T = TypeVar("T")
Undo = Callable[[T], object]
"""Undoes what work on the I/O thread has come to. On that thread; returns at once."""


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
    def on_io_thread(self) -> bool:
        """Whether the caller runs on the I/O thread."""
        return self._io.is_current()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def start(
        self, coroutine: Coroutine[Any, Any, T], undo: Undo[T] | None = None
    ) -> concurrent.futures.Future[T]:
        """Start `coroutine` and return at once. Raises ClientClosed.

        If the future is cancelled too late to end the work, `undo` gets what it returned.
        """
        if self._closed:
            coroutine.close()
            raise errors.ClientClosed("the client is closed")
        if self._io.is_current():
            coroutine.close()
            raise RuntimeError("the SDK's I/O thread must not wait for itself")
        future: concurrent.futures.Future[T] | None = None

        def done(task: asyncio.Task[T]) -> None:
            # Called after the future was told: it is cancelled by now, or never will be.
            undone = future is not None and future.cancelled()
            if undo and undone and not task.cancelled() and task.exception() is None:
                undo(task.result())

        try:
            future = self._io.submit(self._tracked(coroutine, done if undo else None))
        except errors.ClientClosed:
            coroutine.close()
            raise
        return future

    def give_up(self, future: concurrent.futures.Future[T], undo: Undo[T] | None) -> None:
        """Cancel work that nobody waits for; if it has returned already, `undo` gets what.

        On any thread.
        """
        over = not future.cancel() and not future.cancelled()
        if undo is not None and over and future.exception() is None:
            self.post(lambda: undo(future.result()))

    def post(self, function: Callable[[], object]) -> None:
        """Let the I/O thread call `function` soon; nobody waits. On any thread, also that one.

        Where the client is closed or the I/O thread is gone, there is nothing left to do.
        """
        if not self._closed:
            with contextlib.suppress(RuntimeError):
                self._io.loop.call_soon_threadsafe(function)

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

    async def _tracked(
        self,
        coroutine: Coroutine[Any, Any, T],
        done: Callable[[asyncio.Task[T]], None] | None,
    ) -> T:
        task = asyncio.current_task()
        assert task is not None
        if done is not None:
            task.add_done_callback(done)
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
