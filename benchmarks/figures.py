"""Quantiles, processor time and how figures are written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from agentkeeper.launcher import LocalCluster

Row = tuple[str, str]
MB = 2**20


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return the value below which `fraction` of the ordered values are."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def spans_of(call: Callable[[], object], times: int = 200) -> list[float]:
    """Return how long `times` calls took, in seconds, ordered."""
    spans = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spans.append(time.perf_counter() - begin)
    return sorted(spans)


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time that a process has used, in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def replicas_of(cluster: LocalCluster) -> list[psutil.Process]:
    """Return the processes of a cluster's replicas."""
    return [psutil.Process(node.pid) for node in cluster.nodes.values() if node.pid is not None]


def memory_mb(processes: Iterable[psutil.Process]) -> float:
    """Return the resident memory of the largest of the processes."""
    return max(process.memory_info().rss for process in processes) / MB


def ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f"{seconds * 1000:.2f} ms"


def p50_p99(ordered: Sequence[float]) -> str:
    """Write median and 99th percentile of ordered seconds."""
    return f"{ms(quantile(ordered, 0.5))} / {ms(quantile(ordered, 0.99))}"


def median_of(values: Iterable[float]) -> float:
    """Return the median; of no values, zero."""
    return statistics.median(list(values) or [0.0])


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.001)
