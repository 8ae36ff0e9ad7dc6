"""Writes docs/reference/cli.md from the commands' own help.

python tools/cli_reference.py           writes the page
python tools/cli_reference.py --check   exits with 1 if it is out of date
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import click

from agentkeeper.cli import exits, variables
from agentkeeper.cli.main import SECTIONS
from agentkeeper.cli.main import main as agentkeeper

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
MADE_BY = "<!-- Made by tools/cli_reference.py from the commands: change those. -->\n"
PROGRAM = "agentkeeper"
COMMON = frozenset({"endpoints", "timeout", "output"})
"""Options that are described once."""
INTRO = """\
`agentkeeper` alone is `agentkeeper serve`. All other commands are clients, of the cluster that
`--endpoints` or the variable AGENTKEEPER_ENDPOINTS names. See [how to use
it](../how-to/command-line.md).

A flag goes before a variable. `-o json` and `-o yaml` print the fields of the SDK's
[types](types.md) under their names, times in ISO 8601 and UTC, bytes as base64 unless `--text` is
given; lists are arrays of objects, and `watch` prints one object a line. What is printed in these
forms stays as it is between versions, but for new fields; tables may change."""
OWN_CODES = """\
`lock`, `elect` and `agent register -- COMMAND` return the exit code of what they run: 128 + n if
signal n ended it, 126 if it can't be run, 127 if there is no such command. A command that is itself
interrupted exits with 128 + the signal's number: 130 after Ctrl-C, 141 when who reads its output
has left. Of several ids each is tried; the exit code is the worst, that is the highest."""


def run() -> int:
    """Write the page, or compare it with what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        print("docs/reference/cli.md is out of date: run python tools/cli_reference.py")
        return 1
    return 0


def page() -> str:
    """Make the page."""
    context = click.Context(agentkeeper, info_name=PROGRAM)
    parts = [
        MADE_BY,
        "# The command line\n",
        INTRO + "\n",
        *_common_options(),
        *_exit_codes(),
        *_variables(),
    ]
    for section, entries in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name in entries:
            command = agentkeeper.get_command(context, name)
            assert command is not None, name
            parts.extend(_describe(command, click.Context(command, context, name)))
    return "\n".join(parts).rstrip() + "\n"


def _common_options() -> Iterator[str]:
    yield "## Options of all client commands\n"
    shown = agentkeeper.get_command(click.Context(agentkeeper), "cluster")
    assert isinstance(shown, click.Group)
    health = shown.commands["health"]
    yield from _table(health.params, click.Context(health))


def _exit_codes() -> Iterator[str]:
    docs = _documented(exits, "Code")
    lines = ["| code | |", "|---|---|"]
    lines += [f"| {code.value} | {docs[code.name]} |" for code in exits.Code]
    yield from ("## Exit codes\n", "\n".join(lines) + "\n", OWN_CODES + "\n")


def _variables() -> Iterator[str]:
    lines = [
        "| variable | |",
        "|---|---|",
        f"| {variables.ENDPOINTS} | `--endpoints` |",
        f"| {variables.TIMEOUT} | `--timeout` |",
        f"| {variables.OUTPUT} | `-o` |",
        f"| {variables.AGENT_ID} | `--agent-id`; set for the commands that are run |",
        f"| {variables.TOKEN} | `--token`, of `task` where AGENTKEEPER_TASK is that task; "
        "set by `lock` and `task work` |",
        f"| {variables.TASK} | set by `lock` and `task work` |",
        f"| {variables.TASK_TYPE} | set by `task work` |",
        f"| {variables.GROUP}, {variables.TERM} | set by `elect` |",
        "| NO_COLOR | no colours, which there are only on a terminal |",
    ]
    yield from ("## Variables\n", "\n".join(lines) + "\n")


def _describe(command: click.Command, context: click.Context) -> Iterator[str]:
    words = context.command_path.removeprefix(f"{PROGRAM} ")
    yield f"### {words}\n"
    if isinstance(command, click.Group):
        yield inspect.cleandoc(command.help or "").replace("\b\n", "") + "\n"
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from _describe(below, click.Context(below, context, name))
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    yield _prose(command.help or "") + "\n"
    options = [option for option in command.params if option.name not in COMMON]
    yield from _table(options, context)


def _table(parameters: Iterable[click.Parameter], context: click.Context) -> Iterator[str]:
    records = [parameter.get_help_record(context) for parameter in parameters]
    rows = [
        "| `{}` | {} |".format(*(part.replace("|", "\\|") for part in record))
        for record in records
        if record is not None and record[1]
    ]
    if rows:
        yield "\n".join(["| option | |", "|---|---|", *rows]) + "\n"


def _prose(text: str) -> str:
    """The help text; what is to be shown as it is goes into a block of code."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        f"```text\n{part.removeprefix(chr(8)).strip(chr(10))}\n```"
        if part.startswith("\b")
        else part
        for part in paragraphs
    )


def _documented(module: ModuleType, class_name: str) -> dict[str, str]:
    """The strings below the members of a class."""
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    found = {}
    for member, text in itertools.pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr):
            assert isinstance(member.targets[0], ast.Name)
            assert isinstance(text.value, ast.Constant)
            found[member.targets[0].id] = " ".join(str(text.value.value).split())
    return found


if __name__ == "__main__":
    sys.exit(run())
