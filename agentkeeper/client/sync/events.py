# Made from agentkeeper/client/aio/events.py by tools/make_sync.py: edit that one.
"""Events of the bus, to be iterated over or handed to a callback."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from agentkeeper import errors
from agentkeeper.client.buffer import EventBuffer
from agentkeeper.client.runner import Runner
from agentkeeper.client.sync.concurrency import Background, Begun, Callback, invoke
from agentkeeper.types import WatchEvent, WatchGap

logger = logging.getLogger("agentkeeper")


class EventStream:
    """Events in order, each once, until closed; an iterator and a context manager.

    Goes on at another replica when one is lost. Where events are no longer kept, `on_gap` is
    called and the stream goes on with what there is; without `on_gap`, Compacted is raised, whose
    `oldest` is the next event there is, and the iteration may be continued.
    """

    def __init__(
        self,
        runner: Runner,
        opening: Coroutine[Any, Any, EventBuffer],
        on_gap: Callback[WatchGap] | None,
    ) -> None:
        self._runner = runner
        self._opening = Begun(runner, opening)
        self._on_gap = on_gap
        self._taking: Begun[list[WatchEvent | WatchGap]] | None = None
        self._ready: deque[WatchEvent | WatchGap] = deque()
        self._lock = threading.Lock()
        # Also when nobody closes it: a loop over it may just be left.
        self._finalizer = weakref.finalize(self, self._opening.undo, EventBuffer.close)
        self._opening.await_if_blocking()

    def __iter__(self) -> Iterator[WatchEvent]:
        return self

    def __next__(self) -> WatchEvent:
        while True:
            item = self.next_item()
            if item is None:
                raise StopIteration
            if isinstance(item, WatchEvent):
                return item
            if self._on_gap is None:
                gone = f"events {item.after + 1} to {item.oldest - 1} are no longer kept"
                error = errors.Compacted(gone)
                error.oldest = item.oldest
                raise error
            invoke(self._on_gap, item)

    def next_item(self) -> WatchEvent | WatchGap | None:
        """Wait for the next event or gap; None once the stream is closed."""
        try:
            buffer = self._opening.result()
            while not self.closed:
                if self._runner.closed:
                    raise errors.ClientClosed("the client is closed")
                with self._lock:
                    if self._ready:
                        return self._ready.popleft()
                    if self._taking is None:
                        self._taking = Begun(self._runner, buffer.take())
                    taking = self._taking
                items = taking.result()
                with self._lock:
                    if self._taking is taking:  # else another one who waited has them
                        self._taking = None
                        self._ready.extend(items)
                if not items:
                    return None
        except errors.ClientClosed:
            if not self.closed or self._runner.closed:
                raise
        return None

    def opened(self) -> Self:
        """Wait until everything that happens from now on will be yielded; raise if it won't."""
        self._opening.result()
        return self

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._finalizer.alive

    def close(self) -> None:
        """End the stream; what was received and not yet yielded is dropped. On any thread."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self.opened()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Subscription:
    """Events delivered to a callback in the background, in order, until `cancel()`.

    Survives the loss of the replica that serves it. A context manager: cancels on exit.
    """

    def __init__(
        self,
        stream: EventStream,
        callback: Callback[WatchEvent],
        on_gap: Callback[WatchGap] | None,
    ) -> None:
        self._stream = stream
        self._callback = callback
        self._on_gap = on_gap
        self._cancelled = False
        self._error: errors.AgentKeeperError | None = None
        self._background = Background(self._deliver, "agentkeeper-watch")

    @property
    def active(self) -> bool:
        """Whether events are still being delivered."""
        return self._background.running and not self._cancelled

    @property
    def error(self) -> errors.AgentKeeperError | None:
        """What ended the subscription other than `cancel()` and closing the client, if anything."""
        return self._error

    def cancel(self) -> None:
        """End the subscription; what is buffered is dropped. Harmless when repeated.

        The one callback that may just be running, or about to run, is not waited for.
        """
        self._cancelled = True
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def _deliver(self) -> None:
        try:
            while (item := self._stream.next_item()) is not None:
                try:
                    self._handle(item)
                except Exception:
                    # One failing callback must not cost the events after it.
                    logger.exception("the callback of a watch raised")
        except errors.ClientClosed:
            self._cancelled = True
        except errors.AgentKeeperError as error:
            self._error = error
            logger.error("a watch has ended: %s", error)

    def _handle(self, item: WatchEvent | WatchGap) -> None:
        if isinstance(item, WatchEvent):
            invoke(self._callback, item)
        elif self._on_gap is not None:
            invoke(self._on_gap, item)
        else:
            logger.warning(
                "a watch missed events %d to %d: no longer kept", item.after + 1, item.oldest - 1
            )
