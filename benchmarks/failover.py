"""The leader is killed under load: how long until the next write is acknowledged."""

from __future__ import annotations

import statistics
import threading
import time

from agentkeeper import AgentKeeperClient
from agentkeeper.launcher import LocalCluster
from benchmarks.figures import Row, ms, wait_for


def measure(replicas: int, runs: int) -> list[Row]:
    """Kill the leader `runs` times with SIGKILL."""
    with LocalCluster(replicas=replicas) as cluster, cluster.client() as client:
        agent = client.register("bench", "writes all the time", "1", ttl=60)
        spans = [_failover(cluster, client, agent.agent_id, run) for run in range(runs)]
    text = " / ".join(ms(s) for s in (min(spans), statistics.median(spans), max(spans)))
    return [(f"failover after SIGKILL of the leader, {runs} runs: min / median / max", text)]


def _failover(cluster: LocalCluster, client: AgentKeeperClient, agent_id: str, run: int) -> float:
    stop = threading.Event()
    acknowledged: list[tuple[float, float]] = []

    def write() -> None:
        while not stop.is_set():
            begin = time.perf_counter()
            client.acquire_lease(f"failover-{run}", agent_id, ttl=5)  # again and again
            acknowledged.append((begin, time.perf_counter()))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for(lambda: len(acknowledged) > 50)
        leader = cluster.leader()
        killed = time.perf_counter()
        leader.kill()
        # A call begun after the kill can only have been decided by the next leader.
        wait_for(lambda: acknowledged[-1][0] > killed)
    finally:
        stop.set()
        writer.join()
    first = min(end for begin, end in acknowledged if begin > killed)
    leader.start()
    cluster.wait_ready()
    return first - killed
