"""`agentkeeper lock`: a command under a lease."""

from __future__ import annotations

import contextlib
import math
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import AGENT_IDS, LEASES, with_client
from agentkeeper.cli.exits import Code
from agentkeeper.cli.running import grace_option, require_executable, run_while_held

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient, LeaseHandle

LONGEST_WAIT_S = 600.0  # of one call: who waits for longer asks again


@click.command()
@click.argument("task_id", metavar="TASK", shell_complete=LEASES)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to stand in line; 0: not at all.  [default: for ever]",
)
@click.option(
    "--ttl",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="For how long others stay locked out should this process vanish; renewed while it runs.",
)
@click.option(
    "--agent-id",
    shell_complete=AGENT_IDS,
    help="Hold it as this agent, which something else keeps alive.  [default: one of its own]",
)
@grace_option
@with_client
def lock(
    *,
    client: AgentKeeperClient,
    task_id: str,
    command: Sequence[str],
    wait_s: float | None,
    ttl: int,
    agent_id: str | None,
    grace_s: float,
) -> None:
    """Run a command while holding a lease.

    Waits for the lease on TASK, keeps it renewed while COMMAND runs, and returns its exit code.
    COMMAND finds AGENTKEEPER_TASK, AGENTKEEPER_TOKEN and AGENTKEEPER_AGENT_ID in its environment.
    The token is a fencing token: what COMMAND writes elsewhere should carry it along, and refuse a
    lower one. If the lease is lost, COMMAND is stopped, SIGTERM first, and the exit code is 6.
    Exits with 1 if the lease is still held by another when --wait is over.
    """
    require_executable(command)
    description = f"runs {command[0]} on {socket.gethostname()} under {task_id}"
    with _agent(client, agent_id, description, ttl) as holder:
        lease = _acquire(client, task_id, holder, ttl, math.inf if wait_s is None else wait_s)
        if lease is None:
            click.echo(f"{task_id} is held by another", err=True)
            sys.exit(Code.NO)
        environment = {
            variables.TASK: task_id,
            variables.TOKEN: str(lease.token),
            variables.AGENT_ID: holder,
        }
        with _released(lease):
            what = f"the lease on {task_id}"
            code = run_while_held(command, environment, lease.lost, what, grace_s)
    sys.exit(code)


@contextlib.contextmanager
def _agent(
    client: AgentKeeperClient, agent_id: str | None, description: str, ttl: int
) -> Iterator[str]:
    """The id of the agent that holds the lease."""
    if agent_id is not None:
        yield agent_id
        return
    with client.register("lock", description, "", ttl=ttl) as agent:
        yield agent.agent_id


def _acquire(
    client: AgentKeeperClient, task_id: str, agent_id: str, ttl: int, wait_s: float
) -> LeaseHandle | None:
    """Acquire the lease; None if it is held for longer than `wait_s`."""
    end_s = time.monotonic() + wait_s
    wait_s = 0.0
    while True:
        lease = client.acquire_lease(task_id, agent_id, ttl, wait=wait_s, keep_alive=True)
        left_s = end_s - time.monotonic()
        if lease is not None or left_s <= 0:
            return lease
        if wait_s == 0 and sys.stderr.isatty():
            click.echo(f"waiting for {task_id}, which is held by another ...", err=True)
        wait_s = min(left_s, LONGEST_WAIT_S)


@contextlib.contextmanager
def _released(lease: LeaseHandle) -> Iterator[None]:
    """Release the lease in the end, if it is still there to be released."""
    from agentkeeper import AgentKeeperError  # noqa: PLC0415  # imported with the client

    try:
        yield
    finally:
        with contextlib.suppress(AgentKeeperError):  # else it ends with its ttl
            lease.release()
