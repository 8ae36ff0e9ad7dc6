"""`agentkeeper policy load` and `policy test`: policies kept in files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkeeper.cli.connection import with_client
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Output, complain, printable, with_output
from agentkeeper.cli.policy_file import (
    Change,
    changes_between,
    decider,
    read_cases,
    read_policies,
    text_of,
    verdict_of,
)

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient

MARKS = {"add": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--prune", is_flag=True, help="Delete the policies that are not in the file.")
@click.option("--force", is_flag=True, help="With --prune: also by a file without any policy.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@with_client
@with_output
def load(
    *,
    client: AgentKeeperClient,
    show: Output,
    file: Path,
    prune: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Make the cluster's policies those of FILE, YAML or JSON; harmless when repeated.

    A file that has anything wrong in it is refused whole. Should the cluster fail on the way, what
    was applied stays, and is counted: load the file again.

    \b
    policies:
      - {id: read, subject: "reader-*", action: read, resource: "docs/*", effect: ALLOW}
    """
    with _naming(file):
        wanted = read_policies(_text(file))
    changes = changes_between(client.list_policies(), wanted, prune=prune)
    if prune and not wanted and not force:
        raise click.UsageError(f"{file} has no policies: --force deletes all that there are")
    if not dry_run:
        _apply_all(client, changes)
    if not show.is_table:
        done = [{"change": change.kind, "policy": change.policy} for change in changes]
        show.data({"applied": not dry_run, "changes": done})
        return
    for change in changes:
        mark, colour = MARKS[change.kind]
        click.secho(printable(f"{mark} {text_of(change.policy)}"), fg=colour)
    verb = "would change" if dry_run else "changed"
    click.echo(f"{len(changes)} {verb}, {len(wanted)} in the file")


@click.command()
@click.argument("file", type=_FILE)
@click.option(
    "--policies", "policies_file", type=_FILE, help="Test this file's policies; ask no cluster."
)
@with_client
@with_output
def test(client: AgentKeeperClient, show: Output, file: Path, policies_file: Path | None) -> None:
    """Check that the policies decide as FILE expects. Exits with 1 if any does not.

    \b
    tests:
      - {subject: reader-1, action: read, resource: docs/a, expect: ALLOW}
      - {subject: reader-1, action: write, resource: docs/a, expect: DENY, policy: no-writes}
    """
    with _naming(file):
        cases = read_cases(_text(file))
    offline = None
    if policies_file is not None:
        with _naming(policies_file):
            offline = decider(read_policies(_text(policies_file)))
    rows: list[dict[str, Any]] = []
    for case in cases:
        if offline is None:
            answer = client.explain_policy(case.subject, case.action, case.resource)
            allowed, by, reason = answer.allowed, answer.policy_id, answer.reason
        else:
            allowed, by, reason = offline.check(case.subject, case.action, case.resource)
        passed = case.passes(allowed, by)
        decided = {"decided": verdict_of(allowed), "reason": reason, "passed": passed}
        rows.append({**case.fields(), **decided})
    failed = [row for row in rows if not row["passed"]]
    if show.is_table:
        for row in failed:
            asked = f"{row['subject']} {row['action']} {row['resource']}"
            expected = row["expect"] + (f" by {row['policy']}" if row["policy"] else "")
            line = f"FAIL {asked}: expected {expected}, but {row['reason']}"
            click.secho(printable(line), fg="red")
        click.echo(f"{len(rows) - len(failed)} of {len(rows)} hold")
    else:
        show.data({"passed": not failed, "tests": rows})
    sys.exit(Code.NO if failed else Code.DONE)


def _apply_all(client: AgentKeeperClient, changes: Sequence[Change]) -> None:
    for number, change in enumerate(changes):
        try:
            _apply(client, change)
        except BaseException:
            applied = f"{number} of {len(changes)} changes were applied"
            complain(f"{applied}; not, or not surely: {text_of(change.policy)}")
            raise


def _apply(client: AgentKeeperClient, change: Change) -> None:
    policy = change.policy
    if change.kind == "delete":
        client.delete_policy(policy.id)
    else:
        client.set_policy(policy.id, policy.subject, policy.action, policy.resource, policy.effect)


def _text(path: Path) -> str:
    with click.open_file(str(path), encoding="utf-8") as file:
        text: str = file.read()
    return text


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in what is wrong with it."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.UsageError(f"{path}: {error}") from None
