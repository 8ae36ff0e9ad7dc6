"""What the groups of calls of one client have in common."""

from __future__ import annotations

from agentkeeper.client.core import Core
from agentkeeper.client.runner import Runner


class AsyncFace:
    """A client's core, and where that runs."""

    _core: Core
    _runner: Runner
    _timeout: float

    def _limit(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout
