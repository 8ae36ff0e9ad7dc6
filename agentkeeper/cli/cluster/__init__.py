"""`agentkeeper cluster`: start a local cluster, and see how any cluster is doing.

Only the commands' options are here, so that a daemon starts without what they need.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def cluster() -> None:
    """Start a local cluster; see how a cluster is doing."""


@cluster.command()
@click.option("--replicas", type=click.IntRange(1, 9), default=3, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything here and go on from it; without it, nothing is kept.",
)
def up(replicas: int, data_dir: Path | None) -> None:
    """Run a cluster on this machine until Ctrl-C."""
    from agentkeeper.cli.cluster.local import run  # noqa: PLC0415

    sys.exit(0 if run(replicas, data_dir) else 1)


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
    from agentkeeper.cli.cluster.report import show  # noqa: PLC0415

    sys.exit(0 if show(endpoints, output) else 1)
