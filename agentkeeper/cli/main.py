"""The `agentkeeper` command."""

from __future__ import annotations

import click

from agentkeeper.cli.cluster import cluster
from agentkeeper.cli.demo import demo
from agentkeeper.cli.serve import serve, serve_options


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentkeeper")
@serve_options
@click.pass_context
def main(context: click.Context, /, **settings: object) -> None:
    """Coordination for AI agents: registry, leases, elections, tasks, policies.

    Without a subcommand, serves: alone and in memory unless told otherwise.
    """
    if context.invoked_subcommand is None:
        context.invoke(serve, **settings)


main.add_command(serve)
main.add_command(cluster)
main.add_command(demo)
