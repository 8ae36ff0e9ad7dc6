"""`agentkeeper check`: what a cluster can do, measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from agentkeeper.cli.connection import endpoints_option, signals_end, timeout_option
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Output, with_output
from agentkeeper.cli.parameters import Seconds


@click.group()
def check() -> None:
    """Measure what a cluster can do."""


@check.command()
@click.option(
    "--load",
    type=click.Choice(["s", "m", "l"]),
    default="s",
    show_default=True,
    help="s: 100 writes/s; m: 1,000; l: as many as 200 callers get done, at least 3,000.",
)
@click.option(
    "--duration",
    "duration_s",
    type=Seconds(1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
)
@endpoints_option
@timeout_option
@with_output
def perf(
    *, show: Output, endpoints: Sequence[str], timeout: float, load: str, duration_s: float
) -> None:
    """Put a short load on the cluster, and judge what it made of it. Exits with 1 if it fails.

    Each write acquires or releases a lease of an agent of its own; nothing is left behind. It
    passes with at least 90% of the writes asked for, no failed call, and 99% of them within 500
    ms. Run it on an idle cluster, from where its clients run.
    """
    from agentkeeper.cli.perf import LOADS, measure  # noqa: PLC0415  # imports gRPC

    with signals_end():
        result = measure(endpoints, LOADS[load], duration_s, timeout)
    verdict = "PASS" if result.passed else "FAIL"
    if show.is_table:
        show.one(result.fields())
        for problem in result.problems:
            click.secho(f"{problem}", fg="red")
        click.secho(verdict, fg="green" if result.passed else "red", bold=True)
    else:
        show.data({**result.fields(), "problems": result.problems, "passed": result.passed})
    sys.exit(Code.DONE if result.passed else Code.NO)
