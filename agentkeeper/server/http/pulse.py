"""What changes all the time, gathered once a second for everybody who looks."""

from __future__ import annotations

import asyncio
import json
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
OLD_S: Final = 3.0
"""A sample of so long ago says nothing of now."""
HISTORY: Final = 300
"""Samples kept, so that a page that is opened shows the last five minutes."""

PLOTTED: Final = (
    "commands_per_s", "calls_per_s", "call_p50_ms", "call_p99_ms",
    "unapplied_entries", "uncommitted_entries", "loop_lag_max_ms",
)  # fmt: skip
"""Of the figures, what each point keeps; the last is for who wonders what pages cost."""
DECIMALS: Final = 2

_BY_PATH: Final = {route.path: route for route in ROUTES}


def message(kind: str, body: Json, number: int = 0) -> bytes:
    """A server-sent event."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    ident = f"id: {number}\n" if number else ""
    return f"event: {kind}\n{ident}data: {text}\n\n".encode()


class Pulse:
    """A sample each second: the cluster, how much of everything there is, and how fast it goes.

    `figures` gives the figures of the last seconds. `beats` counts the samples. Each is encoded
    once, for all who look.
    """

    def __init__(self, api: Api, machine: Machine, figures: Callable[[], Json]) -> None:
        self._api = api
        self._machine = machine
        self._figures = figures
        self._changed: dict[str, int] = {}
        self._points: deque[Json] = deque(maxlen=HISTORY)
        self._history = b""  # until somebody asks
        self._restores = 0
        self._sampled_s = 0.0
        self.beats = 0
        self.latest = b""
        """The last sample, as a server-sent event; empty before the first."""
        machine.on_applied.append(self._observe)
        machine.on_restored.append(self._observe_restore)

    def is_old(self) -> bool:
        """Whether the last sample is too old to be shown."""
        return asyncio.get_running_loop().time() - self._sampled_s > OLD_S

    def history(self, since_ms: int = 0) -> bytes:
        """The points to plot, oldest first, as a server-sent event: those after `since_ms`."""
        if not self._points or since_ms < self._points[0]["wall_ms"]:
            self._history = self._history or message("history", {"points": list(self._points)})
            return self._history
        return message("history", {"points": [p for p in self._points if p["wall_ms"] > since_ms]})

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            try:
                await self.sample()
            except CallError as error:
                log.debug("no sample", error=error.message)
            except Exception:
                # The dashboard's trouble must not be the replica's.
                log.exception("the dashboard can't be told how things are")
            await asyncio.sleep(EVERY_S)

    async def sample(self) -> None:
        """Take one. Raises `CallError` where the replica can't tell."""
        figures = self._figures()
        point = {"wall_ms": self._api.as_of()["wall_ms"]}
        point.update({name: _rounded(figures[name]) for name in PLOTTED})
        self._points.append(point)
        self._history = b""
        cluster = await self._api.ask(_BY_PATH["cluster"], pb.StatusRequest())
        summary = await self._api.ask(_BY_PATH["summary"], pb.SummaryRequest())
        sample = {
            "cluster": cluster,
            "summary": summary,
            "point": point,
            # By these a page sees that what it shows has changed, and asks for it again.
            "changed": dict(self._changed),
            "restores": self._restores,
            "as_of": self._api.as_of(),
        }
        self.latest = message("pulse", sample)
        self._sampled_s = asyncio.get_running_loop().time()
        self.beats += 1

    def _observe(self, applied: Applied) -> None:
        for event in applied.events:
            self._changed[event.topic.partition(".")[0]] = event.sequence

    def _observe_restore(self) -> None:
        self._restores += 1


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, DECIMALS)
