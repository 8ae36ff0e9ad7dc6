"""All metrics of one replica, in a registry of its own."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.port import EngineStatus
from agentkeeper.consensus.snapshot_file import FILE_NAME
from agentkeeper.server.build import BUILD
from agentkeeper.server.dispatch import Surroundings
from agentkeeper.server.metrics.applied import AppliedCounts
from agentkeeper.server.metrics.calls import CallCounts
from agentkeeper.server.metrics.contents import Contents
from agentkeeper.server.metrics.families import Reading, Source, counter, gauge, gauges
from agentkeeper.server.metrics.live import SAMPLE_S, LiveFigures, LiveView, Sample
from agentkeeper.server.metrics.pauses import Pauses
from agentkeeper.server.metrics.raft import RaftCounts
from agentkeeper.server.metrics.search import SearchCounts
from agentkeeper.server.stack import Stack


class Metrics:
    """Renders everything in Prometheus' text format, and tells how fast it goes just now.

    `status` and `observation` are the engine's; `calls` is what `around` reports calls to. From
    `start` to `stop` it looks at the event loop it is used on.
    """

    def __init__(
        self,
        *,
        stack: Stack,
        status: Callable[[], EngineStatus],
        observation: Observation,
        calls: CallCounts,
        around: Surroundings,
        data_dir: Path | None = None,
    ) -> None:
        self._stack = stack
        self._status = status
        self._observation = observation
        self._calls = calls
        self._applied = AppliedCounts(observation)
        stack.machine.on_applied.append(self._applied.applied)
        self._pauses = Pauses()
        self._live = LiveView(self._sample)
        self._timer: asyncio.TimerHandle | None = None
        self._sources: tuple[Source, ...] = (
            _Daemon(stack),
            calls,
            self._applied,
            Contents(stack.replica, around, _wall_ms),
            SearchCounts(stack.replica.index),
            RaftCounts(status, observation),
            self._pauses,
        )
        self._process = ProcessCollector(registry=None)
        self._data_dir = data_dir
        self._rendering: asyncio.Task[bytes] | None = None

    def start(self) -> None:
        """Begin to measure the event loop, and to take samples."""
        self._pauses.start()
        self._look()

    def stop(self) -> None:
        """End that; harmless when repeated."""
        self._pauses.stop()
        if self._timer is not None:
            self._timer.cancel()

    def summary(self) -> tuple[int, int]:
        """Agents alive and leases active."""
        state = self._stack.machine.state
        return state.live_agents(), len(state.leases)

    def live(self) -> LiveFigures:
        """Rates and percentiles of the last seconds."""
        status = self._status()
        return self._live.figures(
            uncommitted_entries=status.last_log_index - status.commit_index,
            unapplied_entries=max(0, status.commit_index - self._stack.machine.applied_index),
        )

    async def render(self) -> bytes:
        """All metrics as text; who asks while it is being written gets the same one.

        The numbers are read at one moment on the event loop, and written as text in a thread: that
        takes longer than calls should have to wait, and so may asking the file system.
        """
        if self._rendering is None:
            self._rendering = asyncio.get_running_loop().create_task(self._render())
        return await asyncio.shield(self._rendering)

    async def _render(self) -> bytes:
        try:
            readings = [reading for source in self._sources for reading in source.read()]
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_Read(readings))
            registry.register(self._process)
            if self._data_dir is not None:
                registry.register(_Disk(self._data_dir))
            return await asyncio.to_thread(generate_latest, registry)
        finally:
            self._rendering = None

    def _look(self) -> None:
        self._live.sample()
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_S, self._look)

    def _sample(self) -> Sample:
        return Sample(
            at_s=time.monotonic(),
            calls=self._calls.count,
            failures=self._calls.failures,
            commands=self._applied.commands,
            events=self._applied.events,
            call_s=self._calls.call_s.counted(),
            commit_s=self._observation.commit_s.counted(),
            sync_s=self._observation.sync_s.counted(),
            loop_lag_max_s=self._pauses.worst_s(),
        )


class _Read(Collector):
    """Metrics whose numbers have been read already."""

    def __init__(self, readings: list[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Make their families."""
        for make in self._readings:
            yield make()


class _Daemon:
    """What is not of any of its parts."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def read(self) -> Iterator[Reading]:
        """See `Source.read`."""
        yield gauges(
            "agentkeeper_build_info",
            "1, with what runs here as labels",
            ("version", "python", "node_id"),
            [((BUILD, platform.python_version(), self._stack.replica.node_id), 1)],
        )
        yield gauge(
            "agentkeeper_ready",
            "1 while linearizable calls can be served, as far as this replica knows by itself",
            not self._stack.not_ready_reason(),
        )
        yield gauge(
            "agentkeeper_applied_index",
            "Highest log index applied to the state",
            self._stack.machine.applied_index,
        )
        yield counter(
            "agentkeeper_digest_differences",
            "Times at which replicas were found to have different states",
            self._stack.digests.differences,
        )


class _Disk(Collector):
    """The file system of the data folder, and the newest snapshot in it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def collect(self) -> Iterator[Metric]:
        """Ask it; what can't be asked for is not told."""
        with contextlib.suppress(OSError):
            room = shutil.disk_usage(self._data_dir)
            yield gauge(
                "agentkeeper_disk_size_bytes", "Size of the file system of the data", room.total
            )()
            yield gauge("agentkeeper_disk_free_bytes", "Room left on it", room.free)()
        with contextlib.suppress(OSError):
            written_s = (self._data_dir / FILE_NAME).stat().st_mtime
            yield gauge(
                "agentkeeper_raft_snapshot_age_seconds",
                "Time since the newest snapshot was stored",
                max(0.0, time.time() - written_s),
            )()


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
