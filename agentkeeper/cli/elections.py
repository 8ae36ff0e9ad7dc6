"""`agentkeeper election`: who leads a group. `elect` runs commands while leading."""

from __future__ import annotations

import sys
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import AGENT_IDS, GROUPS, with_client
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Column, Output, ago, printable, with_output
from agentkeeper.cli.parameters import LIMIT

if TYPE_CHECKING:
    from rich.text import Text

    from agentkeeper import AgentKeeperClient
    from agentkeeper.types import ElectionState

LOOK_S = 1.0  # how often to see whether a watch still goes on
COLUMNS = (
    Column("GROUP", lambda election: election.state.group),
    Column("LEADER", lambda election: election.state.leader_agent_id),
    Column("TERM", lambda election: election.state.term, right=True),
    Column("ELECTED", lambda election: ago(election.state.elected_at)),
    Column("CANDIDATES", lambda election: election.candidates, right=True),
)

candidate_option = click.option(
    "--agent-id",
    envvar=variables.AGENT_ID,
    show_envvar=True,
    required=True,
    shell_complete=AGENT_IDS,
    help="The candidate.",
)


@click.group()
def election() -> None:
    """Elections: who leads a group."""


@election.command("list")
@click.argument("prefix", default="", shell_complete=GROUPS)
@click.option("--limit", type=LIMIT, help="At most this many.  [default: all]")
@with_client
@with_output
def list_elections(client: AgentKeeperClient, show: Output, prefix: str, limit: int | None) -> None:
    """List groups whose name begins with PREFIX, by name."""
    show.rows(client.list_elections(prefix, limit=limit), COLUMNS)


@election.command("get")
@click.argument("group", shell_complete=GROUPS)
@with_client
@with_output
def get(client: AgentKeeperClient, show: Output, group: str) -> None:
    """Show who leads a group, and its candidates in their order."""
    show.one(client.get_election(group))


@election.command("campaign")
@click.argument("group", shell_complete=GROUPS)
@candidate_option
@with_client
@with_output
def campaign(client: AgentKeeperClient, show: Output, group: str, agent_id: str) -> None:
    """Join a group's candidates, and show who leads now. Exits with 1 if another one does.

    The candidate stays one until it resigns or dies, so something must keep the agent alive.
    """
    state = client.campaign(group, agent_id)
    leads = state.leader_agent_id == agent_id
    show.done(state, _sentence(state) + ("" if leads else f"; {agent_id} is a candidate"))
    sys.exit(Code.DONE if leads else Code.NO)


@election.command("resign")
@click.argument("group", shell_complete=GROUPS)
@candidate_option
@with_client
@with_output
def resign(client: AgentKeeperClient, show: Output, group: str, agent_id: str) -> None:
    """Leave a group's candidates; if the agent led, the next one leads."""
    client.resign(group, agent_id)
    show.done({"group": group, "agent_id": agent_id}, f"{agent_id} has resigned from {group}")


@election.command("observe")
@click.argument("group", shell_complete=GROUPS)
@click.option("--once", is_flag=True, help="Leave when somebody leads.")
@with_client
@with_output
def observe(client: AgentKeeperClient, show: Output, group: str, once: bool) -> None:
    """Print who leads a group, now and at every change, until interrupted."""
    changes: SimpleQueue[ElectionState] = SimpleQueue()
    with client.watch_election(group, changes.put, on_gap=lambda gap: None) as watching:
        while watching.active:
            try:
                state = changes.get(timeout=LOOK_S)
            except Empty:
                continue
            show.event(state, partial(_line, state))
            if once and state.leader_agent_id:
                return
    if watching.error is not None:
        raise watching.error


def _line(state: ElectionState) -> Text:
    from rich.text import Text  # noqa: PLC0415  # only for people

    return Text(_sentence(state))


def _sentence(state: ElectionState) -> str:
    leader = state.leader_agent_id or "nobody"
    return printable(f"{leader} leads {state.group} in term {state.term}")
