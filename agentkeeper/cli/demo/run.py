"""Runs the demo from the first process to the verdict."""

from __future__ import annotations

import signal
import time
from types import FrameType

from rich.console import Console

from agentkeeper.cli.demo.stage import DemoFailed, Stage
from agentkeeper.cli.demo.story import play
from agentkeeper.errors import AgentKeeperError
from agentkeeper.launcher import ChildFailed, LocalCluster


def run(replicas: int) -> bool:
    """Play the story on a new cluster; returns whether everything that was checked holds."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False, soft_wrap=True)
    begin_s = time.monotonic()
    failed = True
    try:
        failed = not _on_stage(console, replicas)
    except (DemoFailed, ChildFailed, TimeoutError, AgentKeeperError) as error:
        console.print(f"The story can't go on: {error}", style="red", markup=False)
    except KeyboardInterrupt:
        console.print("Interrupted.")
    console.print()
    verdict = "[bold red]Something does not hold" if failed else "[bold green]Everything holds"
    console.print(f"{verdict}[/] ({time.monotonic() - begin_s:.0f} s)")
    return not failed


def _on_stage(console: Console, replicas: int) -> bool:
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
