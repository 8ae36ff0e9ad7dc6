"""Texts that wait for the worker, in two lanes: the urgent ones go first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_URGENT: Final = 256
"""Urgent texts that may wait at a time."""


class EmbeddingUnavailable(Exception):  # noqa: N818
    """No vector now: the worker is not ready, has died over it, or has too much to do."""


class EmbeddingRefused(Exception):  # noqa: N818
    """No vector for this text, for a good while at least."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason)
        self.text = text


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A text, and who waits for its vector."""

    text: bytes
    vector: asyncio.Future[bytes]
    keep: bool = True
    """Whether the cache may know it."""

    def give(self, vector: bytes) -> None:
        """Give the vector to who waits, if somebody still does."""
        if not self.vector.done():
            self.vector.set_result(vector)

    def refuse(self, reason: str) -> None:
        """Raise `EmbeddingRefused` where somebody waits."""
        self._fail(EmbeddingRefused(self.text.decode(), reason))

    def put_off(self, reason: str) -> None:
        """Raise `EmbeddingUnavailable` where somebody waits."""
        self._fail(EmbeddingUnavailable(reason))

    def _fail(self, error: Exception) -> None:
        if not self.vector.done():
            self.vector.set_exception(error)


class Lanes:
    """What is wanted and not in the worker's hands, each lane in the order of its coming."""

    def __init__(self) -> None:
        self._urgent: OrderedDict[Wanted, None] = OrderedDict()
        self._background: OrderedDict[Wanted, None] = OrderedDict()
        self._arrival: asyncio.Future[None] | None = None

    def put(self, wanted: Iterable[Wanted], *, urgent: bool) -> None:
        """Let them wait. Raises `EmbeddingUnavailable` if too many urgent ones would."""
        added = dict.fromkeys(wanted)
        if urgent and len(self._urgent) + len(added) > MAX_URGENT:
            raise EmbeddingUnavailable("too many texts wait for their vectors")
        (self._urgent if urgent else self._background).update(added)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def take_back(self, wanted: Iterable[Wanted]) -> None:
        """Nobody waits for these any more."""
        for each in wanted:
            each.vector.cancel()
            self._urgent.pop(each, None)
            self._background.pop(each, None)

    def take(self) -> Wanted | None:
        """Take out the one whose turn it is; None if nothing is wanted."""
        lane = self._urgent or self._background
        return lane.popitem(last=False)[0] if lane else None

    def arrival(self) -> asyncio.Future[None]:
        """Return what is done as soon as something more is wanted."""
        self._arrival = asyncio.get_running_loop().create_future()
        return self._arrival

    def put_off(self, reason: str) -> None:
        """Raise `EmbeddingUnavailable` wherever somebody waits."""
        for wanted in (*self._urgent, *self._background):
            wanted.put_off(reason)
        self._urgent.clear()
        self._background.clear()
