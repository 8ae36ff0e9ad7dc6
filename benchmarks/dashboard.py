"""The dashboard with many agents and many events: how fast it opens, and what it costs.

By itself, `python -m benchmarks.dashboard ENDPOINTS EVENTS_PER_S`, it is the process that makes the
events, until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psutil
from playwright.sync_api import Browser, Page

from agentkeeper import AgentKeeperClient, AsyncAgentKeeperClient
from agentkeeper.launcher import LocalCluster, Node
from benchmarks.chromium import chromium
from benchmarks.figures import MB, Row, cpu_s, p50_p99, quantile

LEASES = 2_000
TASKS = 2_000
EVENTS_PER_S = 1_000
WATCHED_S = 30.0
BEAT_S = 0.05
CALLERS = 32
STORM = 60
"""Pages that come at once."""
REQUESTS: dict[str, dict[str, object]] = {
    "agents": {"limit": 50},
    "agents by prefix and tool": {"name_prefix": "agent-99", "tools": "tool_3", "limit": 50},
    "find": {"query": "scanned invoices of region 7", "limit": 50},
    "leases": {"limit": 50},
    "tasks": {"status": "PENDING", "limit": 50},
    "events": {"limit": 100},
}
ROWS = "tbody tr"


def measure(agents: int, watched_s: float = WATCHED_S) -> list[Row]:
    """Fill a cluster, open its dashboard, and leave it open under load."""
    with LocalCluster(replicas=3) as cluster, cluster.client() as client:
        _fill(client, agents)
        here = cluster.followers()[0]
        rows = [*_requests(here), ("", "")]
        with chromium("--js-flags=--expose-gc") as browser:
            rows += [*_opening(browser, here), ("", "")]
            before = _costs(here, watched_s / 4)
            with _events(cluster):
                loaded = _costs(here, watched_s / 4)
                rows += _watching(browser, here, watched_s, before, loaded)
        rows += [("", ""), *_storm(here)]
    return [
        (f"{agents:,} agents, {LEASES:,} leases, {TASKS:,} tasks, 3 replicas", "p50 / p99"),
        *rows,
    ]


def _fill(client: AgentKeeperClient, agents: int) -> None:
    def register(i: int) -> str:
        about = f"Handles scanned invoices of kind {i % 97} for region {i % 13}"
        tools = [f"tool_{i % 50}", f"tool_{(7 * i + 1) % 50}"]
        return client.register(f"agent-{i}", about, "1.0.0", tools, ttl=3_600).agent_id

    with ThreadPoolExecutor(CALLERS) as pool:
        ids = list(pool.map(register, range(agents)))
        held = [(f"lease-{i}", ids[i % agents]) for i in range(LEASES)]
        list(pool.map(lambda pair: client.acquire_lease(pair[0], pair[1], ttl=3_600), held))
        list(pool.map(lambda i: client.create_task(f"kind-{i % 20}", b"{}"), range(TASKS)))


def _requests(node: Node) -> Iterator[Row]:
    """How long the replica takes over what the page asks for."""
    for title, parameters in REQUESTS.items():
        path = title.partition(" ")[0]
        spans = sorted(_timed(node, path, parameters) for _ in range(100))
        yield f"GET /api/{title}", p50_p99(spans)


def _timed(node: Node, path: str, parameters: dict[str, object]) -> float:
    query = urllib.parse.urlencode(parameters, doseq=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    begin = time.perf_counter()
    with opener.open(f"http://{node.metrics_addr}/api/{path}?{query}", timeout=10) as response:
        json.load(response)
    return time.perf_counter() - begin


def _opening(browser: Browser, node: Node) -> Iterator[Row]:
    """From nothing to rows on the screen, with an empty cache."""
    for section in ("cluster", "agents", "events"):
        spans = []
        for _ in range(9):
            page = browser.new_page()
            begin = time.perf_counter()
            page.goto(f"http://{node.metrics_addr}/#/{section}")
            page.locator(ROWS).first.wait_for()
            spans.append(time.perf_counter() - begin)
            page.close()
        yield f"opened until there are rows: {section}", p50_p99(sorted(spans))


def _watching(
    browser: Browser, node: Node, watched_s: float, before: float, loaded: float
) -> Iterator[Row]:
    """A page left open in the stream of events, and what that costs the replica."""
    page = browser.new_page()
    page.goto(f"http://{node.metrics_addr}/#/events")
    page.locator(ROWS).first.wait_for()
    first = _heap_mb(page)
    began = time.perf_counter()
    watched = _costs(node, watched_s)
    took = time.perf_counter() - began
    renderers = [
        p
        for p in psutil.process_iter(["cmdline"])
        if "--type=renderer" in (p.info["cmdline"] or []) and "chromium" in p.name()
    ]
    yield f"events per second, for {took:.0f} s", f"{EVENTS_PER_S:,} asked for"
    yield "told on the page", page.locator(".status").inner_text()
    yield "script memory: opened / after", f"{first:.1f} / {_heap_mb(page):.1f} MB"
    yield (
        "memory of the browser's largest page process",
        f"{max(p.memory_info().rss for p in renderers) / MB:.0f} MB",
    )
    yield "elements on the page", f"{page.evaluate('document.querySelectorAll(`*`).length'):,}"
    yield "longest the page stood still", f"{_longest_task_ms(page):.0f} ms"
    yield (
        "the replica's processor time: idle / under load / and with the page",
        f"{before:.0%} / {loaded:.0%} / {watched:.0%} of a core",
    )
    lags = [point["loop_lag_max_ms"] for point in _history(node)[-int(watched_s) :]]
    yield (
        "its event loop's longest delay",
        f"{quantile(sorted(lags), 0.5):.1f} ms, at most {max(lags):.1f}",
    )


def _storm(node: Node) -> Iterator[Row]:
    """The pages of a replica that is gone come to this one, all at once."""
    host, _, port = node.metrics_addr.rpartition(":")
    with ExitStack() as opened:
        pages = [
            opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(STORM)
        ]
        began = time.perf_counter()
        for page in pages:
            page.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for page in pages:
            told = opened.enter_context(page.makefile("rb"))
            while told.readline() != b"event: pulse\n":
                pass
        took_s = time.perf_counter() - began
        time.sleep(2.0)  # until there is a point of it
    points = _history(node)
    lag_ms = max(point["loop_lag_max_ms"] for point in points[-3:])
    yield f"{STORM} pages at once, {len(points)} points each: all told after", f"{took_s:.3f} s"
    yield "its event loop's longest delay meanwhile", f"{lag_ms:.1f} ms"


def _costs(node: Node, span_s: float) -> float:
    """The part of a core that the replica uses, over a while."""
    assert node.pid is not None
    process = psutil.Process(node.pid)
    used_s, began = cpu_s(process), time.perf_counter()
    time.sleep(span_s)  # a span of time is what is measured
    return (cpu_s(process) - used_s) / (time.perf_counter() - began)


def _heap_mb(page: Page) -> float:
    page.evaluate("gc()")
    used: int = page.evaluate("performance.memory.usedJSHeapSize")
    return used / MB


def _longest_task_ms(page: Page) -> float:
    """The longest in ten seconds; browsers tell of those beyond 50 ms."""
    longest: float = page.evaluate(
        """() => new Promise((done) => {
          let longest = 0;
          new PerformanceObserver((list) => {
            for (const task of list.getEntries()) longest = Math.max(longest, task.duration);
          }).observe({ type: "longtask" });
          setTimeout(() => done(longest), 10_000);
        })"""
    )
    return longest


def _history(node: Node) -> list[dict[str, float]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{node.metrics_addr}/api/live", timeout=10) as response:
        for line in response:
            if line.startswith(b"data: "):
                points: list[dict[str, float]] = json.loads(line[6:])["points"]
                return points
    return []


@contextmanager
def _events(cluster: LocalCluster) -> Iterator[None]:
    endpoints = ",".join(cluster.endpoints)
    command = [sys.executable, "-m", "benchmarks.dashboard", endpoints, str(EVENTS_PER_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()


async def _make_events(endpoints: str, events_per_s: int) -> None:
    ended = threading.Event()

    def read_to_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=read_to_end, daemon=True).start()
    async with AsyncAgentKeeperClient(endpoints=endpoints) as client:
        number, began = 0, time.perf_counter()
        under_way: set[asyncio.Task[object]] = set()
        while not ended.is_set():
            due = int((time.perf_counter() - began) * events_per_s)
            while number < due and len(under_way) < events_per_s:
                call = client.set_policy(f"p-{number % 500}", "s", "a", f"r/{number}", "ALLOW")
                task: asyncio.Task[object] = asyncio.create_task(call)
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                number += 1
            await asyncio.sleep(BEAT_S)
        await asyncio.gather(*under_way)


if __name__ == "__main__":
    asyncio.run(_make_events(sys.argv[1], int(sys.argv[2])))
