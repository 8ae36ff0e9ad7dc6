"""Several queues that are served in turn: whoever puts much into one makes only that one longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)
T = TypeVar("T")


class Lines(Generic[Owner, T]):
    """A queue of items of several owners, one of each in turn; those of one owner stay in order."""

    def __init__(self) -> None:
        self._lines: dict[Owner, deque[T]] = {}
        self._turns: deque[Owner] = deque()
        """Owners of items, in the order in which they are served."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, owner: object) -> bool:
        """Whether an owner has an item."""
        return owner in self._lines

    def put(self, owner: Owner, item: T) -> None:
        """Add an item at the end of its owner's line."""
        line = self._lines.get(owner)
        if line is None:
            self._lines[owner] = deque((item,))
            self._turns.append(owner)
        else:
            line.append(item)
        self._count += 1

    def take(self) -> T:
        """Remove the item that is next. There must be one."""
        owner = self._turns.popleft()
        line = self._lines[owner]
        item = line.popleft()
        if line:
            self._turns.append(owner)
        else:
            del self._lines[owner]
        self._count -= 1
        return item
