"""The environment variables of the client commands, and of the commands that they run."""

from __future__ import annotations

from typing import Final

ENDPOINTS: Final = "AGENTKEEPER_ENDPOINTS"
TIMEOUT: Final = "AGENTKEEPER_TIMEOUT"
OUTPUT: Final = "AGENTKEEPER_OUTPUT"

# What a command that is run finds in its environment.
AGENT_ID: Final = "AGENTKEEPER_AGENT_ID"
TASK: Final = "AGENTKEEPER_TASK"
"""The lease's task id, or the id of the claimed task."""
TASK_TYPE: Final = "AGENTKEEPER_TASK_TYPE"
TOKEN: Final = "AGENTKEEPER_TOKEN"
"""The fencing token of the lease or claim."""
GROUP: Final = "AGENTKEEPER_GROUP"
TERM: Final = "AGENTKEEPER_TERM"
"""The leadership's term: a fencing token too."""

OF_CLIENTS: Final = frozenset(
    {"AGENTKEEPER_BIN", ENDPOINTS, TIMEOUT, OUTPUT, AGENT_ID, TASK, TASK_TYPE, TOKEN, GROUP, TERM}
)
"""All of them, and that of the SDK: a daemon passes them over."""
