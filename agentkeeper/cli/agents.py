"""`agentkeeper agent`: who is there, and who can do what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import AGENT_IDS, with_client
from agentkeeper.cli.ending import for_each
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Column, Output, ago, complain, with_output
from agentkeeper.cli.parameters import LIMIT, TTL_S, Word
from agentkeeper.cli.running import grace_option, require_executable, run_while_held
from agentkeeper.core import limits
from agentkeeper.types import FindMode

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient
    from agentkeeper.types import FoundAgents

STATUSES = ("ALIVE", "UNREACHABLE", "DEAD")
CONFLICTS = ("coexist", "replace", "reject")

COLUMNS = (
    Column("AGENT ID", lambda agent: agent.agent_id),
    Column("NAME", lambda agent: agent.card.name),
    Column("STATE", lambda agent: agent.status),
    Column("HEARTBEAT", lambda agent: ago(agent.last_heartbeat_at)),
    Column("TTL", lambda agent: f"{agent.ttl_seconds} s", right=True),
    Column("TOOLS", lambda agent: agent.card.tools),
    Column("VERSION", lambda agent: agent.card.version),
)
SCORE = Column("SCORE", lambda agent: f"{agent.score:.2f}", right=True)

FOUND = {
    FindMode.UNRANKED: "In order of registration: there was no query.",
    FindMode.LEXICAL: "Ranked by words: the replica has no model, or it did not answer in time.",
    FindMode.SEMANTIC: "Ranked by meaning.",
}
"""The dashboard says it in the same words (server/http/static/sections.js)."""


@click.group()
def agent() -> None:
    """Agents: who is there, and who can do what."""


@agent.command("list")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=Word(STATUSES),
    help="Of these only; may be repeated.  [default: ALIVE and UNREACHABLE]",
)
@click.option("--all", "everyone", is_flag=True, help="DEAD ones too, while they are remembered.")
@click.option("--name", "name_prefix", default="", metavar="PREFIX", help="Names that begin so.")
@click.option("--tool", "tools", multiple=True, help="Having this tool; may be repeated.")
@click.option("--limit", type=LIMIT, help="At most this many.  [default: all]")
@with_client
@with_output
def list_agents(
    *,
    client: AgentKeeperClient,
    show: Output,
    statuses: Sequence[str],
    everyone: bool,
    name_prefix: str,
    tools: Sequence[str],
    limit: int | None,
) -> None:
    """List agents in order of registration."""
    wanted = STATUSES if everyone else statuses
    found = client.list_agents(
        statuses=wanted or None, name_prefix=name_prefix, tools=tools or None, limit=limit
    )
    show.rows(found, COLUMNS)


@agent.command("get")
@click.argument("agent_id", shell_complete=AGENT_IDS)
@with_client
@with_output
def get(client: AgentKeeperClient, show: Output, agent_id: str) -> None:
    """Show one agent."""
    show.one(client.get_agent(agent_id))


@agent.command("find")
@click.argument("query", nargs=-1)
@click.option("--tool", "tools", multiple=True, help="Having this tool; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(1, limits.FIND_LIMIT_MAX), default=10, show_default=True
)
@with_client
@with_output
def find(
    client: AgentKeeperClient, show: Output, query: Sequence[str], tools: Sequence[str], limit: int
) -> None:
    """Find ALIVE agents by what they say they can do, best first.

    QUERY says in plain words what the agent is to do, or names it. It ranks and never filters;
    --tool filters. How they were ranked is told beside the output. Exits with 1 if there is none.
    """
    found = client.find(" ".join(query), list(tools) or None, limit)
    scored = found.mode in {FindMode.LEXICAL, FindMode.SEMANTIC}
    show.rows(found, (*COLUMNS[:2], SCORE, *COLUMNS[2:]) if scored else COLUMNS)
    if not found:
        sys.exit(Code.NO)
    if how := how_found(found):
        complain(how)


@agent.command("register")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--description", default="", help="What it does, in words: found by `agent find`.")
@click.option("--agent-version", default="", help="Its own version.")
@click.option("--tool", "tools", multiple=True, help="A tool it has; may be repeated.")
@click.option("--meta", "pairs", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--ttl", type=TTL_S, default=30, show_default=True, metavar="SECONDS")
@click.option(
    "--on-name-conflict", type=click.Choice(CONFLICTS), default="coexist", show_default=True
)
@click.option(
    "--keep-alive", is_flag=True, help="Stay and send heartbeats; deregister when interrupted."
)
@grace_option
@with_client
@with_output
def register(
    *,
    client: AgentKeeperClient,
    show: Output,
    name: str,
    command: Sequence[str],
    description: str,
    agent_version: str,
    tools: Sequence[str],
    pairs: Sequence[str],
    ttl: int,
    on_name_conflict: Any,
    keep_alive: bool,
    grace_s: float,
) -> None:
    """Register an agent.

    By itself it prints the id and leaves; nothing keeps the agent alive then. With --keep-alive it
    stays until interrupted. With a COMMAND it runs that as the agent, whose id is in
    AGENTKEEPER_AGENT_ID, and returns its exit code; the agent is deregistered when it ends, and
    COMMAND is stopped (exit code 6) if the agent is lost.
    """
    metadata = _metadata(pairs)
    if command:
        require_executable(command)
    handle = client.register(
        name,
        description,
        agent_version,
        tools=list(tools),
        metadata=metadata,
        ttl=ttl,
        on_name_conflict=on_name_conflict,
    )
    if command:
        with handle:
            environment = {variables.AGENT_ID: handle.agent_id}
            sys.exit(run_while_held(command, environment, handle.lost, "the agent", grace_s))
    show.done({"agent_id": handle.agent_id}, handle.agent_id)
    if keep_alive:
        sys.stdout.flush()
        with handle:
            handle.lost.wait()
            click.echo(f"The agent was lost: {handle.lost.reason}.", err=True)
        sys.exit(Code.LOST)


@agent.command("heartbeat")
@click.argument("agent_ids", nargs=-1, required=True, shell_complete=AGENT_IDS)
@with_client
@with_output
def heartbeat(client: AgentKeeperClient, show: Output, agent_ids: Sequence[str]) -> None:
    """Keep agents ALIVE for another ttl from now, each by its own."""

    def beat(agent_id: str) -> str:
        client.heartbeat(agent_id)
        return agent_id

    for_each(agent_ids, beat, lambda done: _show_ids(show, "alive", done))


@agent.command("deregister")
@click.argument("agent_ids", nargs=-1, required=True, shell_complete=AGENT_IDS)
@with_client
@with_output
def deregister(client: AgentKeeperClient, show: Output, agent_ids: Sequence[str]) -> None:
    """End agents: their leases are released, their tasks requeued, they leave their elections."""

    def end(agent_id: str) -> str:
        client.deregister(agent_id)
        return agent_id

    for_each(agent_ids, end, lambda done: _show_ids(show, "deregistered", done))


def how_found(found: FoundAgents) -> str:
    """Say how agents were found, and how many of them could not be by meaning yet."""
    how = FOUND.get(found.mode, "")
    if not found.pending or found.mode is FindMode.UNRANKED:
        return how
    if found.pending == 1:
        return f"{how} 1 agent still waits for its vector, and is ranked by its words."
    waiting = f"{found.pending:,} agents still wait for their vectors"
    return f"{how} {waiting}, and are ranked by their words."


def _show_ids(show: Output, what: str, agent_ids: Sequence[str]) -> None:
    show.done({"agent_ids": agent_ids}, f"{what}: {', '.join(agent_ids)}")


def _metadata(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for key, equals, _ in split:
        if not key or not equals:
            raise click.BadParameter("must be KEY=VALUE", param_hint="--meta")
    return {key: value for key, _, value in split}
