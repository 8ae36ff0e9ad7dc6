"""How much may be under way at a time, on a replica and on one stream.

Calls that may wait long for something to happen are counted apart from those that only work: short
calls find room however many wait.

Long before a bound is reached there may be more to do than this replica can do in good time. Calls
begin in turn, one of each client, so that nobody waits for what others have asked too much of; and
what has not begun in good time is refused. That is judged by time, for no number fits all machines.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from agentkeeper.core import limits
from agentkeeper.server.errors import CallError, overloaded

UPKEEP: Final = frozenset({"Heartbeat", "RenewLease", "ExtendTask", "OpenSession"})
"""Never refused for being late: what is not kept up in time is lost, and leads to more calls."""


def is_late(method: str, waited_s: float) -> bool:
    """Whether a call is to be refused that has waited so long for its turn to begin."""
    return waited_s > limits.LATE_MS / 1000 and method not in UPKEEP


def not_begun() -> CallError:
    """Why a late call is refused."""
    return overloaded(f"not begun within {limits.LATE_MS} ms: too many calls on this replica")


class CallsUnderWay:
    """Counts calls and the bytes of their requests, within bounds. `where` is for messages."""

    def __init__(self, where: str, working: int, waiting: int, size: int) -> None:
        self._where = where
        self._max_working = working
        self._max_waiting = waiting
        self._max_bytes = size
        self.working = 0
        self.waiting = 0
        self.bytes = 0
        self.none = asyncio.Event()
        """Set while there is no call."""
        self.none.set()

    @property
    def count(self) -> int:
        """All calls."""
        return self.working + self.waiting

    def check(self, size: int) -> None:
        """Raise `CallError` unless there is room for one more call that works."""
        if self.working >= self._max_working:
            raise overloaded(f"{self._max_working} calls are under way on this {self._where}")
        if self.bytes + size > self._max_bytes:
            raise overloaded(
                f"requests of {self._max_bytes} bytes are under way on this {self._where}"
            )

    def check_waiting(self) -> None:
        """Raise `CallError` unless there is room for one more call that waits."""
        if self.waiting >= self._max_waiting:
            raise overloaded(f"{self._max_waiting} calls wait on this {self._where}")

    def add(self, working: int, waiting: int, size: int) -> None:
        """Count so many more, or fewer."""
        self.working += working
        self.waiting += waiting
        self.bytes += size
        if self.working or self.waiting:
            self.none.clear()
        else:
            self.none.set()


def on_replica() -> CallsUnderWay:
    """Those of a replica."""
    return CallsUnderWay(
        "replica", limits.CONCURRENT_CALLS, limits.WAITING_CALLS, limits.UNDER_WAY_BYTES
    )


def on_stream() -> CallsUnderWay:
    """Those of one shared stream: its share of the replica's."""
    return CallsUnderWay(
        "stream",
        limits.STREAM_WORKING_CALLS,
        limits.STREAM_CALLS,
        limits.STREAM_UNDER_WAY_BYTES,
    )


class Place:
    """A call's place in each of `among`, for as long as this is entered."""

    __slots__ = ("_among", "_size", "_waits")

    def __init__(self, among: tuple[CallsUnderWay, ...], size: int) -> None:
        self._among: Final = among
        self._size = size
        self._waits = False

    def __enter__(self) -> Place:
        """Raises `CallError` when there are too many."""
        for under_way in self._among:
            under_way.check(self._size)
        for under_way in self._among:
            under_way.add(1, 0, self._size)
        return self

    def wait(self, size: int) -> None:
        """Count among those that wait from now on, and its request as `size` bytes.

        Raises `CallError` when too many do.
        """
        for under_way in self._among:
            under_way.check_waiting()
        for under_way in self._among:
            under_way.add(-1, 1, size - self._size)
        self._waits, self._size = True, size

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        working, waiting = (0, -1) if self._waits else (-1, 0)
        for under_way in self._among:
            under_way.add(working, waiting, -self._size)
