"""`agentkeeper cluster`: start a local cluster; see and steer how any cluster is doing.

Only the commands' options are here, so that the list of commands needs little.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkeeper.cli.connection import endpoints_option, timeout_option, with_client
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Output, with_output

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient


@click.group()
def cluster() -> None:
    """Start a local cluster; see and steer how a cluster is doing."""


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

    sys.exit(Code.DONE if run(replicas, data_dir) else Code.NO)


@cluster.command()
@endpoints_option
@timeout_option
@with_output
def status(show: Output, endpoints: Sequence[str], timeout: float) -> None:
    """Show each replica's role, term, indexes and lag.

    Replicas that are not among the endpoints are shown as the others last heard of them. Exits
    with 1 if no replica that answers can serve, for want of a leader or a majority.
    """
    from agentkeeper.cli.cluster.report import show_status  # noqa: PLC0415

    sys.exit(Code.DONE if show_status(endpoints, timeout, show) else Code.NO)


@cluster.command()
@endpoints_option
@timeout_option
@with_output
def health(show: Output, endpoints: Sequence[str], timeout: float) -> None:
    """Ask every endpoint for a linearizable read. Exits with 1 if any can't serve it in time."""
    from agentkeeper.cli.cluster.report import show_health  # noqa: PLC0415

    sys.exit(Code.DONE if show_health(endpoints, timeout, show) else Code.NO)


@cluster.command("move-leader")
@click.argument("to", default="", metavar="[NODE ID]")
@with_client
@with_output
def move_leader(client: AgentKeeperClient, show: Output, to: str) -> None:
    """Have another replica lead: NODE ID, or whichever is furthest.

    Before the leader is stopped, this spares the cluster the time that an election takes.
    """
    moved = client.move_leader(to)
    show.done(moved, f"{moved.leader_node_id} leads in term {moved.term}")
