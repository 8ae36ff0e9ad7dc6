"""`agentkeeper version`: of this client and of every replica."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import click

from agentkeeper.cli.connection import endpoints_option, timeout_option
from agentkeeper.cli.output import Column, Output, with_output

PROBE_TIMEOUT_S = 2.0

COLUMNS = (
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("REPLICA", lambda row: row["replica"]),
    Column("VERSION", lambda row: row["version"] or "not connected"),
    Column("CLUSTER VERSION", lambda row: row["cluster_version"], right=True),
    Column("NEWEST IT KNOWS", lambda row: row["newest_version"], right=True),
)


@click.command()
@click.option("--client", "only_client", is_flag=True, help="Ask nobody.")
@endpoints_option
@timeout_option
@with_output
def version(show: Output, endpoints: Sequence[str], timeout: float, only_client: bool) -> None:
    """Show the versions of this client and of the replicas.

    The cluster version is that of formats and behaviour which all replicas have agreed on; it
    rises once every replica runs a build that knows the next.
    """
    client = metadata.version("agentkeeper")
    replicas = [] if only_client else _replicas(endpoints, min(timeout, PROBE_TIMEOUT_S))
    if show.is_table:
        click.echo(f"agentkeeper {client} (Python {platform.python_version()}, {sys.platform})")
        if replicas:
            show.rows(replicas, COLUMNS)
    else:
        show.data({"client": client, "replicas": replicas})


def _replicas(endpoints: Sequence[str], timeout_s: float) -> list[dict[str, Any]]:
    from agentkeeper.client.status import replica_statuses  # noqa: PLC0415  # imports gRPC

    names = ("version", "cluster_version", "newest_version")
    return [
        {
            "endpoint": endpoint,
            "replica": known.node_id if known else None,
            **{name: getattr(known, name) if known else None for name in names},
        }
        for endpoint, known in replica_statuses(endpoints, timeout_s).items()
    ]
