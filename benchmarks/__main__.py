"""Measures a local cluster of real processes, and prints tables."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table

from benchmarks import cycles, engine, failover, many_agents, registry, restart, steadiness
from benchmarks.figures import Row

PARTS = ("cycles", "engine", "failover", "registry", "agents", "restart")
LONG_PARTS = ("steadiness",)
"""Measured only when asked for."""


@click.command()
@click.option("--replicas", default=3, show_default=True)
@click.option("--seconds", default=1.5, show_default=True, help="Per load, transport and round.")
@click.option("--rounds", default=3, show_default=True, help="Of which medians are given.")
@click.option("--callers", default="1,16,64,256", show_default=True, help="Loads, with commas.")
@click.option("--failovers", default=20, show_default=True)
@click.option("--agents", default=10_000, show_default=True)
@click.option("--minutes", default=10.0, show_default=True, help="Of full load, for steadiness.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS + LONG_PARTS),
    help="Parts; by default all but steadiness, which takes long.",
)
@click.option("--quick", is_flag=True, help="Small numbers all over: shows that it works.")
def main(
    *,
    replicas: int,
    seconds: float,
    rounds: int,
    callers: str,
    failovers: int,
    agents: int,
    minutes: float,
    only: tuple[str, ...],
    quick: bool,
) -> None:
    """Print the figures that docs/benchmarks.md explains."""
    if quick:
        seconds, rounds, callers, failovers, agents, minutes = 0.3, 1, "1,64", 2, 500, 0.2
    parts = only or PARTS
    began = time.monotonic()
    console = Console(width=100)
    if "cycles" in parts:
        numbers = [int(number) for number in callers.split(",")]
        for table in cycles.tables(cycles.measure(replicas, seconds, rounds, numbers)):
            console.print(table)
    rows: list[Row] = []
    if "engine" in parts:
        rows += engine.measure(rounds, 100 if quick else 1000, seconds)
        rows += engine.reconcile(1 if quick else rounds)
        rows += engine.catch_up(10_000 if quick else 1_000_000)
    if "failover" in parts and replicas > 2:
        rows += failover.measure(replicas, failovers)
    if "registry" in parts:
        rows += registry.measure(replicas, agents)
    if "agents" in parts:
        rows += many_agents.measure(replicas, agents)
    if "restart" in parts:
        rows += restart.measure(10 * agents, 10 * agents)
    if "steadiness" in parts:
        rows += steadiness.measure(replicas, minutes)
    if rows:
        table = Table("figure", "measured")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{replicas} replicas; measured in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
