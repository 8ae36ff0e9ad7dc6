"""`agentkeeper task work`: a worker whose handler is a command."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import ASKED, with_client
from agentkeeper.cli.output import complain
from agentkeeper.cli.parameters import TTL_S, Seconds
from agentkeeper.cli.running import grace_option, guarded, require_executable, stop_group
from agentkeeper.core import limits

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient, LossSignal, TaskHandle

ERROR_BYTES = 500


class CommandFailed(Exception):  # noqa: N818
    """The command ended with another exit code than 0."""


@click.command()
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--name", default="worker", show_default=True, help="Of the agent that claims.")
@click.option("--tool", "tools", multiple=True, help="A tool it has; may be repeated.")
@click.option(
    "--concurrency", type=click.IntRange(1, limits.CLAIMS_EACH), default=1, show_default=True
)
@click.option(
    "--ttl",
    type=TTL_S,
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long the agent may be silent.",
)
@click.option(
    "--drain-timeout",
    type=Seconds(),
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
    what it wrote to its standard error is the reason. It is stopped if the claim is lost. What it
    leaves running in its process group is stopped too when it ends.
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
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as complaints,
    ):
        given.write(task.input)
        given.seek(0)
        code = _run_to_end(command, environment, (given, output, complaints), task.lost, grace_s)
        complained = _read(complaints)
        sys.stderr.buffer.write(complained)
        sys.stderr.flush()
        if code == 0:
            return _whole(output)
    how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
    # From the beginning of a character on.
    end = complained[-ERROR_BYTES:].lstrip(bytes(range(0x80, 0xC0)))
    raise CommandFailed(f"{how}: {end.decode(errors='replace').strip()}")


def _run_to_end(
    command: Sequence[str],
    environment: dict[str, str],
    streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
    lost: LossSignal,
    grace_s: float,
) -> int:
    """Return the exit code, -n if signal n ended it. What it has started ends with it.

    The streams are files: a pipe would be open for as long as anybody has its other end.
    """
    stdin, stdout, stderr = streams
    # Its parent must be this thread for as long as it runs, as the kernel's guard follows it.
    process = subprocess.Popen(
        guarded(command),
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
    )
    ended = threading.Event()

    def stop_when_lost() -> None:
        if lost.wait() and not ended.is_set():
            stop_group(process.pid, grace_s)

    threading.Thread(target=stop_when_lost, daemon=True).start()
    code = process.wait()
    ended.set()
    stop_group(process.pid, grace_s)
    return code


def _whole(output: IO[bytes]) -> bytes:
    """Return what the cluster takes as a task's output. Raises CommandFailed."""
    data = _read(output)
    if len(data) > limits.BLOB_BYTES:
        why = f"the output has {len(data)} bytes, more than {limits.BLOB_BYTES}"
        complain(why)
        raise CommandFailed(why)
    return data


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
