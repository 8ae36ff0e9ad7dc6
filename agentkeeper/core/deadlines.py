"""All deadlines of the state, in order of (deadline, kind, id).

One heap per kind, with at most one entry per id: moving a deadline back (a heartbeat, a renewal)
only notes the new one, and the entry is put right when it comes up. Derived from the records, so
it is rebuilt and not stored.
"""

from __future__ import annotations

import enum
import heapq


class Kind(enum.IntEnum):
    """What may fall due; the number is the order among equal deadlines."""

    AGENT = 0
    LEASE = 1
    WAITER = 2
    CLAIM = 3
    SESSION = 4
    DEAD_AGENT = 5
    FINISHED_TASK = 6
    EMPTY_GROUP = 7


class Deadlines:
    """Deadlines by kind and id."""

    def __init__(self) -> None:
        self._at: list[dict[str, int]] = [{} for _ in Kind]
        self._heaps: list[list[tuple[int, str]]] = [[] for _ in Kind]

    def set(self, kind: Kind, key: str, deadline_ms: int) -> None:
        """Give `key` a deadline, in place of any it has."""
        at = self._at[kind]
        old = at.get(key)
        at[key] = deadline_ms
        if old is None or deadline_ms < old:
            heapq.heappush(self._heaps[kind], (deadline_ms, key))
            self._tidy(kind)

    def clear(self, kind: Kind, key: str) -> None:
        """Take `key`'s deadline away, if it has one."""
        self._at[kind].pop(key, None)
        self._tidy(kind)

    def _tidy(self, kind: Kind) -> None:
        """Drop the entries that no longer stand, once they are most of the heap."""
        at, heap = self._at[kind], self._heaps[kind]
        if len(heap) > 64 and len(heap) > 2 * len(at):
            heap[:] = [(deadline_ms, k) for k, deadline_ms in at.items()]
            heapq.heapify(heap)

    def first(self, kind: Kind) -> tuple[int, str] | None:
        """Earliest deadline of a kind, with its id; ids break ties."""
        at, heap = self._at[kind], self._heaps[kind]
        while heap:
            deadline_ms, key = heap[0]
            actual = at.get(key)
            if actual == deadline_ms:
                return heap[0]
            if actual is None or actual < deadline_ms:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (actual, key))
        return None

    def next(self) -> tuple[int, Kind, str] | None:
        """The earliest deadline of all, in the order in which due work is done."""
        best: tuple[int, Kind, str] | None = None
        for kind in Kind:
            first = self.first(kind)
            if first is not None and (best is None or first[0] < best[0]):
                best = (first[0], kind, first[1])
        return best

    def count(self, kind: Kind) -> int:
        """How many ids of a kind have a deadline."""
        return len(self._at[kind])
