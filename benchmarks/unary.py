"""Lease cycles by unary calls, failover, the cost of 10,000 agents.

Prints one table. Figures depend on the machine and on what else it does: compare ratios within a
run, and medians over runs.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import click
import psutil
from rich.console import Console
from rich.table import Table

from agentkeeper import AgentKeeperClient
from agentkeeper.launcher import LocalCluster

Row = tuple[str, str]


@click.command()
@click.option("--replicas", default=3, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Per load.")
@click.option("--failovers", default=10, show_default=True)
@click.option("--agents", default=10_000, show_default=True)
def main(replicas: int, seconds: float, failovers: int, agents: int) -> None:
    """Measure a local cluster of real processes."""
    rows: list[Row] = []
    with LocalCluster(replicas=replicas) as cluster:
        cluster.wait_ready()
        leader = cluster.leader()
        places = [("leader", leader.endpoint)]
        if replicas > 1:
            places.append(("follower", cluster.followers()[0].endpoint))
        for place, endpoint in places:
            for callers in (1, 64):
                rows += measure_cycles(place, endpoint, callers, seconds)
    if replicas > 2:
        rows += measure_failover(replicas, failovers)
    rows += measure_registry(replicas, agents)
    table = Table("figure", "measured")
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)


@contextmanager
def _client(*endpoints: str) -> Iterator[AgentKeeperClient]:
    with AgentKeeperClient(endpoints=list(endpoints)) as client:
        yield client


def measure_cycles(place: str, endpoint: str, callers: int, seconds: float) -> list[Row]:
    """Acquire and release, each caller its own lease, as fast as it goes."""
    with _client(endpoint) as client:
        agent = client.register("bench", "takes and gives back leases", "1", ttl=60)
        end = time.perf_counter() + seconds

        def cycle(caller: int) -> list[float]:
            spans = []
            while (begin := time.perf_counter()) < end:
                lease = client.acquire_lease(f"{place}-{callers}-{caller}", agent.agent_id)
                assert lease is not None
                lease.release()
                spans.append(time.perf_counter() - begin)
            return spans

        with ThreadPoolExecutor(callers) as pool:
            spans = sorted(s for part in pool.map(cycle, range(callers)) for s in part)
        agent.deregister()
    what = f"acquire+release at the {place}, {callers} callers"
    return [
        (f"{what}: p50 / p99", f"{_ms(_at(spans, 0.5))} / {_ms(_at(spans, 0.99))}"),
        (f"{what}: cycles/s", f"{len(spans) / seconds:,.0f}"),
    ]


def measure_failover(replicas: int, runs: int) -> list[Row]:
    """SIGKILL the leader under load: how long until the next write is acknowledged."""
    with LocalCluster(replicas=replicas) as cluster:
        cluster.wait_ready()
        with _client(*cluster.endpoints) as client:
            agent = client.register("bench", "writes all the time", "1", ttl=60)
            spans = [_failover(cluster, client, agent.agent_id, run) for run in range(runs)]
    text = " / ".join(_ms(s) for s in (min(spans), statistics.median(spans), max(spans)))
    return [(f"failover after SIGKILL of the leader, {runs} runs: min / median / max", text)]


def _failover(cluster: LocalCluster, client: AgentKeeperClient, agent_id: str, run: int) -> float:
    stop = threading.Event()
    acknowledged: list[tuple[float, float]] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            begin = time.perf_counter()
            client.acquire_lease(f"failover-{run}-{number}", agent_id, ttl=5)
            acknowledged.append((begin, time.perf_counter()))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    _await(lambda: len(acknowledged) > 50)
    leader = cluster.leader()
    killed = time.perf_counter()
    leader.kill()
    try:
        # A call begun after the kill can only have been decided by the next leader.
        _await(lambda: acknowledged[-1][0] > killed)
    finally:
        stop.set()
        writer.join()
    first = min(end for begin, end in acknowledged if begin > killed)
    leader.start()
    cluster.wait_ready()
    return first - killed


def measure_registry(replicas: int, agents: int) -> list[Row]:
    """Register many agents; memory of each replica, and time of `find`."""
    tools = [f"tool_{i}" for i in range(50)]
    with LocalCluster(replicas=replicas) as cluster:
        cluster.wait_ready()
        empty = _memory_mb(cluster)
        with _client(*cluster.endpoints) as client:
            begin = time.perf_counter()

            def register(i: int) -> None:
                client.register(
                    f"agent-{i}",
                    f"Handles {_TOPICS[i % len(_TOPICS)]} of kind {i % 97} for region {i % 13}",
                    "1.0.0",
                    tools=[tools[i % 50], tools[(i * 7 + 1) % 50]],
                    metadata={"team": f"team-{i % 20}"},
                    ttl=3_600,
                )

            with ThreadPoolExecutor(32) as pool:
                list(pool.map(register, range(agents)))
            took = time.perf_counter() - begin
            full = _memory_mb(cluster)
            words = _spans(lambda: client.find(query="extract totals from scanned invoices"))
            name = _spans(lambda: client.find(query=f"agent-{agents // 2}"))
            tool = _spans(lambda: client.find(query="translate contracts", tools=[tools[3]]))
    return [
        (f"register {agents:,} agents, 32 callers", f"{agents / took:,.0f} agents/s"),
        (f"memory per replica, empty / {agents:,} agents", f"{empty:.0f} / {full:.0f} MB"),
        (f"find by words among {agents:,}: p50 / p99", _both(words)),
        (f"find by name among {agents:,}: p50 / p99", _both(name)),
        (f"find by words and tool among {agents:,}: p50 / p99", _both(tool)),
    ]


_TOPICS = (
    "scanned invoices and receipts",
    "translation of contracts",
    "web pages and their tables",
    "support tickets in chat",
    "database queries and reports",
    "images of products",
    "calendar and travel booking",
)


def _spans(call: Callable[[], object], times: int = 200) -> list[float]:
    spans = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spans.append(time.perf_counter() - begin)
    return sorted(spans)


def _memory_mb(cluster: LocalCluster) -> float:
    pids = [node.pid for node in cluster.nodes.values() if node.pid is not None]
    return max(psutil.Process(pid).memory_info().rss for pid in pids) / 2**20


def _await(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.001)


def _at(ordered: list[float], quantile: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]


def _both(ordered: list[float]) -> str:
    return f"{_ms(_at(ordered, 0.5))} / {_ms(_at(ordered, 0.99))}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


if __name__ == "__main__":
    main()
