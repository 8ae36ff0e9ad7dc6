"""The Raft engine alone, as three processes, beside the limits that disk and network set."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentkeeper.client.ports import free_ports
from benchmarks.figures import Row, ms, quantile, wait_for

ENTRY_BYTES = 300
COMMANDS, COMMAND_BYTES, UNDER_WAY = 64, 100, 8
DIVERGENT = 300


class Engines:
    """Replicas of one cluster, each a process, with their folders under one temporary folder."""

    def __init__(self, folder: Path, ids: str = "abc") -> None:
        self._folder = folder
        ports = free_ports(len(ids))
        self._peers = {
            node_id: f"127.0.0.1:{port}" for node_id, port in zip(ids, ports, strict=True)
        }
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, *node_ids: str) -> None:
        """Start some replicas, or all."""
        for node_id in node_ids or tuple(self._peers):
            settings = {
                "node_id": node_id,
                "data_dir": str(self._folder / node_id),
                "peers": self._peers,
                "secret": "measured with encryption",
            }
            self._processes[node_id] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.engine_process", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def ask(self, node_id: str, do: str, **arguments: Any) -> Any:
        """Have a replica do something and give its answer."""
        process = self._processes[node_id]
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps({"do": do, **arguments}), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    def kill(self, *node_ids: str) -> None:
        """SIGKILL, at once for all of them."""
        ended = [self._processes.pop(node_id) for node_id in node_ids]
        for process in ended:
            process.kill()
        for process in ended:
            process.communicate()

    def leader(self) -> str:
        """Wait for a leader that has committed something in its term."""
        found: list[str] = []

        def led() -> bool:
            found[:] = [i for i in self._processes if self.ask(i, "status")["role"] == "leader"]
            return bool(found) and self.ask(found[0], "propose", size=1) == "committed"

        wait_for(led)
        return found[0]

    def close(self) -> None:
        """Kill what still runs."""
        self.kill(*tuple(self._processes))


@contextlib.contextmanager
def engines(ids: str = "abc") -> Iterator[Engines]:
    """Replicas that are all started."""
    with tempfile.TemporaryDirectory(prefix="agentkeeper-engine-") as folder:
        made = Engines(Path(folder), ids)
        try:
            made.start()
            yield made
        finally:
            made.close()


def measure(rounds: int, count: int, seconds: float) -> list[Row]:
    """Latency and throughput at the leader, each in `rounds` rounds of which medians are given."""
    with engines() as made, _echo_server() as echo:
        leader = made.leader()
        latencies = [
            made.ask(leader, "latency", size=ENTRY_BYTES, count=count, echo=echo)
            for _ in range(rounds)
        ]
        load = {"commands": COMMANDS, "command_bytes": COMMAND_BYTES, "under_way": UNDER_WAY}
        rates = [made.ask(leader, "throughput", **load, seconds=seconds) for _ in range(rounds)]
    rows: list[Row] = []
    for fraction, name in ((0.5, "p50"), (0.99, "p99")):
        proposal, bare, sync, trip = (
            statistics.median(quantile(one[kind], fraction) for one in latencies)
            for kind in ("proposal", "bare", "fdatasync", "round_trip")
        )
        # Both percentiles are held against the medians of what cannot be had faster.
        limit = sum(
            statistics.median(quantile(one[kind], 0.5) for one in latencies)
            for kind in ("fdatasync", "round_trip")
        )
        rows.append(
            (
                f"engine alone, one proposal of {ENTRY_BYTES} B at the leader, {name}",
                f"{ms(proposal)}; fdatasync {ms(sync)}, loopback round trip {ms(trip)}: "
                f"{proposal / limit:.1f} times both medians together; "
                f"the same way with nothing in it {ms(bare)}: {bare / limit:.1f} times",
            )
        )
    rows.append(
        (
            f"engine alone, entries of {COMMANDS} commands of {COMMAND_BYTES} B, "
            f"{UNDER_WAY} under way",
            f"{statistics.median(rates):,.0f} commands/s, each on two disks at least",
        )
    )
    return rows


def reconcile(runs: int) -> list[Row]:
    """Time for a replica with divergent entries to take over the log of the others."""
    spans = []
    for _ in range(runs):
        with engines() as made:
            old = made.leader()
            others = [node_id for node_id in "abc" if node_id != old]
            made.kill(*others)
            before = made.ask(old, "status")["last"]
            made.ask(old, "append", count=DIVERGENT, size=ENTRY_BYTES)
            wait_for(lambda: made.ask(old, "status")["durable"] >= before + DIVERGENT)  # noqa: B023
            made.kill(old)
            made.start(*others)
            new = made.leader()
            began_s = time.perf_counter()
            made.start(old)
            reached = made.ask(new, "status")["delivered"]
            wait_for(lambda: made.ask(old, "status")["delivered"] >= reached)  # noqa: B023
            spans.append(time.perf_counter() - began_s)
    return [
        (
            f"{DIVERGENT} divergent entries replaced, from the start of the process, {runs} runs",
            " / ".join(ms(s) for s in (min(spans), statistics.median(spans), max(spans))),
        )
    ]


def catch_up(entries: int) -> list[Row]:
    """A follower that was away for `entries` comes back, while others go on."""
    with engines() as made:
        leader = made.leader()
        away = next(node_id for node_id in "abc" if node_id != leader)
        made.kill(away)
        committed = made.ask(leader, "entries", count=entries, size=20, under_way=1000)
        made.start(away)
        began_s = time.perf_counter()
        reached = made.ask(leader, "status")["delivered"]
        spans = []
        while made.ask(away, "status")["delivered"] < reached:
            asked_s = time.perf_counter()
            made.ask(leader, "propose", size=ENTRY_BYTES)
            spans.append(time.perf_counter() - asked_s)
        took_s = time.perf_counter() - began_s
    return [
        (
            f"a follower away for {committed:,} entries has caught up, from its start",
            f"{took_s:.1f} s; proposals meanwhile: p50 {ms(statistics.median(spans))}, "
            f"slowest {ms(max(spans))}",
        )
    ]


@contextlib.contextmanager
def _echo_server() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with peer:
                        while data := peer.recv(65536):
                            peer.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()
        server.close()
