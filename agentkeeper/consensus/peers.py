"""What a leader remembers of each follower."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agentkeeper.consensus.snapshots import Outgoing


@dataclass(slots=True)
class Peer:
    """What a leader keeps about one follower besides the next index."""

    match_index: int = 0
    """Highest index known to be stored there (paper, figure 2); counted for voters only."""
    echoed: int = 0
    """Highest round it has answered."""
    rewound: int = 0
    """Rejections of rounds up to this one are answered already."""
    unacknowledged: deque[tuple[int, int]] = field(default_factory=deque)
    """Last index and size of each append on its way."""
    unacknowledged_bytes: int = 0
    outgoing: Outgoing | None = None
    distrusted: bool = False
    """Whether it has been found to say what cannot be."""
    admission_index: int | None = None
    """Index of the entry that a learner must have stored before it may vote."""
    admit_again_s: float = 0.0

    def forget_unacknowledged(self) -> None:
        """Nothing is on its way any more."""
        self.unacknowledged.clear()
        self.unacknowledged_bytes = 0

    def acknowledge(self, index: int) -> None:
        """All up to `index` has arrived."""
        while self.unacknowledged and self.unacknowledged[0][0] <= index:
            self.unacknowledged_bytes -= self.unacknowledged.popleft()[1]
