"""Full load for a long time: no election without cause, and none for a replica that returns."""

from __future__ import annotations

import threading
import time

from agentkeeper import AgentKeeperClient
from agentkeeper.client.status import replica_status
from agentkeeper.launcher import LocalCluster
from benchmarks.figures import Row, p50_p99

CALLERS = 16
RETURNS = 3
"""How often a follower is killed and started again, in the second half."""


def measure(replicas: int, minutes: float) -> list[Row]:
    """Acquire and release leases from many threads, and count the terms."""
    with LocalCluster(replicas=replicas) as cluster, cluster.client() as client:
        agent_id = client.register("bench", "writes all the time", "1", ttl=3_600).agent_id
        stop = threading.Event()
        spans: list[float] = []
        workers = [
            threading.Thread(target=_work, args=(client, agent_id, number, stop, spans))
            for number in range(CALLERS)
        ]
        before = _term(cluster)
        for worker in workers:
            worker.start()
        stop.wait(minutes * 30)
        undisturbed = _term(cluster) - before
        for number in range(RETURNS):
            _return(cluster, number)
            stop.wait(minutes * 30 / RETURNS)
        returned = _term(cluster) - before - undisturbed
        stop.set()
        for worker in workers:
            worker.join()
    spans.sort()
    load = f"{CALLERS} callers for {minutes:g} minutes"
    return [
        (f"elections under full load, {load}", f"{undisturbed}"),
        (f"elections as a follower was killed and returned, {RETURNS} times", f"{returned}"),
        (
            "lease cycles meanwhile; p50 / p99, slowest",
            f"{len(spans):,}; {p50_p99(spans)}, {spans[-1] * 1000:.0f} ms",
        ),
    ]


def _work(
    client: AgentKeeperClient,
    agent_id: str,
    number: int,
    stop: threading.Event,
    spans: list[float],
) -> None:
    while not stop.is_set():
        began_s = time.perf_counter()
        lease = client.acquire_lease(f"steady-{number}", agent_id, ttl=60)
        assert lease is not None
        lease.release()
        spans.append(time.perf_counter() - began_s)


def _return(cluster: LocalCluster, number: int) -> None:
    leader = cluster.leader()
    followers = [node for node in cluster.nodes.values() if node is not leader]
    follower = followers[number % len(followers)]
    follower.kill()
    follower.start()
    cluster.wait_ready(nodes=[follower])


def _term(cluster: LocalCluster) -> int:
    return replica_status(cluster.leader().endpoint).term
