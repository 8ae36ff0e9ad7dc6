"""Both faces of the SDK for code that is written once: coroutines, in threads or in tasks.

In a thread a coroutine only ever awaits what is there already, so it runs through in one go.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager
from typing import Any

from agentkeeper.client import AgentKeeperClient, AsyncAgentKeeperClient

from .waiting import background

Work = Callable[[], Coroutine[Any, Any, Any]]
Signal = Future[None]


async def value(result: Any) -> Any:
    """What a call of either face gives."""
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def entered(thing: Any) -> AsyncIterator[Any]:
    """A context manager of either face."""
    if hasattr(thing, "__aenter__"):
        async with thing as inner:
            yield inner
    else:
        with thing as inner:
            yield inner


async def each(stream: Any) -> AsyncIterator[Any]:
    """What an iterator of either face yields."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


class Threads:
    """The sync face: every work has a thread of its own."""

    name = "thread"
    client = AgentKeeperClient

    def start(self, work: Work) -> Future[Any]:
        return background(self._run_through, work)

    async def wait(self, signal: Signal, timeout_s: float | None = None) -> None:
        """Wait until there is a result, or time is over."""
        wait([signal], timeout_s)

    def close(self) -> None:
        pass

    @staticmethod
    def _run_through(work: Work) -> Any:
        coroutine = work()
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError(f"{work} awaits something that is not there")


class Tasks:
    """The async face: every work is a task of one event loop, which has a thread of its own."""

    name = "task"
    client = AsyncAgentKeeperClient

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Work) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    async def wait(self, signal: Signal, timeout_s: float | None = None) -> None:
        """Wait until there is a result, or time is over."""
        await asyncio.wait([asyncio.wrap_future(signal)], timeout=timeout_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


Face = Threads | Tasks
