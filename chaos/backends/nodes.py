"""Local replicas as processes: what a signal to one, or to several at once, takes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from agentkeeper.launcher import LocalCluster, Node

PAUSE_TIMEOUT_S = 10.0
POLL_S = 0.002


def kill(nodes: Iterable[Node]) -> None:
    """Send SIGKILL to all of them at once, then wait until they are gone."""
    running = [node for node in nodes if node.running]
    for node in running:
        assert node.pid is not None
        os.kill(node.pid, signal.SIGKILL)
    for node in running:
        node.kill()


def pause(nodes: Iterable[Node]) -> None:
    """Send SIGSTOP to all of them, then wait until none of their threads runs any more."""
    running = [node for node in nodes if node.running]
    for node in running:
        node.pause()
    deadline = time.monotonic() + PAUSE_TIMEOUT_S
    while any(node.running and not _stands_still(node) for node in running):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all of {running} stand still after {PAUSE_TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def _stands_still(node: Node) -> bool:
    try:
        stats = [path.read_text() for path in Path(f"/proc/{node.pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread ended meanwhile
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


class LocalProcesses:
    """`Processes` of a local cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def kill(self, names: Sequence[str]) -> None:
        """End all of them at once with SIGKILL, and wait until they are gone."""
        kill(self._nodes(names))

    def start(self, names: Sequence[str]) -> None:
        """Start those of them that do not run."""
        for node in self._nodes(names):
            if not node.running:
                node.start()

    def stop(self, name: str) -> None:
        """End one in good order with SIGTERM, and wait until it is gone."""
        self._cluster.nodes[name].terminate()

    def pause(self, names: Sequence[str]) -> None:
        """Stop them with SIGSTOP, and wait until none of their threads runs any more."""
        pause(self._nodes(names))

    def resume(self, names: Sequence[str]) -> None:
        """Let paused ones go on."""
        for node in self._nodes(names):
            node.resume()

    def running(self, name: str) -> bool:
        """Whether it has not ended."""
        return self._cluster.nodes[name].running

    def log_tail(self, name: str) -> str:
        """The end of what it has said."""
        return self._cluster.nodes[name].log_tail()

    def memory_bytes(self, name: str) -> int:
        """Resident memory of the daemon itself; 0 if it does not run."""
        node = self._cluster.nodes[name]
        if not node.running:
            return 0
        try:
            return int(psutil.Process(node.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def _nodes(self, names: Sequence[str]) -> list[Node]:
        return [self._cluster.nodes[name] for name in names]
