"""A live subscription: events flow from the I/O thread to a callback on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc

from agentkeeper import errors
from agentkeeper.client.runner import Runner
from agentkeeper.client.watch import EventFeed
from agentkeeper.types import WatchEvent, WatchGap

T = TypeVar("T")

BUFFERED_EVENTS = 1_000

logger = logging.getLogger("agentkeeper")


class Mailbox(Generic[T]):
    """A bounded queue from a coroutine to a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._items: list[T] = []
        self._closed = False
        self._changed = threading.Condition()
        self._room = asyncio.Event()

    async def put(self, item: T) -> None:
        """Add `item`, once there is room. On the loop only."""
        while len(self._items) >= self._limit and not self._closed:
            self._room.clear()
            await self._room.wait()
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def take(self) -> list[T]:
        """Wait for items and return all there are; empty once the mailbox is closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            items, self._items = self._items, []
        with contextlib.suppress(RuntimeError):  # the loop may have ended with the interpreter
            self._loop.call_soon_threadsafe(self._room.set)
        return items

    def close(self) -> None:
        """Let `take` end once what is there has been taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()


class Subscription:
    """Events delivered to a callback in the background, in order, until `cancel()`.

    Survives the loss of the replica that serves it. A context manager: cancels on exit.
    """

    def __init__(
        self,
        runner: Runner,
        feed: EventFeed,
        callback: Callable[[WatchEvent], None],
        on_gap: Callable[[WatchGap], None] | None,
    ) -> None:
        self._feed = feed
        self._callback = callback
        self._on_gap = on_gap
        self._cancelled = False
        self._error: errors.AgentKeeperError | None = None
        self._mailbox: Mailbox[WatchEvent | WatchGap] = Mailbox(runner.loop, BUFFERED_EVENTS)
        self._pumping = runner.start(self._pump())
        self._pumping.add_done_callback(self._pumped)
        self._thread = threading.Thread(target=self._deliver, name="agentkeeper-watch", daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether events are still being delivered."""
        return self._thread.is_alive() and not self._cancelled

    @property
    def error(self) -> errors.AgentKeeperError | None:
        """What ended the subscription other than `cancel()` and closing the client, if anything."""
        return self._error

    def cancel(self) -> None:
        """End the subscription; what is buffered is dropped. Harmless when repeated.

        The one callback that may just be running, or about to run, is not waited for.
        """
        self._cancelled = True
        self._pumping.cancel()
        self._mailbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    async def _pump(self) -> None:
        try:
            async with contextlib.aclosing(self._feed.items()) as items:
                async for item in items:
                    await self._mailbox.put(item)
        except errors.AgentKeeperError as error:
            self._error = error
            logger.error("a watch has ended: %s", error)
        except Exception as error:
            details = f"the watch has broken: {error!r}"
            self._error = errors.AgentKeeperError(details, grpc.StatusCode.INTERNAL)
            logger.exception("a watch has ended")
        finally:
            self._feed.cancel()

    def _pumped(self, pumping: concurrent.futures.Future[None]) -> None:
        if pumping.cancelled():  # by `cancel()`, or because the client is closed
            self._cancelled = True
        self._mailbox.close()

    def _deliver(self) -> None:
        while items := self._mailbox.take():
            for item in items:
                if self._cancelled:
                    return
                try:
                    self._handle(item)
                except Exception:
                    # One failing callback must not cost the events after it.
                    logger.exception("the callback of a watch raised")

    def _handle(self, item: WatchEvent | WatchGap) -> None:
        if isinstance(item, WatchEvent):
            self._callback(item)
        elif self._on_gap is not None:
            self._on_gap(item)
        else:
            logger.warning(
                "a watch missed events %d to %d: no longer kept", item.after + 1, item.oldest - 1
            )
