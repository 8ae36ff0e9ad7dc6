"""The `agentkeeper` command."""

from __future__ import annotations

import click

from agentkeeper.cli.cluster import cluster
from agentkeeper.cli.demo import demo
from agentkeeper.cli.serve import serve

OF_THE_GROUP = ("-h", "--help", "--version")


class _ServesByDefault(click.Group):
    """Runs `serve` when no subcommand is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `serve` before arguments that begin with an option of its own, or before none."""
        if not args or (args[0].startswith("-") and args[0] not in OF_THE_GROUP):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ServesByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentkeeper")
def main() -> None:
    """Coordination for AI agents: registry, leases, elections, tasks, policies.

    Without a subcommand, serves: `agentkeeper --addr=...` is `agentkeeper serve --addr=...`.
    """


main.add_command(serve)
main.add_command(cluster)
main.add_command(demo)
