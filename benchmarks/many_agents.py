"""One client process that keeps many agents alive: its memory, and what heartbeats cost.

As a script, the client process: `python -m benchmarks.many_agents ENDPOINTS AGENTS TTL_S`. It says
on its standard output what it has reached, and goes on until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil

from agentkeeper import AgentKeeperClient
from agentkeeper.launcher import LocalCluster
from agentkeeper.types import WatchEvent
from benchmarks.figures import MB, Row, cpu_s, replicas_of

TTL_S = 30
CALLERS = 32
CONNECTED, REGISTERED = "connected", "registered"


def main() -> None:
    """Be the client process."""
    endpoints, agents, ttl = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with AgentKeeperClient(endpoints=endpoints) as client:

        def register(number: int) -> object:
            return client.register(f"agent-{number}", "Is kept alive", "1", ttl=ttl)

        handles = [register(0)]
        print(CONNECTED, flush=True)
        with ThreadPoolExecutor(CALLERS) as pool:
            handles += pool.map(register, range(1, agents))
        print(REGISTERED, flush=True)
        sys.stdin.read()


def measure(replicas: int, agents: int) -> list[Row]:
    """Hold `agents` agents of a ttl of 30 s for a while in which each heartbeats once or more."""
    late: list[WatchEvent] = []
    with (
        LocalCluster(replicas=replicas) as cluster,
        cluster.client() as client,
        client.watch(["agent.unreachable", "agent.died"], late.append),
        _client_process(cluster, agents) as process,
    ):
        child = psutil.Process(process.pid)
        servers = replicas_of(cluster)
        _await_word(process, CONNECTED)
        before = child.memory_info().rss
        _await_word(process, REGISTERED)
        after = child.memory_info().rss
        beats, begin = _heartbeats(cluster), time.perf_counter()
        client_s, servers_s = cpu_s(child), sum(map(cpu_s, servers))
        # Nothing to wait for but time: every agent heartbeats twice per ttl.
        time.sleep(TTL_S / 2 + 1)
        took = time.perf_counter() - begin
        beats = _heartbeats(cluster) - beats
        client_s, servers_s = cpu_s(child) - client_s, sum(map(cpu_s, servers)) - servers_s
        beating = child.memory_info().rss
    each_kb = (beating - before) / 1024 / max(1, agents - 1)
    return [
        (
            f"memory of a client process: 1 agent / {agents:,} / these heartbeating",
            f"{before / MB:.0f} / {after / MB:.0f} / {beating / MB:.0f} MB",
        ),
        ("memory per agent in its client", f"{each_kb:.1f} kB"),
        (f"heartbeats of {agents:,} agents of ttl {TTL_S} s", f"{beats / took:,.0f} per s"),
        (
            "their processor time: client / all replicas",
            f"{client_s / took:.0%} / {servers_s / took:.0%} of a core",
        ),
        ("of these agents UNREACHABLE or DEAD meanwhile", f"{len(late):,}"),
    ]


@contextmanager
def _client_process(cluster: LocalCluster, agents: int) -> Iterator[subprocess.Popen[str]]:
    endpoints = ",".join(cluster.endpoints)
    command = [sys.executable, "-m", __name__, endpoints, str(agents), str(TTL_S)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_word(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if said != word:
        raise RuntimeError(f"the client process said {said!r}, not {word!r}")


def _heartbeats(cluster: LocalCluster) -> float:
    """Return how many heartbeats all replicas have admitted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    total = 0.0
    for node in cluster.nodes.values():
        with opener.open(f"http://{node.metrics_addr}/metrics", timeout=10) as response:
            for line in response.read().decode().splitlines():
                if line.startswith('agentkeeper_rpc_total{method="Heartbeat"}'):
                    total += float(line.split()[-1])
    return total


if __name__ == "__main__":
    main()
