"""Exit codes. docs/reference/cli.md has them in a table."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """How a command ends. Scripts may rely on these; commands that run another return its own."""

    DONE = 0
    """Done, or the answer is yes."""
    NO = 1
    """Refused, or the answer is no: held by another, denied, not valid, not healthy."""
    USAGE = 2
    """The command line or a value in it is wrong; nothing was done."""
    UNAVAILABLE = 3
    """No replica could serve the call in time; nothing was done."""
    UNKNOWN = 4
    """The answer was lost: the call may or may not have taken effect."""
    NOT_FOUND = 5
    """No such agent, lease, election, policy or task, or it has ended."""
    LOST = 6
    """What a command was run under (lease, leadership, agent) was lost, and it was stopped."""
    FAILED = 70
    """The command itself failed: it can't write its output, or has met what it did not expect."""
