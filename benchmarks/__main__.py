"""Measures a local cluster of real processes, and prints tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click
from rich.console import Console
from rich.table import Table

from benchmarks import cycles, engine, failover, many_agents, registry, restart, steadiness
from benchmarks.figures import Row

PARTS = ("cycles", "engine", "failover", "registry", "agents", "restart")
ASKED_FOR = ("dashboard", "search", "steadiness")
"""Parts that are left out by default: they need a browser, or a model, or take long."""


@click.command()
@click.option("--replicas", default=3, show_default=True)
@click.option("--seconds", default=1.5, show_default=True, help="Per load, transport and round.")
@click.option("--rounds", default=3, show_default=True, help="Of which medians are given.")
@click.option("--callers", default="1,16,64,256", show_default=True, help="Loads, with commas.")
@click.option("--failovers", default=20, show_default=True)
@click.option("--agents", default=10_000, show_default=True)
@click.option(
    "--sizes", default="1000,10000,100000", show_default=True, help="Numbers of agents, for search."
)
@click.option("--minutes", default=10.0, show_default=True, help="Of full load, for steadiness.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS + ASKED_FOR),
    help=f"Parts; by default all but {', '.join(ASKED_FOR)}.",
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
    sizes: str,
    minutes: float,
    only: tuple[str, ...],
    quick: bool,
) -> None:
    """Print the figures that docs/benchmarks.md explains."""
    if quick:
        seconds, rounds, callers, failovers, agents, minutes = 0.3, 1, "1,64", 2, 500, 0.2
        sizes = "200,1000"
    parts = only or PARTS
    began = time.monotonic()
    console = Console(width=100)
    if "cycles" in parts:
        numbers = [int(number) for number in callers.split(",")]
        for table in cycles.tables(cycles.measure(replicas, seconds, rounds, numbers)):
            console.print(table)
    measures: dict[str, Callable[[], list[Row]]] = {
        "engine": lambda: [
            *engine.measure(rounds, 100 if quick else 1000, seconds),
            *engine.reconcile(1 if quick else rounds),
            *engine.catch_up(10_000 if quick else 1_000_000),
        ],
        "failover": lambda: failover.measure(replicas, failovers) if replicas > 2 else [],
        "registry": lambda: registry.measure(replicas, agents),
        "agents": lambda: many_agents.measure(replicas, agents),
        "restart": lambda: restart.measure(10 * agents, 10 * agents),
        "dashboard": lambda: _dashboard(agents),
        "search": lambda: _search(agents, [int(size) for size in sizes.split(",")]),
        "steadiness": lambda: steadiness.measure(replicas, minutes),
    }
    rows = [row for part, measure in measures.items() if part in parts for row in measure()]
    if rows:
        table = Table("figure", "measured")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{replicas} replicas; measured in {time.monotonic() - began:.0f} s")


def _dashboard(agents: int) -> list[Row]:
    from benchmarks import dashboard  # noqa: PLC0415  # the only part that needs a browser

    return dashboard.measure(agents)


def _search(agents: int, sizes: Sequence[int]) -> list[Row]:
    from benchmarks import search  # noqa: PLC0415  # the only part that needs a model's libraries

    return search.measure(agents, sizes)


if __name__ == "__main__":
    main()
