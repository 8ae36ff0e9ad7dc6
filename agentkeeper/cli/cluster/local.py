"""Runs a local cluster until told to stop, and tells what happens to it."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

import click
from rich import box
from rich.console import Console
from rich.table import Table

from agentkeeper.launcher import ChildFailed, LocalCluster, Node

FOLLOW_INTERVAL_S = 0.5


def run(replicas: int, data_dir: Path | None) -> bool:
    """Run the cluster until SIGINT or SIGTERM; False if it failed by itself."""
    console = Console(highlight=False, soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        local = LocalCluster(replicas, data_dir)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    try:
        console.print(f"Starting {replicas} replica{'s' if replicas > 1 else ''} ...")
        local.start()
        local.wait_ready()
        _print_cluster(console, local)
        _follow(console, local)
        interrupted = False
    except (ChildFailed, TimeoutError) as error:
        console.print(str(error), style="red", markup=False)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what follows is quick and must not be torn
        console.print("Stopping ...")
        local.close()
    console.print("All replicas have stopped.")
    return interrupted


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_cluster(console: Console, local: LocalCluster) -> None:
    leader = local.leader()
    statuses = local.statuses()
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("replica", "endpoint", "http", "pid", "role"):
        table.add_column(heading, no_wrap=True)
    for name, node in local.nodes.items():
        status = statuses[name]
        role = status.role.value.lower() if status else "silent"
        style = "bold green" if node is leader else ""
        http = f"http://{node.metrics_addr}/"
        table.add_row(name, node.endpoint, http, str(node.pid), role, style=style)
    console.print(table)
    console.print(f"Data and logs: {local.data_dir}")
    console.print(f"export AGENTKEEPER_ENDPOINTS={','.join(local.endpoints)}")
    console.print("Ctrl-C stops it.")


def _follow(console: Console, local: LocalCluster) -> None:
    """Print what changes, until no replica is left."""
    leader: Node | None = local.find_leader()
    gone: set[str] = set()
    while len(gone) < len(local.nodes):
        time.sleep(FOLLOW_INTERVAL_S)
        for name, node in local.nodes.items():
            if not node.running and name not in gone:
                gone.add(name)
                console.print(
                    f"{_clock()} replica {name} ended with exit code {node.exit_code};"
                    f" its log: {node.log_path}",
                    style="red",
                )
        now = local.find_leader()
        if now is not leader:
            leader = now
            if now is None:
                console.print(f"{_clock()} there is no leader", style="yellow")
            else:
                console.print(f"{_clock()} {now.name} leads ({now.endpoint})", style="green")


def _clock() -> str:
    return time.strftime("%H:%M:%S")
