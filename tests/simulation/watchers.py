"""Watchers: they follow all events, on one replica after the other, and miss none."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError

if TYPE_CHECKING:
    from tests.simulation.replica import Process
    from tests.simulation.world import World

BREAKS_S = (0.5, 6.0)
"""How long a watch lasts at most, until its link breaks."""


class Watcher:
    """Follows the events from the first one on; where a watch ends the next one goes on."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.last = 0
        """The last event it has received."""
        self.watches = 0
        world.at(world.time_s + rng.uniform(0.0, 1.0), self._subscribe)

    def _subscribe(self) -> None:
        self.watches += 1
        process = self.world.hosts[self.rng.choice(self.world.ids)].process
        if process is None:
            self.world.at(self.world.time_s + 0.1, self._subscribe)
            return
        request = pb.WatchRequest(after_sequence=self.last).SerializeToString()
        process.loop.call_soon_threadsafe(self._begin, process, self.watches, request)
        self.world.at(self.world.time_s + self.rng.uniform(*BREAKS_S), self._broken, self.watches)

    def _broken(self, watch: int) -> None:
        """The link breaks, unless it has before: what is under way is lost, and sent again."""
        if watch == self.watches:
            self._subscribe()

    def _begin(self, process: Process, watch: int, request: bytes) -> None:
        process.loop.create_task(self._follow(process, watch, request))

    async def _follow(self, process: Process, watch: int, request: bytes) -> None:
        events: Any = None
        try:
            subscription = await process.dispatcher.subscribe("Watch", request, Caller())
            events = subscription.events
            async for data in events:
                if watch != self.watches:
                    return
                event = pb.Event.FromString(data)
                arrives_s = self.world.now_s() + 0.002
                self.world.at(
                    arrives_s, self._received, watch, event.sequence_number, event.topic, data
                )
        except CallError as error:
            if error.reason == "compacted":
                self.world.checks.violated(f"events after {self.last} are gone: {error}")
            if watch == self.watches and process.alive:
                self.world.at(self.world.now_s() + 0.05, self._broken, watch)
        finally:
            if events is not None:
                await events.aclose()

    def _received(self, watch: int, sequence: int, topic: str, data: bytes) -> None:
        if watch == self.watches:
            self.world.checks.watched(self.last, sequence, topic, data)
            self.last = sequence
