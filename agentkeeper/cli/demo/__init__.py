"""`agentkeeper demo`: the whole story on this machine, with real processes, checked.

`story` plays it, act by act; `actors` are the agents, each a process; `checks` are the verdicts,
pure functions over what actors and events tell; `stage` is what the acts share, `run` sets it up.
"""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--replicas", type=click.IntRange(3, 9), default=3, show_default=True)
def demo(replicas: int) -> None:
    """Play the whole story: agents, tasks, elections, policies, deaths; under a minute.

    Exits with 0 only if everything that is checked on the way holds.
    """
    from agentkeeper.cli.demo.run import run  # noqa: PLC0415

    sys.exit(0 if run(replicas) else 1)
