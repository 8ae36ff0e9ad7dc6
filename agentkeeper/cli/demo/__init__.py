"""`agentkeeper demo`: the whole story on this machine, with real processes, checked.

`story` plays it, act by act; `actors` are the agents, each a process; `checks` are the verdicts,
pure functions over what actors and events tell; `stage` is what the acts share.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

import click
from rich.console import Console

from agentkeeper.cli.demo.stage import DemoFailed, Stage
from agentkeeper.cli.demo.story import play
from agentkeeper.errors import AgentKeeperError
from agentkeeper.launcher import ChildFailed, LocalCluster


@click.command()
@click.option("--replicas", type=click.IntRange(3, 9), default=3, show_default=True)
def demo(replicas: int) -> None:
    """Play the whole story: agents, tasks, elections, policies, deaths; under a minute.

    Exits with 0 only if everything that is checked on the way holds.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False, soft_wrap=True)
    begin_s = time.monotonic()
    failed = True
    try:
        failed = not _run(console, replicas)
    except (DemoFailed, ChildFailed, TimeoutError, AgentKeeperError) as error:
        console.print(f"The story can't go on: {error}", style="red", markup=False)
    except KeyboardInterrupt:
        console.print("Interrupted.")
    console.print()
    verdict = "[bold red]Something does not hold" if failed else "[bold green]Everything holds"
    console.print(f"{verdict}[/] ({time.monotonic() - begin_s:.0f} s)")
    sys.exit(1 if failed else 0)


def _run(console: Console, replicas: int) -> bool:
    console.print(f"Starting {replicas} replicas as processes on this machine ...")
    with LocalCluster(replicas) as cluster:
        leader = cluster.leader()
        for node in cluster.nodes.values():
            role = "leads" if node is leader else "follows"
            console.print(f"  {node.name}  {node.endpoint}  pid {node.pid}  {role}")
        stage = Stage(console, cluster)
        try:
            play(stage)
        finally:
            stage.close()
        return stage.failed_checks == 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
