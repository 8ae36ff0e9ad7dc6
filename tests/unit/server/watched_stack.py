"""A stack on an engine that commits at once, and its metrics."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.port import EngineStatus
from agentkeeper.server.caller import Caller
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.metrics import CallCounts, Metrics, exposition
from agentkeeper.server.stack import Stack
from agentkeeper.testing.engine import InstantEngine

from .helpers import failing, until

Labels = tuple[tuple[str, str], ...]


class Watched:
    """A stack of one replica, a dispatcher before it, and the metrics of both."""

    def __init__(self, data_dir: Path | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = InstantEngine("a", self.loop)
        self.observation = Observation(["b"])
        self.wall_ms = 1_700_000_000_000
        ids = iter(range(1, 10**6))
        self.stack = Stack(
            node_id="a",
            engine=self.engine,
            clock=ClusterClock(time.monotonic, lambda: self.wall_ms),
            draw_id=lambda: f"{next(ids):032x}",
            draw_attempt=lambda: next(ids),
            fail=failing,
        )
        self.calls = calls = CallCounts()
        around = Surroundings(
            applied_index=lambda: self.stack.machine.applied_index,
            leader_endpoint=self.stack.leader_endpoint,
            count=calls.begun,
            ended=calls.ended,
            closing=self.stack.closing,
        )
        self.dispatcher = Dispatcher(self.stack.services(), around)
        self.changes: dict[str, object] = {}
        self.metrics = Metrics(
            stack=self.stack,
            status=self.status,
            observation=self.observation,
            calls=calls,
            around=around,
            data_dir=data_dir,
        )

    def status(self) -> EngineStatus:
        return replace(self.engine.status(), **self.changes)  # type: ignore[arg-type]

    async def start(self) -> None:
        self.engine.start(self.stack.listener)
        await until(lambda: self.stack.leadership.established)

    async def call(self, method: str, request: object) -> bytes:
        data = request.SerializeToString()  # type: ignore[attr-defined]
        return await self.dispatcher.answer(method, data, Caller())

    async def read(self, name: str) -> dict[Labels, float]:
        """The samples of that name, by their labels."""
        text = (await self.metrics.render()).decode()
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"agentkeeper_{name}"
        }

    async def value(self, name: str, **labels: str) -> float:
        return (await self.read(name))[tuple(sorted(labels.items()))]


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(exposition, "_wall_ms", lambda: made.wall_ms)
    made = Watched(tmp_path)
    await made.start()
    yield made
    made.stack.stop()


async def grown(watched: Watched, name: str, before: Mapping[Labels, float]) -> dict[Labels, float]:
    now = await watched.read(name)
    return {key: rise for key in now if (rise := now[key] - before.get(key, 0))}
