"""`agentkeeper task`: the queue of work."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import AGENT_IDS, TASKS, with_client
from agentkeeper.cli.ending import for_each
from agentkeeper.cli.output import Column, Output, ago, with_output
from agentkeeper.cli.parameters import DATA, LIMIT, TOKEN, TTL_S, Seconds, Word
from agentkeeper.cli.work import work
from agentkeeper.core import limits

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient
    from agentkeeper.types import Task

ANSWER_S = 0.5
"""What the answer that there is no task may take, beyond the wait."""
STATUSES = ("PENDING", "CLAIMED", "COMPLETED", "DEAD")

COLUMNS = (
    Column("TASK", lambda task: task.id),
    Column("TYPE", lambda task: task.type),
    Column("STATE", lambda task: task.status),
    Column("PRIORITY", lambda task: task.priority, right=True),
    Column("RETRIES", lambda task: f"{task.retry_count} of {task.max_retries}", right=True),
    Column("CREATED", lambda task: ago(task.created_at)),
    Column("CLAIMED BY", lambda task: task.claimed_by_agent_id),
    Column("REASON", lambda task: task.failure_reason),
)

text_option = click.option(
    "--text", is_flag=True, help="Input and output as text in JSON and YAML, not as base64."
)
claimant_option = click.option(
    "--agent-id",
    envvar=variables.AGENT_ID,
    show_envvar=True,
    required=True,
    shell_complete=AGENT_IDS,
    help="Whose claim it is.",
)
token_option = click.option(
    "--token",
    type=TOKEN,
    help="That of the claim.  [default: AGENTKEEPER_TOKEN where AGENTKEEPER_TASK is this task, or "
    "the agent's present claim, whichever it is]",
)


@click.group()
def task() -> None:
    """Tasks: the queue of work."""


task.add_command(work)


@task.command("create")
@click.argument("type_", metavar="TYPE")
@click.argument("input_", metavar="[INPUT]", type=DATA, default=b"")
@click.option("--tool", "tools", multiple=True, help="That a claimant must have; may be repeated.")
@click.option(
    "--max-retries", type=click.IntRange(0, limits.RETRIES_MAX), default=0, show_default=True
)
@click.option(
    "--ttl",
    type=TTL_S,
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long a claim lasts unless extended.",
)
@click.option(
    "--priority",
    type=click.IntRange(-limits.PRIORITY_MAX, limits.PRIORITY_MAX),
    default=0,
    show_default=True,
    help="Higher is claimed first.",
)
@click.option("--idempotency-key", default="", help="Repeated under it, shows the task there is.")
@text_option
@with_client
@with_output
def create(
    *,
    client: AgentKeeperClient,
    show: Output,
    type_: str,
    input_: bytes,
    tools: Sequence[str],
    max_retries: int,
    ttl: int,
    priority: int,
    idempotency_key: str,
) -> None:
    """Put a task into the queue. INPUT is text, @FILE, or - for the standard input."""
    made = client.create_task(
        type_,
        input_,
        list(tools),
        max_retries,
        ttl,
        priority=priority,
        idempotency_key=idempotency_key,
    )
    show.done(made, made.id)


@task.command("list")
@click.option("--status", type=Word(STATUSES))
@click.option("--type", "type_", default="", help="Of this type only.")
@click.option("--claimed-by", default="", shell_complete=AGENT_IDS, help="By this agent only.")
@click.option("--limit", type=LIMIT, help="At most this many.  [default: all]")
@text_option
@with_client
@with_output
def list_tasks(
    *,
    client: AgentKeeperClient,
    show: Output,
    status: str | None,
    type_: str,
    claimed_by: str,
    limit: int | None,
) -> None:
    """List tasks by age."""
    found = client.list_tasks(status, type=type_, claimed_by=claimed_by, limit=limit)
    show.rows(found, COLUMNS)


@task.command("get")
@click.argument("task_id", metavar="TASK", shell_complete=TASKS)
@click.option("--raw", type=click.Choice(["input", "output"]), help="Write only this, as it is.")
@text_option
@with_client
@with_output
def get(client: AgentKeeperClient, show: Output, task_id: str, raw: str | None) -> None:
    """Show one task."""
    found = client.get_task(task_id)
    if raw is None:
        show.one(found)
    else:
        sys.stdout.buffer.write(found.input if raw == "input" else found.output)


@task.command("claim")
@claimant_option
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for one.",
)
@click.option("--forever", is_flag=True, help="Wait until there is one.")
@text_option
@with_client
@with_output
def claim(
    client: AgentKeeperClient, show: Output, agent_id: str, wait_s: float, forever: bool
) -> None:
    """Claim the task that is next for an agent, for the task's ttl. Exits with 1 if there is none.

    Answer it with `task complete` or `task fail` and its claim_token as --token.
    """
    limit_s = math.inf if forever else wait_s + max(ANSWER_S, wait_s / 4)
    show.one(client.claim_task(agent_id, timeout=limit_s))


@task.command("complete")
@click.argument("task_id", metavar="TASK", shell_complete=TASKS)
@click.argument("output_", metavar="[OUTPUT]", type=DATA, default=b"")
@claimant_option
@token_option
@with_client
@with_output
def complete(
    *,
    client: AgentKeeperClient,
    show: Output,
    task_id: str,
    output_: bytes,
    agent_id: str,
    token: int | None,
) -> None:
    """Complete a claimed task. OUTPUT is text, @FILE, or - for the standard input."""
    client.complete_task(task_id, agent_id, output_, claim_token=_token_of(task_id, token))
    show.done({"task_id": task_id}, f"completed {task_id}")


@task.command("fail")
@click.argument("task_id", metavar="TASK", shell_complete=TASKS)
@click.argument("reason", default="")
@claimant_option
@token_option
@with_client
@with_output
def fail(
    *,
    client: AgentKeeperClient,
    show: Output,
    task_id: str,
    reason: str,
    agent_id: str,
    token: int | None,
) -> None:
    """Report that a claimed task failed: it is PENDING again, or DEAD once out of retries."""
    client.fail_task(task_id, agent_id, reason, claim_token=_token_of(task_id, token))
    _show_state(client.get_task(task_id), show)


@task.command("extend")
@click.argument("task_id", metavar="TASK", shell_complete=TASKS)
@claimant_option
@token_option
@click.option(
    "--ttl",
    type=TTL_S,
    metavar="SECONDS",
    help="From now.  [default: the task's ttl]",
)
@with_client
@with_output
def extend(
    *,
    client: AgentKeeperClient,
    show: Output,
    task_id: str,
    agent_id: str,
    token: int | None,
    ttl: int | None,
) -> None:
    """Make a claim last longer."""
    _show_state(
        client.extend_task(task_id, agent_id, ttl, claim_token=_token_of(task_id, token)), show
    )


@task.command("requeue")
@click.argument("task_ids", metavar="TASK...", nargs=-1, shell_complete=TASKS)
@click.option("--all-dead", is_flag=True, help="All that are DEAD.")
@click.option("--type", "type_", default="", help="With --all-dead: of this type only.")
@with_client
@with_output
def requeue(
    client: AgentKeeperClient, show: Output, task_ids: Sequence[str], all_dead: bool, type_: str
) -> None:
    """Make DEAD tasks PENDING again, their counts at zero."""
    if all_dead == bool(task_ids):
        raise click.UsageError("name tasks, or give --all-dead")
    if all_dead:
        task_ids = [dead.id for dead in client.list_tasks("DEAD", type=type_)]
    for_each(task_ids, client.requeue_task, lambda requeued: show.rows(requeued, COLUMNS))


def _token_of(task_id: str, token: int | None) -> int | None:
    """The token given, or that in the environment, which may be another task's or a lease's."""
    inherited = os.environ.get(variables.TOKEN)
    if token is None and inherited and os.environ.get(variables.TASK) == task_id:
        token = click.types.convert_type(TOKEN)(inherited)
    return token


def _show_state(task: Task, show: Output) -> None:
    show.done(task, f"{task.id} is {task.status.value}")
