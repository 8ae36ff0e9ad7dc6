"""The daemon with a snapshot every 100 log entries instead of thousands: run by tests."""

import functools

from agentkeeper.cli.main import main
from agentkeeper.server import node

node.RaftConfig = functools.partial(node.RaftConfig, snapshot_entries=100)
main()
