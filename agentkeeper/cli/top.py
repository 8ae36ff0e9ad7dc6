"""`agentkeeper top`: the cluster live, in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from agentkeeper.cli.connection import endpoints_option, signals_end, timeout_option
from agentkeeper.cli.parameters import Seconds


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and leave.")
@click.option(
    "--interval",
    "interval_s",
    type=Seconds(0.2),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
)
@endpoints_option
@timeout_option
def top(*, endpoints: Sequence[str], timeout: float, once: bool, interval_s: float) -> None:
    """Show the cluster live.

    Its replicas, how much there is of everything, the busiest topics, recent events. q leaves.
    With --once, or where the output is no terminal, prints one frame.
    """
    from agentkeeper.cli.top_view import run  # noqa: PLC0415  # imports gRPC

    with signals_end():
        run(endpoints, timeout, interval_s, once=once or not sys.stdout.isatty())
