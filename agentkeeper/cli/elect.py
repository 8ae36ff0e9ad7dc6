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
from agentkeeper.cli.running import grace_option, require_executable, run_while_held

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
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="After twice that in silence another one leads.",
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
    forever: bool,
    grace_s: float,
) -> None:
    """Run a command while leading a group.

    Stands for election in GROUP, waits for its turn, and returns COMMAND's exit code.
    COMMAND finds AGENTKEEPER_GROUP, AGENTKEEPER_TERM (a fencing token) and AGENTKEEPER_AGENT_ID in
    its environment. If leadership is lost, COMMAND is stopped, SIGTERM first, and the exit code is
    6, or with --forever it campaigns again. When COMMAND ends, it resigns, so that the next leads.
    """
    require_executable(command)
    description = f"runs {command[0]} on {socket.gethostname()} while it leads {group}"
    with client.register(name, description, "", ttl=ttl, reregister=forever) as agent:
        code, lost = _lead_once(client, group, agent, command, grace_s)
        while lost and forever:
            code, lost = _lead_once(client, group, agent, command, grace_s)
    sys.exit(code)


def _lead_once(
    client: AgentKeeperClient,
    group: str,
    agent: AgentHandle,
    command: Sequence[str],
    grace_s: float,
) -> tuple[int, bool]:
    """Lead and run; return the exit code, and whether leadership was lost."""
    from agentkeeper import AgentKeeperError  # noqa: PLC0415  # imported with the client

    leadership = client.lead(group, agent)
    environment = {
        variables.GROUP: group,
        variables.TERM: str(leadership.term),
        variables.AGENT_ID: leadership.agent_id,
    }
    try:
        what = f"the leadership of {group}"
        code = run_while_held(command, environment, leadership.lost, what, grace_s)
    finally:
        with contextlib.suppress(AgentKeeperError):  # it ends with the agent
            leadership.resign()
    return code, leadership.lost.is_set()
