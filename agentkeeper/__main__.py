"""`python -m agentkeeper` is the `agentkeeper` command."""

from agentkeeper.cli.main import main

main(prog_name="agentkeeper")
