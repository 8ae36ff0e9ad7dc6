"""`agentkeeper lease`: the exclusive right to work on something. `lock` runs commands under one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import AGENT_IDS, LEASES, with_client
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Column, Output, duration, with_output
from agentkeeper.cli.parameters import LIMIT, TOKEN, TTL_S, Seconds

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient

COLUMNS = (
    Column("LEASE", lambda info: info.lease.task_id),
    Column("HOLDER", lambda info: info.lease.holder_agent_id),
    Column("TOKEN", lambda info: info.lease.token, right=True),
    Column("TIME LEFT", lambda info: duration(info.remaining_ms / 1000), right=True),
    Column("IN LINE", lambda info: info.waiting, right=True),
)

holder_option = click.option(
    "--agent-id",
    envvar=variables.AGENT_ID,
    show_envvar=True,
    required=True,
    shell_complete=AGENT_IDS,
    help="Its holder.",
)
token_option = click.option(
    "--token",
    type=TOKEN,
    envvar=variables.TOKEN,
    show_envvar=True,
    required=True,
    help="Fencing token that the lease was granted with.",
)


@click.group()
def lease() -> None:
    """Leases: the exclusive right to work on something."""


@lease.command("list")
@click.argument("prefix", default="", shell_complete=LEASES)
@click.option("--holder", "holder_agent_id", default="", shell_complete=AGENT_IDS, help="Only its.")
@click.option("--limit", type=LIMIT, help="At most this many.  [default: all]")
@with_client
@with_output
def list_leases(
    client: AgentKeeperClient, show: Output, prefix: str, holder_agent_id: str, limit: int | None
) -> None:
    """List held leases whose task id begins with PREFIX, by task id."""
    found = client.list_leases(prefix, holder_agent_id=holder_agent_id, limit=limit)
    show.rows(found, COLUMNS)


@lease.command("get")
@click.argument("task_id", metavar="TASK", shell_complete=LEASES)
@with_client
@with_output
def get(client: AgentKeeperClient, show: Output, task_id: str) -> None:
    """Show who holds a lease, and who waits for it."""
    show.one(client.get_lease(task_id))


@lease.command("acquire")
@click.argument("task_id", metavar="TASK")
@holder_option
@click.option("--ttl", type=TTL_S, default=60, show_default=True, metavar="SECONDS")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    default=0.0,
    metavar="SECONDS",
    help="Stand in line for so long, first come first served.  [default: not at all]",
)
@click.option("--exclusive", is_flag=True, help="Refuse also if the agent itself holds it.")
@with_client
@with_output
def acquire(
    *,
    client: AgentKeeperClient,
    show: Output,
    task_id: str,
    agent_id: str,
    ttl: int,
    wait_s: float,
    exclusive: bool,
) -> None:
    """Acquire a lease for an agent, for a ttl; nothing renews it. Exits with 1 if it is held.

    The holder acquiring again is given a new token; the former one is stale.
    """
    held = client.acquire_lease(task_id, agent_id, ttl, wait=wait_s, exclusive=exclusive)
    if held is not None:
        granted = held.lease
        sentence = f"acquired {task_id} for {granted.ttl_seconds} s with token {granted.token}"
        show.done({"acquired": True, "lease": granted}, sentence)
        return
    sentence = f"{task_id} is held by another: `agentkeeper lease get {task_id}` shows by whom"
    if show.is_table:
        click.echo(sentence, err=True)
    else:
        show.data({"acquired": False, "lease": None})
    sys.exit(Code.NO)


@lease.command("renew")
@click.argument("task_id", metavar="TASK", shell_complete=LEASES)
@holder_option
@token_option
@click.option(
    "--ttl",
    type=TTL_S,
    metavar="SECONDS",
    help="From now.  [default: its last ttl]",
)
@with_client
@with_output
def renew(
    *,
    client: AgentKeeperClient,
    show: Output,
    task_id: str,
    agent_id: str,
    token: int,
    ttl: int | None,
) -> None:
    """Extend a lease."""
    renewed = client.renew_lease(task_id, agent_id, token, ttl)
    show.done(renewed, f"renewed {task_id} for {renewed.ttl_seconds} s")


@lease.command("release")
@click.argument("task_id", metavar="TASK", shell_complete=LEASES)
@holder_option
@token_option
@with_client
@with_output
def release(
    client: AgentKeeperClient, show: Output, task_id: str, agent_id: str, token: int
) -> None:
    """Give a lease back."""
    client.release_lease(task_id, agent_id, token)
    show.done({"task_id": task_id, "released": True}, f"released {task_id}")


@lease.command("verify")
@click.argument("task_id", metavar="TASK", shell_complete=LEASES)
@token_option
@with_client
@with_output
def verify(client: AgentKeeperClient, show: Output, task_id: str, token: int) -> None:
    """Ask whether a token is that of the lease as it is held now. Exits with 1 if it is not.

    Advice, not protection: by the time the answer arrives that may have changed.
    """
    valid = client.verify_token(task_id, token)
    word = "is" if valid else "is not"
    show.done({"valid": valid}, f"{token} {word} the present token of {task_id}")
    sys.exit(Code.DONE if valid else Code.NO)
