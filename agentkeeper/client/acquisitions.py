"""Which of a client's grants of one key to one agent is the present one.

An agent that acquires a lease again is granted it under a new token: its former handle is stale.
The client must know that before the cluster tells. Of its own acquisitions the one sent last
counts, and only if no other one was granted a higher token.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field

from agentkeeper.client.tenure import Tenure

Key = tuple[str, str]
"""Task id and agent id."""


@dataclass(eq=False)
class Acquisition:
    """One acquisition; it lives as long as what was granted to it."""

    number: int
    token: int = 0
    tenure: Tenure | None = None


@dataclass(slots=True)
class _Race:
    """Acquisitions of one key under way together, and the highest token that one was granted."""

    numbers: set[int] = field(default_factory=set)
    token: int = 0


class Acquisitions:
    """Acquisitions under way, and what was granted last. On the loop only."""

    def __init__(self) -> None:
        self._last_number = 0
        self._races: dict[Key, _Race] = {}
        self._present: weakref.WeakValueDictionary[Key, Acquisition] = weakref.WeakValueDictionary()

    @contextlib.contextmanager
    def one_more(self, key: Key, *, exclusive: bool) -> Iterator[Acquisition]:
        """An acquisition, for as long as it is under way.

        What was granted before is lost from now on, unless the cluster is to refuse for its sake:
        the new grant takes its place as soon as the cluster hears of it, and ends both if it is
        then withdrawn.
        """
        if not exclusive:
            self._lose(key, "it is being acquired anew")
        self._last_number += 1
        acquisition = Acquisition(self._last_number)
        race = self._races.setdefault(key, _Race())
        race.numbers.add(acquisition.number)
        try:
            yield acquisition
        finally:
            race.numbers.discard(acquisition.number)
            if not race.numbers:
                del self._races[key]

    def granted(self, key: Key, acquisition: Acquisition, token: int, tenure: Tenure) -> None:
        """Take note of a grant to an acquisition under way; `tenure` is lost if overtaken."""
        acquisition.token, acquisition.tenure = token, tenure
        race, present = self._races[key], self._present.get(key)
        last_number = max(race.numbers)
        if present is not None:
            last_number = max(last_number, present.number)
            race.token = max(race.token, present.token)
            if present.token < token:
                self._lose(key, "it was acquired anew")
        if last_number > acquisition.number or race.token > token:
            tenure.lose("it was acquired anew")
        else:
            self._present[key] = acquisition
        race.token = max(race.token, token)

    def _lose(self, key: Key, why: str) -> None:
        present = self._present.get(key)
        if present is not None and present.tenure is not None:
            present.tenure.lose(why)
