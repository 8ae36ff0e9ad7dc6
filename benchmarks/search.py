"""Finding agents by meaning, with the real model: how long it takes, and what it costs.

By itself, `python -m benchmarks.search FILE AGENTS`, it is the process that fills a vector cache
for so many agents.
"""

from __future__ import annotations

import gc
import itertools
import random
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil
from prometheus_client.parser import text_string_to_metric_families

from agentkeeper.launcher import LocalCluster, Node
from agentkeeper.search.document import Document
from agentkeeper.search.model.locate import locate
from agentkeeper.search.passage import passage
from agentkeeper.search.vectors import GRAPH_FROM
from agentkeeper.search.worker.cache import VectorCache
from agentkeeper.server.node import VECTOR_CACHE
from agentkeeper.types import FindMode
from benchmarks.figures import MB, Row, cpu_s, p50_p99, quantile, spans_of

CALLERS: Final = 32
REGISTERED: Final = 500
"""Agents that come at once while the event loop is looked at."""
ROUNDS: Final = 3
WITHOUT_MODEL_S: Final = 10.0
KNOWN: Final = 64
"""Queries whose vectors the daemon has."""
SEARCHES: Final = 400
NEW_SEARCHES: Final = 200
TEXTS: Final = 2_000
"""Texts that are embedded for a cache made beforehand."""
TILT: Final = 0.5
SHARES: Final[dict[str, tuple[str, ...]]] = {"100 %": (), "10 %": ("tenth_3",), "1 %": ("part_37",)}
"""Tools that so many of the agents have."""
PATIENCE_S: Final = 1_200.0

DOES: Final = (
    ("reader", "Reads", "make sense of"), ("translator", "Translates", "put into English"),
    ("auditor", "Audits", "find what is wrong with"), ("writer", "Drafts", "write"),
    ("sorter", "Sorts and labels", "put into order"), ("watcher", "Monitors", "keep an eye on"),
    ("condenser", "Summarises", "tell me in short of"), ("planner", "Plans", "think ahead about"),
    ("importer", "Imports", "get into our database"), ("tester", "Tests", "try out"),
    ("cleaner", "Cleans up", "tidy"), ("forecaster", "Forecasts", "guess next month's"),
)  # fmt: skip
WHAT: Final = (
    "scanned invoices", "supplier contracts", "support tickets", "laboratory results",
    "delivery routes", "travel bookings", "web pages", "sensor readings", "job applications",
    "source code", "product photographs", "insurance claims", "press releases", "lesson plans",
    "meeting recordings", "tax returns", "energy bills", "customer reviews", "network logs",
)  # fmt: skip
WHERE: Final = (
    "hospitals", "a chain of bakeries", "law firms", "wind farms", "an airline", "public libraries",
    "a shipping company", "museums", "online shops", "banks", "universities", "a news desk",
    "hotels", "city councils", "farmers", "a film studio", "pharmacies", "a railway", "charities",
)  # fmt: skip
HOW: Final = (
    "and reports what is missing", "within the hour", "in several languages", "overnight",
    "and asks when in doubt", "with a person who approves", "at a fixed price", "every morning",
    "and keeps a record of it", "from what is sent by mail", "and explains each step", "for a fee",
)  # fmt: skip
SAID: Final = (
    "someone who can", "we have to", "I would like to", "who helps us to", "a way to", "please",
    "find me one to", "it is time to",
)  # fmt: skip


def measure(agents: int, sizes: Sequence[int]) -> list[Row]:
    """Measure one daemon by itself, with `agents` fresh agents, then grown to each of `sizes`.

    Raises RuntimeError if there is no model on this machine.
    """
    model = locate().model
    if model is None:
        raise RuntimeError(f"no model to measure: {'; '.join(locate().tried)}")
    return [
        (f"{model.directory.parent.name}, run by {model.runtime}", "p50 / p99"),
        *_pauses(),
        ("", ""),
        *_fresh(agents),
        ("", ""),
        *_sizes(sizes),
    ]


