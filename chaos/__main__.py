"""`python -m chaos`: run scenarios, and see which there are."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from chaos.backends import Unsupported
from chaos.faults import CATALOGUE
from chaos.report.facts import Conclusion
from chaos.run import BACKENDS, Plan, Run
from chaos.scenario import Malformed, load, names

EXITS = {Conclusion.HELD: 0, Conclusion.VIOLATED: 1, Conclusion.VOID: 3}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Hurt a cluster while clients work, and check that every promise held."""


@main.command()
@click.option("--scenario", default="smoke", show_default=True, help="A name, or a file.")
@click.option(
    "--backend", type=click.Choice(list(BACKENDS)), default="processes", show_default=True
)
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(1, 5))
@click.option("--minutes", default=2.0, show_default=True, help="Of faults.")
@click.option("--seed", type=int, help="Of all that is drawn; by default a new one, which is told.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the report and histories.")
@click.option("--keep", is_flag=True, help="Keep histories and data also where everything held.")
@click.option("--project", help="With --backend compose: a project that runs already.")
@click.option("--endpoints", default="", help="With --backend attached: the replicas, with commas.")
@click.option(
    "--actions",
    type=click.Path(path_type=Path, exists=True),
    help="With --backend attached: a file of commands that hurt and heal.",
)
@click.option("--python", default="", help="Run daemons with this; for our tests.")
def run(scenario: str, seed: int | None, out: Path | None, endpoints: str, **given: Any) -> None:
    """Run one scenario; exit with 0 only if everything held.

    1: something did not hold. 2: it can't be run as asked. 3: too few operations to prove anything.
    """
    seed = random.randrange(2**31) if seed is None else seed
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{Path(scenario).stem}-{given['replicas']}-{seed}-{stamp}"
    folder = (out or Path("chaos-runs") / name).resolve()
    listed = tuple(endpoint for endpoint in endpoints.split(",") if endpoint)
    try:
        plan = Plan(load(scenario), seed=seed, folder=folder, endpoints=listed, **given)
        facts = Run(plan, Console()).do()
    except (Malformed, Unsupported) as error:
        raise click.UsageError(str(error)) from None
    sys.exit(EXITS[facts.conclusion])


@main.command("list")
def list_() -> None:
    """Print the scenarios, what they are about and what they need; and the faults there are."""
    for name in names():
        scenario = load(name)
        click.echo(f"{name}\n  {scenario.about}\n  needs: {', '.join(sorted(scenario.needs))}")
    click.echo("\nfaults:")
    for name, kind in CATALOGUE.items():
        needs = ", ".join(sorted(kind.needs)) or "nothing"
        click.echo(f"  {name:<20} {(kind.__doc__ or '').splitlines()[0]} (needs {needs})")


if __name__ == "__main__":
    main()
