"""`agentkeeper elect`: a command that one of many runs at a time."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import GROUPS, with_client
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import complain
from agentkeeper.cli.parameters import TTL_S, Seconds
from agentkeeper.cli.running import given_back, grace_option, require_executable, run_while_held

if TYPE_CHECKING:
    from agentkeeper import AgentHandle, AgentKeeperClient


@click.command()
@click.argument("group", shell_complete=GROUPS)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--name", default="elect", show_default=True, help="Of the agent that stands for election."
)
@click.option(
    "--ttl",
    type=TTL_S,
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="After twice that in silence another one leads.",
)
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(min_open=True),
    metavar="SECONDS",
    help="How long to be a candidate before it leads.  [default: for ever]",
)
@click.option("--forever", is_flag=True, help="Campaign again when leadership is lost.")
@grace_option
@with_client
def elect(
    *,
    client: AgentKeeperClient,
    group: str,
    command: Sequence[str],
    name: str,
    ttl: int,
    wait_s: float | None,
    forever: bool,
    grace_s: float,
) -> None:
    """Run a command while leading a group.

    Stands for election in GROUP, waits for its turn, and returns COMMAND's exit code.
    COMMAND finds AGENTKEEPER_GROUP, AGENTKEEPER_TERM (a fencing token) and AGENTKEEPER_AGENT_ID in
    its environment. If leadership is lost, COMMAND is stopped, SIGTERM first, and the exit code is
    6, or with --forever it campaigns again. When COMMAND ends, what it leaves running in its
    process group is stopped, and it resigns, so that the next leads. Exits with 1 if it does not
    lead when --wait is over.
    """
    require_executable(command)
    description = f"runs {command[0]} on {socket.gethostname()} while it leads {group}"
    agent = client.register(name, description, "", ttl=ttl, reregister=forever)
    with given_back(agent.deregister):
        code, lost = _lead_once(
            client, group, agent, command, wait_s=wait_s, grace_s=grace_s, again=forever
        )
        while lost and forever:
            code, lost = _lead_once(
                client, group, agent, command, wait_s=wait_s, grace_s=grace_s, again=forever
            )
        sys.exit(code)


def _lead_once(
    client: AgentKeeperClient,
    group: str,
    agent: AgentHandle,
    command: Sequence[str],
    *,
    wait_s: float | None,
    grace_s: float,
    again: bool,
) -> tuple[int, bool]:
    """Lead and run; return the exit code, and whether leadership was lost."""
    from agentkeeper.errors import Unavailable  # noqa: PLC0415  # imports gRPC

    try:
        leadership = client.lead(group, agent, timeout=wait_s)
    except Unavailable as error:
        if wait_s is None or error.code().name != "DEADLINE_EXCEEDED":
            raise
        complain(f"{group} is led by another, or by nobody that can be reached")
        sys.exit(Code.NO)
    environment = {
        variables.GROUP: group,
        variables.TERM: str(leadership.term),
        variables.AGENT_ID: leadership.agent_id,
    }
    what = f"the leadership of {group}"
    # Who does not campaign again resigns by leaving.
    with given_back(leadership.resign) if again else contextlib.nullcontext():
        code = run_while_held(command, environment, leadership.lost, what, grace_s)
    return code, leadership.lost.is_set()
