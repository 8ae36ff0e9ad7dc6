"""The `agentkeeper` command: the list of its subcommands, each imported when it is used."""

from __future__ import annotations

import importlib
import os
from typing import Any, Final, NamedTuple

import click

from agentkeeper.cli.ending import replace_closed_streams, told

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
        "model": Entry("model", "Install, export and see the model that finds agents by meaning."),
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
            self._refuse_options_before(ctx, args)
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def _refuse_options_before(self, ctx: click.Context, args: list[str]) -> None:
        """Say where options go, when those of another command come before its name."""
        serve = self.get_command(ctx, "serve")
        assert serve is not None
        known = {name for parameter in serve.params for name in parameter.opts}
        command = next((word for word in args if word in ENTRIES), None)
        if command is not None and args[0].partition("=")[0] not in known:
            line = f"agentkeeper {command} ... {args[0]}"
            raise click.UsageError(f"options go after the command: {line}", ctx)

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

    def main(self, *args: Any, **keywords: Any) -> Any:
        """Run, and end with an exit code, whatever happens."""
        replace_closed_streams()
        with told():
            return super().main(*args, **keywords)

    def make_context(self, *args: Any, **keywords: Any) -> click.Context:
        """Parse; click itself would end with 1 whatever stops it."""
        with told():
            return super().make_context(*args, **keywords)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; turn interrupts and errors into exit codes."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        with told(traced=ctx.invoked_subcommand == "serve"):
            return super().invoke(ctx)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentkeeper")
def main() -> None:
    """Coordination for AI agents: registry, leases, elections, tasks, policies.

    Without a subcommand, serves: `agentkeeper --addr=...` is `agentkeeper serve --addr=...`.

    Commands other than `serve` find the cluster by --endpoints or AGENTKEEPER_ENDPOINTS, and exit
    with 0 done, 1 refused or no, 2 wrong usage, 3 unavailable, 4 outcome unknown, 5 not found.
    """
