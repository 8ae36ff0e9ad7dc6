"""Shows how the replicas of a cluster are doing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from agentkeeper.client.endpoints import parse_endpoint
from agentkeeper.client.status import leader_among, replica_statuses
from agentkeeper.types import ReplicaStatus

PROBE_TIMEOUT_S = 2.0
NUMBERS = ("term", "commit_index", "applied_index", "lag")


def show(endpoints: str, output: str) -> bool:
    """Print the replicas' status as a table or JSON; returns whether the cluster serves."""
    try:
        addresses = [parse_endpoint(part) for part in endpoints.split(",") if part.strip()]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--endpoints") from None
    if not addresses:
        raise click.BadParameter("names no endpoint", param_hint="--endpoints")
    statuses = replica_statuses(addresses, PROBE_TIMEOUT_S)
    rows = [describe(address, known, statuses) for address, known in statuses.items()]
    serving = is_serving(statuses)
    if output == "json":
        click.echo(json.dumps({"serving": serving, "replicas": rows}, indent=2))
    else:
        Console(highlight=False, soft_wrap=True).print(_table(rows))
    return serving


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
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("endpoint", "replica", "role"):
        table.add_column(heading, no_wrap=True)
    for heading in ("term", "commit", "applied", "lag"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state")
    for row in rows:
        if not row["reachable"]:
            table.add_row(row["endpoint"], *["-"] * 6, "unreachable", style="red")
            continue
        table.add_row(
            row["endpoint"],
            row["replica"] or "-",
            row["role"],
            *(str(row[number]) for number in NUMBERS),
            row["not_ready_reason"] or "ready",
            style="bold green" if row["role"] == "leader" else "",
        )
    return table
