"""The `agentkeeper` command: the list of its subcommands, each imported when it is used."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

from agentkeeper.cli.connection import ASKED, ASKING

OF_THE_GROUP: Final = ("-h", "--help", "--version")


class Entry(NamedTuple):
    """Where a subcommand is (the module's attribute of its name), and its line in the list."""

    module: str
    summary: str


SECTIONS: Final = {
    "Run": {
        "serve": Entry("serve", "Run the daemon until SIGTERM."),
        "cluster": Entry("cluster", "Start a local cluster; see and steer how a cluster is doing."),
        "demo": Entry(
            "demo",
            "Play the whole story: agents, tasks, elections, policies, deaths; under a minute.",
        ),
    },
    "Coordinate": {
        "agent": Entry("agents", "Agents: who is there, and who can do what."),
        "lease": Entry("leases", "Leases: the exclusive right to work on something."),
        "lock": Entry("lock", "Run a command while holding a lease."),
        "election": Entry("elections", "Elections: who leads a group."),
        "elect": Entry("elect", "Run a command while leading a group."),
        "task": Entry("tasks", "Tasks: the queue of work."),
        "policy": Entry("policies", "Policies: who may do what on which resource."),
        "watch": Entry("watch", "Print events as they happen."),
    },
    "Operate": {
        "top": Entry("top", "Show the cluster live."),
        "snapshot": Entry("snapshots", "Back up, verify and restore the cluster's state."),
        "check": Entry("check", "Measure what a cluster can do."),
        "version": Entry("version", "Show the versions of this client and of the replicas."),
        "completion": Entry("completion", "Print the script that completes commands in a shell."),
    },
}
ENTRIES: Final = {name: entry for entries in SECTIONS.values() for name, entry in entries.items()}


class _Main(click.Group):
    """Imports subcommands late, runs `serve` when none is named, and explains errors."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `serve` before arguments that begin with an option of its own, or before none."""
        bare = not args or (args[0].startswith("-") and args[0] not in OF_THE_GROUP)
        if bare and not ctx.resilient_parsing:  # which is for completion of what was typed
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands' names."""
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"agentkeeper.cli.{entry.module}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the subcommands by section, without importing them."""
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; turn interrupts and the SDK's errors into exit codes."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            ctx.exit(128 + getattr(interrupt, "number", signal.SIGINT))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from agentkeeper import AgentKeeperError  # noqa: PLC0415  # there by now, if it is one

            if not isinstance(error, AgentKeeperError):
                raise
            ctx.exit(_explain(error, ctx.meta.get(ASKED, ()), ctx.meta.get(ASKING, "")))


def _explain(error: Any, endpoints: Sequence[str], command: str) -> int:
    from agentkeeper.cli.explaining import report  # noqa: PLC0415  # imports gRPC

    code, message, hint = report(error, endpoints, command)
    click.secho(f"Error: {message}", fg="red", err=True)
    if hint:
        click.echo(hint, err=True)
    return int(code)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentkeeper")
def main() -> None:
    """Coordination for AI agents: registry, leases, elections, tasks, policies.

    Without a subcommand, serves: `agentkeeper --addr=...` is `agentkeeper serve --addr=...`.

    Commands other than `serve` find the cluster by --endpoints or AGENTKEEPER_ENDPOINTS, and exit
    with 0 done, 1 refused or no, 2 wrong usage, 3 unavailable, 4 outcome unknown, 5 not found.
    """
