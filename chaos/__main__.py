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
from chaos.plants import PLANTS
from chaos.plants.proof import prove, table
from chaos.report import result
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
    "--backend",
    type=click.Choice(list(BACKENDS)),
    help="By default processes, or namespaces where the scenario hurts the network.",
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
        loaded = load(scenario)
        given["backend"] = given["backend"] or loaded.backend
        plan = Plan(loaded, seed=seed, folder=folder, endpoints=listed, **given)
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


@main.command("sum")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def sum_(folders: tuple[Path, ...]) -> None:
    """Put the results of all runs below FOLDERS together, as tables of Markdown."""
    click.echo(result.tables(result.read(folders)))


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(PLANTS)))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the reports.")
def plants(names: tuple[str, ...], out: Path | None) -> None:
    """Run daemons that are wrong on purpose; exit with 0 only if checks catch every one.

    All there are, unless NAMEs are given. Needs what their scenarios need: most of it Linux and
    root.
    """
    folder = out or Path("chaos-runs") / f"plants-{time.strftime('%Y%m%d-%H%M%S')}"
    chosen = [PLANTS[name] for name in names] or list(PLANTS.values())
    proofs = [prove(plant, folder / plant.name, Console()) for plant in chosen]
    click.echo(table(proofs))
    sys.exit(0 if all(proof.caught for proof in proofs) else EXITS[Conclusion.VIOLATED])


if __name__ == "__main__":
    main()
