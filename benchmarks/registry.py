"""A registry of many agents: memory of the replicas, and the time that `find` takes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from agentkeeper import AgentKeeperClient
from agentkeeper.launcher import LocalCluster
from benchmarks.figures import Row, memory_mb, p50_p99, replicas_of, spans_of

TOOLS = [f"tool_{i}" for i in range(50)]
TOPICS = (
    "scanned invoices and receipts",
    "translation of contracts",
    "web pages and their tables",
    "support tickets in chat",
    "database queries and reports",
    "images of products",
    "calendar and travel booking",
)
CALLERS = 32


def measure(replicas: int, agents: int) -> list[Row]:
    """Register agents that differ, then look for some."""
    with LocalCluster(replicas=replicas) as cluster, cluster.client() as client:
        empty = memory_mb(replicas_of(cluster))
        begin = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda i: _register(client, i), range(agents)))
        took = time.perf_counter() - begin
        full = memory_mb(replicas_of(cluster))
        words = spans_of(lambda: client.find(query="extract totals from scanned invoices"))
        name = spans_of(lambda: client.find(query=f"agent-{agents // 2}"))
        tool = spans_of(lambda: client.find(query="translate contracts", tools=[TOOLS[3]]))
    return [
        (f"register {agents:,} agents, {CALLERS} callers", f"{agents / took:,.0f} agents/s"),
        (f"memory per replica, empty / {agents:,} agents", f"{empty:.0f} / {full:.0f} MB"),
        (f"find by words among {agents:,}: p50 / p99", p50_p99(words)),
        (f"find by name among {agents:,}: p50 / p99", p50_p99(name)),
        (f"find by words and tool among {agents:,}: p50 / p99", p50_p99(tool)),
    ]


def _register(client: AgentKeeperClient, i: int) -> None:
    client.register(
        f"agent-{i}",
        f"Handles {TOPICS[i % len(TOPICS)]} of kind {i % 97} for region {i % 13}",
        "1.0.0",
        tools=[TOOLS[i % 50], TOOLS[(i * 7 + 1) % 50]],
        metadata={"team": f"team-{i % 20}"},
        ttl=3_600,
    )
