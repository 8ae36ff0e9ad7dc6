"""Lease cycles: unary calls against the shared stream, threads against tasks.

A cycle acquires a lease and releases it: two calls, each of them one replicated write.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from rich.table import Table

from agentkeeper.client import AgentKeeperClient, AsyncAgentKeeperClient
from agentkeeper.client.core import Core
from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.grpc_transport import GrpcTransport, UnaryTransport
from agentkeeper.client.io_thread import shared_io_thread
from agentkeeper.launcher import LocalCluster, Node
from benchmarks.figures import cpu_s, median_of, quantile, replicas_of

CALLS_PER_CYCLE = 2
TIMEOUT_S = 30.0
ATTEMPTS = 5
TRANSPORTS: dict[str, Callable[[], UnaryTransport]] = {
    "unary": UnaryTransport,
    "stream": GrpcTransport,
}


@dataclass(frozen=True)
class Sample:
    """One run of one load by one transport."""

    spans: list[float]
    """Seconds of each cycle, ordered."""
    seconds: float
    client_s: float
    """Processor time of this process, callers included."""
    servers_s: float
    """Processor time of all replicas."""

    @property
    def cycles_per_s(self) -> float:
        """Cycles completed per second."""
        return len(self.spans) / self.seconds

    def per_call_us(self, used_s: float) -> float:
        """Return microseconds per call of a processor time used."""
        return used_s * 1e6 / (len(self.spans) * CALLS_PER_CYCLE)


class Window:
    """What is measured from the moment at which all callers are ready until they are done."""

    def __init__(self, cluster: LocalCluster, seconds: float) -> None:
        self._own = psutil.Process()
        self._replicas = replicas_of(cluster)
        self._seconds = seconds
        self.end = 0.0

    def open(self) -> None:
        """Begin."""
        self._before = self._used()
        self._begin = time.perf_counter()
        self.end = self._begin + self._seconds

    def close(self, spans: list[float]) -> Sample:
        """Return what was measured."""
        seconds = time.perf_counter() - self._begin
        client_s, servers_s = (a - b for a, b in zip(self._used(), self._before, strict=True))
        return Sample(sorted(spans), seconds, client_s, servers_s)

    def _used(self) -> tuple[float, float]:
        return cpu_s(self._own), sum(map(cpu_s, self._replicas))


def by_threads(
    window: Window, client: AgentKeeperClient, agent_id: str, callers: int, mark: str
) -> Sample:
    """Every caller is a thread."""
    spans: list[float] = []
    ready = threading.Barrier(callers, action=window.open)
    failures: list[BaseException] = []

    def cycle(caller: int) -> None:
        mine = []
        try:
            ready.wait()
            while (begin := time.perf_counter()) < window.end:
                lease = client.acquire_lease(f"{mark}-{caller}", agent_id)
                assert lease is not None
                lease.release()
                mine.append(time.perf_counter() - begin)
        except BaseException as error:
            failures.append(error)
            raise
        spans.extend(mine)

    threads = [threading.Thread(target=cycle, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return window.close(spans)


async def by_tasks(
    window: Window, client: AsyncAgentKeeperClient, agent_id: str, callers: int, mark: str
) -> Sample:
    """Every caller is a task of one event loop."""
    spans: list[float] = []

    async def cycle(caller: int) -> None:
        while (begin := time.perf_counter()) < window.end:
            lease = await client.acquire_lease(f"{mark}-{caller}", agent_id)
            assert lease is not None
            await lease.release()
            spans.append(time.perf_counter() - begin)

    window.open()
    await asyncio.gather(*(cycle(caller) for caller in range(callers)))
    return window.close(spans)


@dataclass(frozen=True)
class Load:
    """One line of the tables."""

    place: str
    face: str
    callers: int


class Bench:
    """A cluster and the clients that load it."""

    def __init__(self, cluster: LocalCluster, seconds: float) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._cores: dict[tuple[str, str], Core] = {}
        self._agents: dict[tuple[str, str], str] = {}
        self._runs = 0

    def run(self, load: Load, transport: str) -> Sample:
        """Measure one load by one transport, again if another replica came to lead meanwhile."""
        for _ in range(ATTEMPTS):
            leader = self._cluster.leader()
            node = leader if load.place == "leader" else self._cluster.followers()[0]
            sample = self._run_at(node, load, transport)
            if self._cluster.find_leader() is leader:
                return sample
        raise RuntimeError("the leadership changes all the time")

    def _run_at(self, node: Node, load: Load, transport: str) -> Sample:
        self._runs += 1
        mark = f"bench-{self._runs}"
        key = (transport, node.endpoint)
        core = self._core(*key)
        io = shared_io_thread()
        window = Window(self._cluster, self._seconds)
        if load.face == "threads":
            client = AgentKeeperClient._assembled(core, io, TIMEOUT_S)
            return by_threads(window, client, self._agents[key], load.callers, mark)
        tasks = AsyncAgentKeeperClient._assembled(core, io, TIMEOUT_S)
        return asyncio.run(by_tasks(window, tasks, self._agents[key], load.callers, mark))

    def _core(self, transport: str, endpoint: str) -> Core:
        """Return the core for this way, connected, with its agent: both faces share it."""
        key = (transport, endpoint)
        if key not in self._cores:
            io = shared_io_thread()
            endpoints = Endpoints([endpoint], time.monotonic)
            self._cores[key] = Core(TRANSPORTS[transport](), endpoints, io.clock)
            client = AgentKeeperClient._assembled(self._cores[key], io, TIMEOUT_S)
            agent = client.register("bench", "takes and gives back leases", "1", ttl=60)
            self._agents[key] = agent.agent_id
        return self._cores[key]

    def close(self) -> None:
        """Close the clients."""
        for core in self._cores.values():
            AgentKeeperClient._assembled(core, shared_io_thread(), TIMEOUT_S).close()


Samples = dict[tuple[Load, str], list[Sample]]


def measure(replicas: int, seconds: float, rounds: int, callers: Sequence[int]) -> Samples:
    """Measure every load by every transport in turns, `rounds` times."""
    places = ["leader", "follower"] if replicas > 1 else ["leader"]
    loads = [Load(p, face, n) for p in places for n in callers for face in ("threads", "tasks")]
    samples: Samples = {(load, transport): [] for load in loads for transport in TRANSPORTS}
    with LocalCluster(replicas=replicas) as cluster, _bench(cluster, seconds) as bench:
        for number in range(rounds):
            # Each goes first in turn: neither has the quieter or warmer half for itself.
            order = sorted(TRANSPORTS, reverse=bool(number % 2))
            for load in loads:
                for transport in order:
                    samples[load, transport].append(bench.run(load, transport))
    return samples


@contextmanager
def _bench(cluster: LocalCluster, seconds: float) -> Iterator[Bench]:
    bench = Bench(cluster, seconds)
    try:
        yield bench
    finally:
        bench.close()


def tables(samples: Samples) -> list[Table]:
    """Return cycles and latencies, and processor time, medians over the rounds."""
    names = list(TRANSPORTS)
    speed = Table(
        *("at the", "callers", "cycles/s unary", "stream", "ratio"),
        *(f"{name} p50/p99" for name in names),
        title="acquire + release; latencies in ms",
    )
    cost = Table(
        *("at the", "callers", "client unary", "stream", "ratio", "servers unary", "stream"),
        "ratio",
        title="processor time per call, µs",
    )
    for load in dict.fromkeys(load for load, _ in samples):
        runs = {name: samples[load, name] for name in names}
        where = (load.place, f"{load.callers} {load.face}")
        rates = [median_of(s.cycles_per_s for s in runs[name]) for name in names]
        client = [median_of(s.per_call_us(s.client_s) for s in runs[name]) for name in names]
        servers = [median_of(s.per_call_us(s.servers_s) for s in runs[name]) for name in names]
        speed.add_row(*where, *_compared(rates), *(_latency(runs[name]) for name in names))
        cost.add_row(*where, *_compared(client), *_compared(servers))
    return [speed, cost]


def _compared(values: list[float]) -> list[str]:
    unary, stream = values
    return [f"{unary:,.0f}", f"{stream:,.0f}", f"{stream / unary:.2f}"]


def _latency(runs: list[Sample]) -> str:
    p50, p99 = (median_of(quantile(s.spans, q) * 1000 for s in runs) for q in (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f}"
