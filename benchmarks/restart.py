"""How long a replica takes to serve again, from a large snapshot and a long tail of the log."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

from agentkeeper.client.ports import free_ports
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.disk import OsDisk
from agentkeeper.consensus.entries import REGULAR
from agentkeeper.consensus.snapshots import SnapshotStore
from agentkeeper.consensus.storage import open_storage
from agentkeeper.core.apply import apply
from agentkeeper.core.codec import ENCODING, pack_batch
from agentkeeper.core.commands import AcquireLease, Batch, Command, Register
from agentkeeper.core.records import Card
from agentkeeper.core.snapshot import capture, pack_snapshot
from agentkeeper.core.state import State
from benchmarks.figures import Row, wait_for

NODE_ID = "alone"
TTL_MS = 3_600_000
TERM = 1


def measure(agents: int, entries: int) -> list[Row]:
    """Make a data folder with `agents` in its snapshot and `entries` after it, and start on it."""
    with tempfile.TemporaryDirectory(prefix="agentkeeper-restart-") as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir()
        snapshot_bytes = _fill(data_dir, agents, entries)
        addr, metrics_addr = (f"127.0.0.1:{port}" for port in free_ports(2))
        command = [sys.executable, "-m", "agentkeeper", "serve", "--data-dir", str(data_dir)]
        command += ["--addr", addr, "--metrics-addr", metrics_addr, "--snapshot-entries"]
        command += [str(2 * entries)]
        began_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: _ready(metrics_addr))
            took_s = time.perf_counter() - began_s
        finally:
            process.kill()
            process.wait()
    what = f"{agents:,} agents ({snapshot_bytes / 2**20:.0f} MB) and {entries:,} entries after it"
    return [(f"start with a snapshot of {what}, until ready", f"{took_s:.1f} s")]


def _ready(metrics_addr: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{metrics_addr}/readyz", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _fill(data_dir: Path, agents: int, entries: int) -> int:
    disk = OsDisk(data_dir)
    storage = open_storage(disk, RaftConfig(NODE_ID, data_dir), lambda: uuid.uuid4().hex)
    storage.ballot.store(term=TERM)
    state, index = State(), 1
    ids = [f"{number:032x}" for number in range(agents)]
    for batch in _registrations(ids):
        index += 1
        apply(state, batch)
    store = SnapshotStore(disk, lambda done: done())
    store.save(index, TERM, pack_snapshot(capture(state, index)), lambda stored: None)
    storage.journal.restart(index, TERM)
    for number in range(entries):
        index += 1
        lease = AcquireLease(f"lease-{number % 1000}", ids[number % agents], TTL_MS, 0, False)
        batch = Batch(number + 1, number + 1, (Command("", "", 0, 0, lease),))
        storage.journal.add(REGULAR + pack_batch(batch, ENCODING), index, TERM)
    storage.journal.flush()
    storage.close()
    store.close()
    return sum(file.stat().st_size for file in data_dir.glob("snapshot"))


def _registrations(ids: list[str]) -> Iterator[Batch]:
    for start in range(0, len(ids), 100):
        commands = []
        for number, agent_id in enumerate(ids[start : start + 100], start):
            card = Card(
                f"agent-{number}",
                f"Handles invoices of kind {number % 97} for region {number % 13}",
                "1.0.0",
                (),
                (f"tool_{number % 50}", f"tool_{(number * 7 + 1) % 50}"),
                (("team", f"team-{number % 20}"),),
            )
            commands.append(Command("", "", 0, 0, Register(agent_id, card, TTL_MS, 0)))
        yield Batch(1, 1, tuple(commands))
