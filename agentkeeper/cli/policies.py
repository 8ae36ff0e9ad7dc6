"""`agentkeeper policy`: who may do what on which resource."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from agentkeeper.cli.connection import POLICIES, with_client
from agentkeeper.cli.ending import for_each
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Column, Output, with_output
from agentkeeper.cli.parameters import Word
from agentkeeper.cli.policy_commands import load, test
from agentkeeper.cli.policy_file import decision_of, text_of

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient

COLUMNS = (
    Column("POLICY", lambda policy: policy.id),
    Column("EFFECT", lambda policy: policy.effect),
    Column("SUBJECT", lambda policy: policy.subject),
    Column("ACTION", lambda policy: policy.action),
    Column("RESOURCE", lambda policy: policy.resource),
)


@click.group()
def policy() -> None:
    """Policies: who may do what on which resource.

    `*` in a subject, action or resource stands for anything. DENY overrides ALLOW; what no policy
    matches is denied.
    """


policy.add_command(load)
policy.add_command(test)


@policy.command("set")
@click.argument("policy_id", metavar="ID", shell_complete=POLICIES)
@click.argument("subject")
@click.argument("action")
@click.argument("resource")
@click.argument("effect", type=Word(["ALLOW", "DENY"]))
@with_client
@with_output
def set_policy(
    *,
    client: AgentKeeperClient,
    show: Output,
    policy_id: str,
    subject: str,
    action: str,
    resource: str,
    effect: str,
) -> None:
    """Create the policy ID, or replace it."""
    made = client.set_policy(policy_id, subject, action, resource, effect)
    show.done(made, f"set {text_of(made)}")


@policy.command("list")
@click.argument("subject_prefix", default="", metavar="[SUBJECT PREFIX]")
@with_client
@with_output
def list_policies(client: AgentKeeperClient, show: Output, subject_prefix: str) -> None:
    """List policies by id; with a prefix, those whose subject begins so."""
    show.rows(client.list_policies(subject_prefix), COLUMNS)


@policy.command("get")
@click.argument("policy_id", metavar="ID", shell_complete=POLICIES)
@with_client
@with_output
def get(client: AgentKeeperClient, show: Output, policy_id: str) -> None:
    """Show one policy."""
    found = next((known for known in client.list_policies() if known.id == policy_id), None)
    if found is None:
        click.echo(f"Error: no such policy: {policy_id!r}", err=True)
        click.echo("`agentkeeper policy list` shows those there are.", err=True)
        sys.exit(Code.NOT_FOUND)
    show.one(found)


@policy.command("delete")
@click.argument("policy_ids", metavar="ID...", nargs=-1, required=True, shell_complete=POLICIES)
@with_client
@with_output
def delete(client: AgentKeeperClient, show: Output, policy_ids: Sequence[str]) -> None:
    """Delete policies."""

    def end(policy_id: str) -> str:
        client.delete_policy(policy_id)
        return policy_id

    for_each(
        policy_ids,
        end,
        lambda done: show.done({"deleted": done}, f"deleted: {', '.join(done)}"),
    )


@policy.command("check")
@click.argument("subject")
@click.argument("action")
@click.argument("resource")
@with_client
@with_output
def check(
    client: AgentKeeperClient, show: Output, subject: str, action: str, resource: str
) -> None:
    """Ask whether SUBJECT may do ACTION on RESOURCE. Exits with 1 if not."""
    result = client.check_policy(subject, action, resource)
    show.done(result, f"{decision_of(result.allowed)}: {result.reason}")
    sys.exit(Code.DONE if result.allowed else Code.NO)


@policy.command("explain")
@click.argument("subject")
@click.argument("action")
@click.argument("resource")
@with_client
@with_output
def explain(
    client: AgentKeeperClient, show: Output, subject: str, action: str, resource: str
) -> None:
    """As `check`, with all policies that match. Exits with 1 if denied."""
    answer = client.explain_policy(subject, action, resource)
    show.done(answer, f"{decision_of(answer.allowed)}: {answer.reason}")
    if show.is_table and answer.matching:
        more = answer.matches - len(answer.matching)
        click.echo(f"{answer.matches} match, DENY first{f', {more} not shown' if more else ''}:")
        show.rows(answer.matching, COLUMNS)
    sys.exit(Code.DONE if answer.allowed else Code.NO)