def _pauses() -> Iterator[Row]:
    """What the event loop notices of agents that come while the model is loaded and run."""
    waits = (
        ("no model", ("--model", "none"), f"{WITHOUT_MODEL_S:g} s more"),
        ("the model", (), "until all are searchable"),
    )
    for title, arguments, after in waits:
        calls: list[float] = []
        lags: Counter[float] = Counter()
        for _ in range(ROUNDS):
            with LocalCluster(1, extra_args=arguments) as cluster:
                node = cluster.leader()
                before = _lags(node)
                calls += _register(cluster, range(REGISTERED))
                if arguments:
                    time.sleep(WITHOUT_MODEL_S)  # about as long as the others embed
                else:
                    _wait_for_vectors(cluster)
                lags += _lags(node) - before
        calls.sort()
        told = f"{REGISTERED} registrations at once, {title}: calls, slowest"
        yield told, f"{p50_p99(calls)}, {calls[-1] * 1000:.0f} ms"
        spread = sorted(lags.elements())
        yield (
            f"the event loop's lag meanwhile and {after}, {len(spread)} looks",
            " / ".join(f"< {quantile(spread, share) * 1000:g}" for share in (0.5, 0.99))
            + f" ms, longest < {spread[-1] * 1000:g} ms",
        )


def _fresh(agents: int) -> Iterator[Row]:
    """How long it takes until all of many fresh agents are found by meaning."""
    with TemporaryDirectory(prefix="agentkeeper-search-") as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        with LocalCluster(1, first) as cluster:
            yield "memory of a daemon without agents", _memory(cluster.leader())
            yield _until_searchable(cluster, agents, "nothing cached")
            yield f"memory with {agents:,} agents: daemon, worker", _memory(cluster.leader())
        with LocalCluster(1, first) as cluster:
            began_s = time.perf_counter()
            _wait_for_vectors(cluster)
            took = f"{time.perf_counter() - began_s:.1f} s after it was ready"
            yield f"the same {agents:,} searchable after a restart", took
        node = LocalCluster(1, second).nodes["a"]
        _share_cache(first / node.name, node.data_dir)
        with LocalCluster(1, second) as cluster:
            yield _until_searchable(cluster, agents, "vectors cached on disk")


def _until_searchable(cluster: LocalCluster, agents: int, title: str) -> Row:
    began_s = time.perf_counter()
    _register(cluster, range(agents))
    registered_s = time.perf_counter() - began_s
    _wait_for_vectors(cluster)
    took_s = time.perf_counter() - began_s
    told = f"{took_s:.1f} s ({agents / took_s:,.0f} per s)"
    return (
        f"{agents:,} fresh agents, {title}: registered / all searchable",
        f"{registered_s:.1f} / {told}",
    )


def _sizes(sizes: Sequence[int]) -> Iterator[Row]:
    """How long searches take, the more agents there are."""
    asked = _questions()
    known = list(itertools.islice(asked, KNOWN))
    with TemporaryDirectory(prefix="agentkeeper-search-") as folder:
        layout = LocalCluster(1, folder, extra_args=("--snapshot-entries", str(10**7)))
        cache = layout.nodes["a"].data_dir / VECTOR_CACHE
        command = [sys.executable, "-m", "benchmarks.search", str(cache), str(max(sizes))]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        with layout as cluster:
            node, there = cluster.leader(), 0
            for size in sorted(sizes):
                _register(cluster, range(there, size))
                _wait_for_vectors(cluster)
                # Going through what the registrations have left here would stop searches for 1.4 s.
                gc.collect()
                gc.freeze()
                there = size
                if size >= GRAPH_FROM:
                    yield _searches(
                        cluster, f"{size:,} agents, all fit, at first", (), known, asked
                    )
                    yield f"{size:,} agents: until the daemon is idle", _wait_until_idle(node)
                for share, tools in SHARES.items():
                    yield _searches(cluster, f"{size:,} agents, {share} fit", tools, known, asked)
                if "too alike for a graph" in node.log_path.read_text():
                    yield f"{size:,} agents: the graph of near neighbours", "given up"
                yield f"{size:,} agents: memory of daemon, worker", _memory(node)


def _searches(
    cluster: LocalCluster,
    title: str,
    tools: tuple[str, ...],
    known: Sequence[str],
    asked: Iterator[str],
) -> Row:
    """Searches one after the other, of which the daemon knows the query or not."""
    modes: Counter[str] = Counter()
    with cluster.client() as client:

        def find(queries: Iterator[str]) -> None:
            modes[client.find(next(queries), tools).mode] += 1

        again = itertools.cycle(known)
        spans_of(lambda: find(again), len(known))
        spans = spans_of(lambda: find(again), SEARCHES)
        new = spans_of(lambda: find(asked), NEW_SEARCHES)
    by_words = modes.total() - modes[FindMode.SEMANTIC]
    told = f"{p50_p99(spans)}; {p50_p99(new)}"
    return f"{title}: known; new query", told + (f"; {by_words} by words" if by_words else "")


