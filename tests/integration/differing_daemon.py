"""The daemon, comparing digests often, and as a build that changes one rule if it is told to.

python differing_daemon.py same|differing serve ...
"""

import sys
from typing import Any

from agentkeeper.cli.main import main
from agentkeeper.core import limits, policies

EVERY = 32
FORGOTTEN = "forgotten by a differing build"


def differ() -> None:
    """Do not store policies of a certain id, as a build with a fault might."""
    faultless = policies.set_policy

    def set_policy(state: Any, command: Any) -> Any:
        result = faultless(state, command)
        state.policies.drop(FORGOTTEN)
        return result

    from agentkeeper.core import apply, commands

    apply._HANDLERS[commands.SetPolicy] = set_policy


if __name__ == "__main__":
    limits.DIGEST_EVERY = EVERY  # type: ignore[misc]  # Final; only this process is to differ
    if sys.argv.pop(1) == "differing":
        differ()
    main(prog_name="agentkeeper")
