"""What changes all the time, gathered once a second for everybody who looks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.api import ROUTES, Api
from agentkeeper.server.http.plain import Json
from agentkeeper.server.machine import Applied, Machine

log = structlog.get_logger(__name__)

EVERY_S: Final = 1.0
HISTORY: Final = 300
"""Samples kept, so that a page that is opened shows the last five minutes."""

_BY_PATH: Final = {route.path: route for route in ROUTES}


class Pulse:
    """A sample each second: the cluster, how much of everything there is, and how fast it goes.

    `figures` gives the figures to plot, of the last seconds. `beats` counts the samples.
    """

    def __init__(self, api: Api, machine: Machine, figures: Callable[[], Json]) -> None:
        self._api = api
        self._machine = machine
        self._figures = figures
        self._changed: dict[str, int] = {}
        self._points: deque[Json] = deque(maxlen=HISTORY)
        self._restores = 0
        self.beats = 0
        self.latest: Json = {}
        """The last sample; empty before the first."""
        machine.on_applied.append(self._observe)
        machine.on_restored.append(self._observe_restore)

    @property
    def history(self) -> list[Json]:
        """The points to plot, oldest first."""
        return list(self._points)

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            try:
                await self._sample()
            except CallError as error:
                log.debug("no sample", error=error.message)
            except Exception:
                # The dashboard's trouble must not be the replica's.
                log.exception("the dashboard can't be told how things are")
            await asyncio.sleep(EVERY_S)

    async def _sample(self) -> None:
        point = {"wall_ms": self._api.as_of()["wall_ms"], **self._figures()}
        self._points.append(point)
        cluster = await self._api.ask(_BY_PATH["cluster"], pb.StatusRequest())
        summary = await self._api.ask(_BY_PATH["summary"], pb.SummaryRequest())
        self.latest = {
            "cluster": cluster,
            "summary": summary,
            "point": point,
            # By these a page sees that what it shows has changed, and asks for it again.
            "changed": dict(self._changed),
            "restores": self._restores,
            "as_of": self._api.as_of(),
        }
        self.beats += 1

    def _observe(self, applied: Applied) -> None:
        for event in applied.events:
            self._changed[event.topic.partition(".")[0]] = event.sequence

    def _observe_restore(self) -> None:
        self._restores += 1
