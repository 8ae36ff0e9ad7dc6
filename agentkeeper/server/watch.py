"""Watches: each watcher walks the events kept in the state at its own pace.

There is no queue per watcher. The state keeps a bounded run of events; a watcher holds the number
of the next one it wants. One that falls behind that run is cut, and costs nobody else anything.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.core.records import Event
from agentkeeper.server.errors import CallError, overloaded, unavailable
from agentkeeper.server.machine import Machine
from agentkeeper.server.pace import Pace

ENCODED_KEPT = 512
SCAN_SLICE = 500
"""Events a watcher looks at before others get a turn."""
PROGRESS_EVENTS = 1_000
"""Events a watcher passes over until it tells how far it has come,"""
KEPT_PART = 8
"""or this part of those that are kept, if the last it told of is among the older half of them."""

Accepts = Callable[[Event], bool]


@dataclass(slots=True, eq=False)
class _Position:
    """How far a watcher has come."""

    after: int


class WatchHub:
    """Watchers of one replica, who take events at a `pace`.

    `encode` gives an event's bytes for clients.
    """

    def __init__(self, machine: Machine, encode: Callable[[Event], bytes], pace: Pace) -> None:
        self._machine = machine
        self._encode = encode
        self._pace = pace
        self._encoded: OrderedDict[int, bytes] = OrderedDict()
        self._news = asyncio.Event()
        self._cut: Callable[[], CallError] | None = None
        self._positions: set[_Position] = set()

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return len(self._positions)

    def behind(self) -> list[int]:
        """How many events each watcher still has before it, in no order."""
        last = self._machine.state.last_sequence
        return [max(0, last - position.after) for position in self._positions]

    def wake(self) -> None:
        """There are new events."""
        self._news.set()
        self._news = asyncio.Event()

    def cut(self, error: Callable[[], CallError] | None) -> None:
        """End all watches with an `error` each, and refuse new ones, until called with None."""
        if error is None and self._cut is None:
            return
        self._cut = error
        self.wake()

    async def follow(
        self, after: int, accepts: Accepts, *, progress: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Yield the encoded events after sequence number `after` that `accepts`.

        With `progress`, an event with nothing but a sequence number tells now and then how far
        this has come while nothing was accepted.

        Call `check` first. Raises `CallError`: RESOURCE_EXHAUSTED when the next event is no
        longer kept, and what `cut` was given.
        """
        position = _Position(after)
        self._positions.add(position)
        looked_at = 0
        told = after
        try:
            while True:
                if self._cut is not None:
                    raise self._cut()
                news, state = self._news, self._machine.state
                if after + 1 < state.first_sequence:
                    raise CallError(
                        "RESOURCE_EXHAUSTED",
                        "slow_watcher",
                        f"read too slowly: events before {state.first_sequence} are gone; "
                        f"resume after {after} to be told what is missing",
                    )
                if after >= state.last_sequence:
                    await news.wait()
                    continue
                position.after = after = after + 1
                event = state.events.get(after)
                if event is not None and accepts(event):
                    told = after
                    await self._pace.step()
                    yield self._bytes(event)
                elif progress and self._tells(told, after):
                    told = after
                    yield pb.Event(sequence_number=after).SerializeToString()
                looked_at += 1
                if looked_at % SCAN_SLICE == 0:
                    await asyncio.sleep(0)
        finally:
            self._positions.discard(position)

    def _tells(self, told: int, after: int) -> bool:
        """Whether a watcher that has told of `told` last tells now that it has come to `after`.

        Where large events push the kept ones out early it does so sooner: before what follows
        `told`, where its client would resume, is gone.
        """
        passed_over = after - told
        if passed_over >= PROGRESS_EVENTS:
            return True
        state = self._machine.state
        if state.first_sequence == 1:
            return False
        kept = state.last_sequence - state.first_sequence + 1
        return told - state.first_sequence < kept // 2 and passed_over >= kept // KEPT_PART

    def check(self, after: int) -> None:
        """Raise `CallError` if there is no room for a watcher, or (OUT_OF_RANGE) if the event
        after `after` is no longer kept.
        """
        if self.watchers >= limits.WATCHERS:
            raise overloaded(f"{limits.WATCHERS} watches are open on this replica")
        first = self._machine.state.first_sequence
        if after + 1 < first:
            raise CallError(
                "OUT_OF_RANGE",
                "compacted",
                f"after_sequence: the oldest event available is {first}",
                field="after_sequence",
                oldest=first,
            )

    def _bytes(self, event: Event) -> bytes:
        encoded = self._encoded.get(event.sequence)
        if encoded is None:
            encoded = self._encoded[event.sequence] = self._encode(event)
            if len(self._encoded) > ENCODED_KEPT:
                self._encoded.popitem(last=False)
        return encoded


def no_leader_cut() -> CallError:
    """What watches end with on a replica that has lost its leader."""
    return unavailable("this replica has lost its leader; resume at another one", "no_leader")
