"""`agentkeeper task work`: a worker whose handler is a command."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import ASKED, with_client
from agentkeeper.cli.running import grace_option, guarded, require_executable

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient, TaskHandle

ERROR_BYTES = 500


class CommandFailed(Exception):  # noqa: N818
    """The command ended with another exit code than 0."""


@click.command()
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--name", default="worker", show_default=True, help="Of the agent that claims.")
@click.option("--tool", "tools", multiple=True, help="A tool it has; may be repeated.")
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--ttl",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long the agent may be silent.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="What commands under way have once this is told to stop.",
)
@grace_option
@with_client
def work(
    *,
    client: AgentKeeperClient,
    command: Sequence[str],
    name: str,
    tools: Sequence[str],
    concurrency: int,
    ttl: int,
    drain_timeout: float,
    grace_s: float,
) -> None:
    """Claim tasks and run a command for each, until SIGTERM or Ctrl-C.

    COMMAND is given the task's input on its standard input, and AGENTKEEPER_TASK (its id),
    AGENTKEEPER_TASK_TYPE, AGENTKEEPER_TOKEN and AGENTKEEPER_AGENT_ID in its environment. What it
    prints is the task's output if it exits with 0; otherwise the task has failed, and the end of
    what it wrote to its standard error is the reason. It is stopped if the claim is lost.
    """
    require_executable(command)
    inherited = {**os.environ, variables.ENDPOINTS: ",".join(_asked())}

    def handle(task: TaskHandle) -> bytes:
        environment = {
            **inherited,
            variables.TASK: task.id,
            variables.TASK_TYPE: task.type,
            variables.TOKEN: str(task.token),
            variables.AGENT_ID: agent.agent_id,
        }
        return _run(command, environment, task, grace_s)

    description = f"runs {shlex.join(command)[:200]}"
    with client.register(name, description, "", list(tools), ttl=ttl, reregister=True) as agent:
        click.echo(f"agent {agent.agent_id} works; Ctrl-C stops it", err=True)
        client.worker(agent, handle, concurrency=concurrency, drain_timeout=drain_timeout).run()


def _asked() -> Sequence[str]:
    endpoints: Sequence[str] = click.get_current_context().meta.get(ASKED, ())
    return endpoints


def _run(
    command: Sequence[str], environment: dict[str, str], task: TaskHandle, grace_s: float
) -> bytes:
    """Return what the command prints. Raises CommandFailed."""
    # Its parent must be this thread for as long as it runs, as the kernel's guard follows it.
    process = subprocess.Popen(
        guarded(command),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    ended = threading.Event()

    def stop_when_lost() -> None:
        if task.lost.wait() and not ended.is_set():
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                ended.wait(grace_s)

    threading.Thread(target=stop_when_lost, daemon=True).start()
    output, complaints = process.communicate(task.input)
    ended.set()
    sys.stderr.buffer.write(complaints)
    sys.stderr.flush()
    if process.returncode == 0:
        return output
    how = (
        f"exit code {process.returncode}"
        if process.returncode > 0
        else signal.Signals(-process.returncode).name
    )
    raise CommandFailed(f"{how}: {complaints[-ERROR_BYTES:].decode(errors='replace').strip()}")
