"""`agentkeeper cluster`: start a local cluster, and see how any cluster is doing."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agentkeeper.client.endpoints import parse_endpoint
from agentkeeper.client.status import leader_among, replica_statuses
from agentkeeper.launcher import ChildFailed, LocalCluster
from agentkeeper.types import ReplicaStatus

FOLLOW_INTERVAL_S = 0.5
PROBE_TIMEOUT_S = 2.0


@click.group()
def cluster() -> None:
    """Start a local cluster; see how a cluster is doing."""


# ------------------------------------------------------------ up


@cluster.command()
@click.option("--replicas", type=click.IntRange(1, 9), default=3, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything here and go on from it; without it, nothing is kept.",
)
def up(replicas: int, data_dir: Path | None) -> None:
    """Run a cluster on this machine until Ctrl-C."""
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        local = LocalCluster(replicas, data_dir)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    failed = False
    try:
        console.print(f"Starting {replicas} replica{'s' if replicas > 1 else ''} ...")
        local.start()
        local.wait_ready()
        _print_cluster(console, local)
        failed = not _follow(console, local)
    except (ChildFailed, TimeoutError) as error:
        console.print(str(error), style="red", markup=False)
        failed = True
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what follows is quick and must not be torn
        console.print("Stopping ...")
        local.close()
    console.print("All replicas have stopped.")
    sys.exit(1 if failed else 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_cluster(console: Console, local: LocalCluster) -> None:
    leader = local.leader()
    statuses = local.statuses()
    table = Table(title="Cluster", title_justify="left")
    for heading in ("replica", "endpoint", "http", "pid", "role"):
        table.add_column(heading)
    for name, node in local.nodes.items():
        status = statuses[name]
        role = status.role.value.lower() if status else "silent"
        style = "bold green" if node is leader else ""
        table.add_row(
            name, node.endpoint, f"http://{node.metrics_addr}/", str(node.pid), role, style=style
        )
    console.print(table)
    console.print(f"Data and logs: {local.data_dir}", soft_wrap=True)
    console.print(f"export AGENTKEEPER_ENDPOINTS={','.join(local.endpoints)}", soft_wrap=True)
    console.print("Ctrl-C stops it.")


def _follow(console: Console, local: LocalCluster) -> bool:
    """Print what changes; returns False once no replica is left."""
    leader = local.find_leader()
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
                    soft_wrap=True,
                )
        now = local.find_leader()
        if now is not leader:
            leader = now
            if now is None:
                console.print(f"{_clock()} there is no leader", style="yellow")
            else:
                console.print(f"{_clock()} {now.name} leads ({now.endpoint})", style="green")
    return False


def _clock() -> str:
    return time.strftime("%H:%M:%S")


# ------------------------------------------------------------ status


@cluster.command()
@click.option(
    "--endpoints",
    envvar="AGENTKEEPER_ENDPOINTS",
    default="localhost:7070",
    show_default=True,
    show_envvar=True,
    help="host:port of the replicas, with commas.",
)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def status(endpoints: str, output: str) -> None:
    """Show each replica's role, term, indexes and lag.

    Exits with 1 if no replica that answers can serve, for want of a leader or a majority.
    """
    try:
        addresses = [parse_endpoint(part) for part in endpoints.split(",") if part.strip()]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--endpoints") from None
    if not addresses:
        raise click.BadParameter("names no endpoint", param_hint="--endpoints")
    statuses = replica_statuses(addresses, PROBE_TIMEOUT_S)
    rows = [describe(address, known, statuses) for address, known in statuses.items()]
    if output == "json":
        click.echo(json.dumps({"serving": is_serving(statuses), "replicas": rows}, indent=2))
    else:
        Console(highlight=False).print(_table(rows))
    sys.exit(0 if is_serving(statuses) else 1)


def is_serving(statuses: dict[str, ReplicaStatus | None]) -> bool:
    """Whether some replica that answered has a leader and a majority behind it."""
    return any(known is not None and not known.not_ready_reason for known in statuses.values())


def describe(
    address: str, known: ReplicaStatus | None, statuses: dict[str, ReplicaStatus | None]
) -> dict[str, Any]:
    """Return what there is to say about one endpoint; lag counts log entries not yet applied."""
    if known is None:
        return {"endpoint": address, "reachable": False}
    return {
        "endpoint": address,
        "reachable": True,
        "replica": known.node_id,
        "role": known.role.value.lower(),
        "term": known.term,
        "commit_index": known.commit_index,
        "applied_index": known.applied_index,
        "lag": max(0, _newest_commit_index(list(statuses.values())) - known.applied_index),
        "leader": known.leader_node_id or None,
        "not_ready_reason": known.not_ready_reason or None,
        "version": known.version,
    }


def _newest_commit_index(statuses: Sequence[ReplicaStatus | None]) -> int:
    """Return the leader's commit index, or the highest known where the leader is not."""
    leader = leader_among(statuses)
    if leader is not None:
        return leader.commit_index
    return max((known.commit_index for known in statuses if known is not None), default=0)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    for heading, justify in (
        ("endpoint", "left"),
        ("replica", "left"),
        ("role", "left"),
        ("term", "right"),
        ("commit", "right"),
        ("applied", "right"),
        ("lag", "right"),
        ("state", "left"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for row in rows:
        if not row["reachable"]:
            table.add_row(row["endpoint"], *["-"] * 6, "unreachable", style="red")
            continue
        numbers = [str(row[key]) for key in ("term", "commit_index", "applied_index", "lag")]
        state = row["not_ready_reason"] or "ready"
        style = "bold green" if row["role"] == "leader" else ""
        table.add_row(
            row["endpoint"], row["replica"] or "-", row["role"], *numbers, state, style=style
        )
    return table
