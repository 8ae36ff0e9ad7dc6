"""What a load has seen and been told, from any thread, and what it must be."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, defaultdict
from typing import Any

from agentkeeper.types import WatchEvent


class Ledger:
    """A load's records. Everything that must not be is in `failures`, told in full."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._holders: dict[str, list[_Holder]] = defaultdict(list)
        self.failures: list[str] = []
        self.told: list[str] = []
        """What was done to the cluster, and when."""
        self.acts: Counter[str] = Counter()
        """Successes by what was done and who did it."""
        self.created: dict[str, str] = {}
        """Ids of the tasks whose creation was acknowledged, by their types, each used once."""
        self.tokens: dict[str, list[int]] = defaultdict(list)
        """Tokens of the leases that were acknowledged, by key."""
        self.leaders: dict[int, str] = {}
        """Agents that were told that they lead, by term."""
        self.handled: Counter[str] = Counter()
        """How often a handler ran, by task id."""
        self.seen: dict[str, list[WatchEvent]] = defaultdict(list)
        """Events by watch, in the order of their arrival."""

    def did(self, what: str) -> None:
        with self._lock:
            self.acts[what] += 1

    def tell(self, what: str) -> None:
        self.told.append(f"{self._elapsed()} {what}")

    def fail(self, who: str, what: str | BaseException) -> None:
        if isinstance(what, BaseException):
            what = "".join(traceback.format_exception(what))
        with self._lock:
            self.failures.append(f"{self._elapsed()} {who}: {what}")

    def report(self) -> str:
        """What happened, for whoever reads why a test failed."""
        return "\n".join([*self.told, *self.failures])

    def hold(self, key: str, who: str, handle: Any) -> _Holder:
        """Note that `handle` was granted: whoever had the key before must know it is lost."""
        with self._lock:
            mine = _Holder(who, handle)
            others = [holder for holder in self._holders[key] if holder.believes()]
            self._holders[key] = [*others, mine]
        for holder in others:
            self.fail(who, f"got {key!r} ({handle}), which {holder.who} still has: {holder.handle}")
        return mine

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began_s:7.3f} s"


class _Holder:
    """One who was granted something exclusive."""

    def __init__(self, who: str, handle: Any) -> None:
        self.who = who
        self.handle = handle
        self._giving_back = threading.Event()

    def give_back(self) -> None:
        """To be called before the cluster may hear of it."""
        self._giving_back.set()

    def believes(self) -> bool:
        """Whether it rightly acts as the holder."""
        return not self._giving_back.is_set() and not self.handle.lost.is_set()
