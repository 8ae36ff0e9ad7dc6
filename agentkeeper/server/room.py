"""How much may wait for the next batch of the log before no more calls begin.

Whoever waits does so better where calls have turns: what waits for a batch leaves in the order in
which it came, and its answers all come at once. So there waits no more than is taken in good time.
"""

from __future__ import annotations

import math
from typing import Final

from agentkeeper.core import limits

GOOD_S: Final = 0.05
"""A full batch that is taken so long after the one before is too large for this replica."""
LEAST_COMMANDS: Final = 16
"""May wait all the same."""
MORE_COMMANDS: Final = 16
"""May wait for the next batch, after one that was taken sooner."""
STALLED_S: Final = 0.25
"""No batch was taken for so long: that is not for there being too many."""


class Room:
    """Told of every batch that is taken, with times on one clock, in seconds."""

    def __init__(self) -> None:
        self._taken_s = -math.inf
        self.commands = limits.BATCH_COMMANDS
        """That may wait for the next batch."""

    def full(self, waiting: int, now_s: float) -> bool:
        """Whether no more than these should wait; never while batches are not taken at all."""
        return waiting >= self.commands and now_s < self._taken_s + STALLED_S

    def taken(self, count: int, now_s: float) -> None:
        """So many commands went into a batch."""
        took_s, self._taken_s = now_s - self._taken_s, now_s
        if took_s <= GOOD_S:
            self.commands = min(limits.BATCH_COMMANDS, self.commands + MORE_COMMANDS)
        elif count >= self.commands:  # a smaller one may have been waited for
            fewer = int(self.commands * max(0.5, GOOD_S / took_s))
            self.commands = min(self.commands, max(LEAST_COMMANDS, fewer))
