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
from agentkeeper.cli.output import complain
from agentkeeper.cli.parameters import TTL_S, Seconds
from agentkeeper.cli.running import given_back, grace_option, require_executable, run_while_held

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient, LeaseHandle

LONGEST_WAIT_S = 600.0  # of one call: who waits for longer asks again


@click.command()
@click.argument("task_id", metavar="TASK", shell_complete=LEASES)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    metavar="SECONDS",
    help="How long to stand in line; 0: not at all.  [default: for ever]",
)
@click.option(
    "--ttl",
    type=TTL_S,
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="For how long others stay locked out should this process vanish; renewed while it runs.",
)
@click.option(
    "--agent-id",
    envvar=variables.AGENT_ID,
    show_envvar=True,
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
    What COMMAND leaves running in its process group is stopped too when it ends.
    Exits with 1 if the lease is still held by another when --wait is over.
    """
    require_executable(command)
    description = f"runs {command[0]} on {socket.gethostname()} under {task_id}"
    with _agent(client, agent_id, description, ttl) as holder:
        wait_s = math.inf if wait_s is None else wait_s
        # The holder itself would be granted the lease anew: of two locks by one agent one waits.
        lease = _acquire(client, task_id, holder, ttl, wait_s, exclusive=agent_id is not None)
        if lease is None:
            complain(f"{task_id} is held by another")
            sys.exit(Code.NO)
        environment = {
            variables.TASK: task_id,
            variables.TOKEN: str(lease.token),
            variables.AGENT_ID: holder,
        }
        # An agent of its own gives it back in leaving.
        giving = contextlib.nullcontext() if agent_id is None else given_back(lease.release)
        with giving:
            what = f"the lease on {task_id}"
            sys.exit(run_while_held(command, environment, lease.lost, what, grace_s))


@contextlib.contextmanager
def _agent(
    client: AgentKeeperClient, agent_id: str | None, description: str, ttl: int
) -> Iterator[str]:
    """The id of the agent that holds the lease."""
    if agent_id is not None:
        yield agent_id
        return
    agent = client.register("lock", description, "", ttl=ttl)
    with given_back(agent.deregister):
        yield agent.agent_id


def _acquire(
    client: AgentKeeperClient,
    task_id: str,
    agent_id: str,
    ttl: int,
    wait_s: float,
    *,
    exclusive: bool,
) -> LeaseHandle | None:
    """Acquire the lease; None if it is held for longer than `wait_s`."""
    end_s = time.monotonic() + wait_s
    wait_s = 0.0
    while True:
        lease = client.acquire_lease(
            task_id, agent_id, ttl, wait=wait_s, exclusive=exclusive, keep_alive=True
        )
        left_s = end_s - time.monotonic()
        if lease is not None or left_s <= 0:
            return lease
        if wait_s == 0 and sys.stderr.isatty():
            complain(f"waiting for {task_id}, which is held by another ...")
        wait_s = min(left_s, LONGEST_WAIT_S)