def _questions() -> Iterator[str]:
    """Queries, none twice."""
    parts = list(itertools.product(SAID, DOES, WHAT, WHERE))
    random.Random(7).shuffle(parts)
    for said, (_, _, to_do), what, where in parts:
        yield f"{said} {to_do} {what} for {where}"


def _card(number: int) -> tuple[str, str]:
    """An agent's name and its description, of which there are 51,984."""
    count = len(DOES) * len(WHAT) * len(WHERE) * len(HOW)
    place, how = divmod(number * 7_919 % count, len(HOW))
    place, where = divmod(place, len(WHERE))
    does, what = divmod(place, len(WHAT))
    name, verb, _ = DOES[does]
    about = f"{verb} {WHAT[what]} for {WHERE[where]} {HOW[how]}."
    return f"{WHAT[what].rpartition(' ')[2]}-{name}-{number}", about


def _register(cluster: LocalCluster, numbers: range) -> list[float]:
    """Register agents by many callers at once; how long each took, in seconds."""

    def register(number: int) -> float:
        name, about = _card(number)
        tools = [f"tenth_{number % 10}", f"part_{number % 100}"]
        began_s = time.perf_counter()
        client.register(name, about, "1.0.0", tools, ttl=3_600)
        return time.perf_counter() - began_s

    with cluster.client() as client, ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(register, numbers))


def _wait_for_vectors(cluster: LocalCluster) -> None:
    """Wait until no agent waits for its vector. Raises TimeoutError."""
    end_s = time.monotonic() + PATIENCE_S
    with cluster.client() as client:
        while pending := client.find(limit=1).pending:
            if time.monotonic() > end_s:
                raise TimeoutError(f"{pending} agents still wait for their vectors")
            time.sleep(0.1)


def _wait_until_idle(node: Node) -> str:
    """Wait until the daemon has built its graph, or has nothing to build; how long that took."""
    process, began_s = psutil.Process(node.pid), time.perf_counter()
    while True:
        used_s = cpu_s(process)
        time.sleep(2.0)  # a span of time is what is measured
        if cpu_s(process) - used_s < 0.2:
            return f"{time.perf_counter() - began_s:.0f} s"


def _memory(node: Node) -> str:
    """What the daemon holds, and the worker, which is its child."""
    daemon = psutil.Process(node.pid)
    return ", ".join(
        f"{process.memory_info().rss / MB:.0f} MB" for process in (daemon, *daemon.children())
    )


def _lags(node: Node) -> Counter[float]:
    """How often the event loop was late by up to so many seconds, since the daemon's start."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{node.metrics_addr}/metrics", timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        lags = next(f for f in families if f.name == "agentkeeper_event_loop_lag_seconds")
    upto = {float(s.labels["le"]): s.value for s in lags.samples if s.name.endswith("_bucket")}
    found: Counter[float] = Counter()
    for (bound, looks), below in zip(upto.items(), (0.0, *upto.values()), strict=False):
        found[bound] = int(looks - below)
    return found


def _share_cache(source: Path, target: Path) -> None:
    (target / VECTOR_CACHE).parent.mkdir(parents=True)
    for file in (source / VECTOR_CACHE).parent.iterdir():
        shutil.copy(file, (target / VECTOR_CACHE).parent)


def _fill(path: Path, agents: int) -> None:
    """Put vectors into a cache: some are real, the others lie between each two of those.

    The first `TEXTS` agents have what the model makes of their own texts. The vector of any later
    one is that of one of them, tilted towards that of another.
    """
    import numpy as np  # noqa: PLC0415  # it and the model are for this process only

    from agentkeeper.search.model.embedder import load  # noqa: PLC0415

    files = locate().model
    assert files is not None
    embedder = load(files)
    real = np.array([embedder.embed(_passage(number)) for number in range(min(TEXTS, agents))])
    cache = VectorCache(path, embedder.model_id, embedder.dimension)
    pairs = np.random.default_rng(7)
    for number in range(agents):
        vector = real[number % len(real)]
        if number >= len(real):
            vector = vector + TILT * real[pairs.integers(len(real))]
            vector /= np.linalg.norm(vector)
        cache.put(_passage(number).encode(), vector.astype("<f4").tobytes())
    cache.close()


def _passage(number: int) -> str:
    return passage(Document("", *_card(number), (), (), ()))


if __name__ == "__main__":
    _fill(Path(sys.argv[1]), int(sys.argv[2]))
