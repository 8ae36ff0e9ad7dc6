"""Events that the I/O thread has received ahead of their reader, within a bound."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import grpc

from agentkeeper import errors
from agentkeeper.client.background import Background
from agentkeeper.client.watch import EventFeed
from agentkeeper.types import WatchEvent, WatchGap

BUFFERED_EVENTS = 1_000

logger = logging.getLogger("agentkeeper")


class EventBuffer:
    """Receives a feed's events in the background and hands them out in batches. On the loop only.

    While it is full nothing more is received: the feed waits, and the daemon with it.
    """

    def __init__(self, feed: EventFeed, background: Background) -> None:
        self._feed = feed
        self._items: list[WatchEvent | WatchGap] = []
        self._error: errors.AgentKeeperError | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._filling = background.start(self._fill())

    @classmethod
    async def of(
        cls, open_feed: Callable[[], Awaitable[EventFeed]], background: Background
    ) -> EventBuffer:
        """Return the buffer of a feed once that is live. Raises what opening it raises."""
        return cls(await open_feed(), background)

    async def take(self) -> list[WatchEvent | WatchGap]:
        """Wait for events and gaps and return all there are; none once the feed was closed.

        Raises what ended the feed, once what came before it has been taken.
        """
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return []
            self._changed.clear()
            await self._changed.wait()
        items, self._items = self._items, []
        self._room.set()
        return items

    def close(self) -> None:
        """End the feed; what is buffered is dropped. Harmless when repeated."""
        self._filling.cancel()
        self._items.clear()
        self._end()

    async def _fill(self) -> None:
        try:
            async with contextlib.aclosing(self._feed.items()) as items:
                async for item in items:
                    while len(self._items) >= BUFFERED_EVENTS:
                        self._room.clear()
                        await self._room.wait()
                    self._items.append(item)
                    self._changed.set()
        except errors.AgentKeeperError as error:
            self._error = error
        except Exception as error:
            logger.exception("a watch has ended")
            details = f"the watch has broken: {error!r}"
            self._error = errors.AgentKeeperError(details, grpc.StatusCode.INTERNAL)
        finally:
            self._feed.cancel()
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()
