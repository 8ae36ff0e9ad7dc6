"""The command line: `agentkeeper` serves; its subcommands talk to a cluster through the SDK."""
