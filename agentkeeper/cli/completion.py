"""`agentkeeper completion`: the script that completes commands in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "agentkeeper"
VARIABLE = "_AGENTKEEPER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    bash: eval "$(agentkeeper completion bash)"        in ~/.bashrc
    zsh:  eval "$(agentkeeper completion zsh)"         in ~/.zshrc
    fish: agentkeeper completion fish | source         in ~/.config/fish/config.fish

    Ids are completed too, where AGENTKEEPER_ENDPOINTS leads to a cluster that answers.
    """
    from agentkeeper.cli.main import main  # noqa: PLC0415  # which imports this one

    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(main, {}, PROGRAM, VARIABLE).source())
