"""The state machine on this replica: applies what consensus delivers, on the event loop.

Owned by the event loop's thread, so whoever reads the state there sees it between two batches.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from agentkeeper.core import limits, snapshot
from agentkeeper.core.apply import apply
from agentkeeper.core.codec import unpack_batch
from agentkeeper.core.commands import Batch
from agentkeeper.core.records import Event, Result
from agentkeeper.core.state import State
from agentkeeper.server.errors import overloaded

log = structlog.get_logger(__name__)

SLICE_S = 0.005
"""Applying yields to other work after this long; a replica that catches up stays responsive."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What one log entry did."""

    index: int
    term: int
    batch: Batch
    results: Sequence[Result]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    term: int
    payload: bytes
    restores: bool


@dataclass(slots=True)
class Machine:
    """Applies entries in order and tells its observers.

    `on_applied` is called after each entry, `on_restored` after the state was replaced,
    `on_failure` when an entry or snapshot can't be understood: the replica must then stop.
    """

    on_failure: Callable[[str], None]
    state: State = field(default_factory=State)
    applied_index: int = 0
    on_applied: list[Callable[[Applied], None]] = field(default_factory=list)
    on_restored: list[Callable[[], None]] = field(default_factory=list)
    _queue: deque[_Entry] = field(default_factory=deque)
    _draining: bool = False
    _failed: bool = False
    _waiting: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _tickets: int = 0
    _captures: dict[int, asyncio.Task[snapshot.Snapshot]] = field(default_factory=dict)
    """Those that are being made, by their indexes."""

    def deliver(self, index: int, term: int, payload: bytes) -> None:
        """Take a committed entry."""
        self._put(_Entry(index, term, payload, restores=False))

    def deliver_snapshot(self, index: int, term: int, data: bytes) -> None:
        """Take a snapshot that replaces the state."""
        self._put(_Entry(index, term, data, restores=True))

    async def reach(self, index: int) -> None:
        """Wait until `index` is applied. Raises `CallError` when too many wait."""
        if self.applied_index >= index:
            return
        if len(self._waiting) >= 2 * limits.PENDING_READS:
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapq.heapify(self._waiting)
            if len(self._waiting) >= limits.PENDING_READS:
                raise overloaded(f"{limits.PENDING_READS} reads wait on this replica")
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets += 1
        heapq.heappush(self._waiting, (index, self._tickets, reached))
        await reached

    async def capture(self) -> snapshot.Snapshot:
        """The state as of now, to be packed in the background; shared by all who ask at once.

        One table is copied in each turn of the loop, so that no turn is long.
        """
        index = self.applied_index
        task = self._captures.get(index)
        if task is None:
            copying = _copy(snapshot.Capture(self.state, index))
            task = self._captures[index] = asyncio.get_running_loop().create_task(copying)
            task.add_done_callback(lambda _: self._captures.pop(index))
        return await asyncio.shield(task)

    def _put(self, entry: _Entry) -> None:
        self._queue.append(entry)
        if not self._draining:
            self._drain()

    def _drain(self) -> None:
        self._draining = False
        loop = asyncio.get_running_loop()
        end_s = loop.time() + SLICE_S
        while self._queue and not self._failed:
            if self._queue[0].restores:
                self._draining = True
                loop.create_task(self._restore(self._queue.popleft()))  # noqa: RUF006  # ends itself
                return
            self._apply(self._queue.popleft())
            if loop.time() > end_s:
                self._draining = True  # also what is delivered meanwhile is for the next pass
                loop.call_soon(self._drain)
                return

    def _apply(self, entry: _Entry) -> None:
        try:
            batch = unpack_batch(entry.payload)
            results, events = apply(self.state, batch)
        except Exception as error:
            # Going on without an entry would make this replica differ from the others for ever.
            log.exception("entry can't be applied", index=entry.index)
            self._fail(f"log entry {entry.index} can't be applied: {error}")
            return
        self._advance(entry.index)
        applied = Applied(entry.index, entry.term, batch, results, events)
        try:
            for observe in self.on_applied:
                observe(applied)
        except Exception as error:
            log.exception("entry can't be observed", index=entry.index)
            self._fail(f"what follows from log entry {entry.index} failed: {error}")

    async def _restore(self, entry: _Entry) -> None:
        try:
            state, index = await asyncio.to_thread(_read, entry.payload)
            self.state = state
            self._advance(max(index, entry.index))
            for observe in self.on_restored:
                observe()
        except Exception as error:
            log.exception("snapshot can't be restored", index=entry.index)
            self._fail(f"the snapshot at index {entry.index} can't be restored: {error}")
            return
        log.info("state restored from a snapshot", index=entry.index)
        self._drain()

    def _advance(self, index: int) -> None:
        self.applied_index = index
        while self._waiting and self._waiting[0][0] <= index:
            reached = heapq.heappop(self._waiting)[2]
            if not reached.done():
                reached.set_result(None)

    def _fail(self, reason: str) -> None:
        self._failed = True
        self.on_failure(reason)


async def _copy(capture: snapshot.Capture) -> snapshot.Snapshot:
    for _ in capture.steps():
        await asyncio.sleep(0)
    return capture.snapshot()


def _read(payload: bytes) -> tuple[State, int]:
    """Read a snapshot without collecting garbage, of which it makes none.

    The collector would go through all the new records again and again, and stop every thread for
    as long; then they are put out of its sight, as records form no cycles.
    """
    gc.disable()
    try:
        return snapshot.restore(payload)
    finally:
        gc.freeze()
        gc.enable()
