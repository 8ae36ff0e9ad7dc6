"""Rolling upgrades: the leader raises the cluster's version once every replica's build knows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from agentkeeper.consensus.port import Outcome
from agentkeeper.core.codec import ENCODING, pack_batch
from agentkeeper.core.commands import Batch, Command, RaiseVersion
from agentkeeper.core.state import State

log = structlog.get_logger(__name__)


class Upgrade:
    """Proposes the next version, when it is time to, and tells when it has come.

    `state` gives the present state; `leads` says whether this replica leads and takes commands;
    `stamp` gives cluster and wall time; `propose` puts bytes into the log and reports how it ended.
    """

    def __init__(
        self,
        member_ids: Sequence[str],
        *,
        state: Callable[[], State],
        leads: Callable[[], bool],
        stamp: Callable[[], tuple[int, int]],
        propose: Callable[[bytes, Callable[[Outcome], None]], None],
    ) -> None:
        self._member_ids = list(member_ids)
        self._state = state
        self._leads = leads
        self._stamp = stamp
        self._propose = propose
        self._under_way = False
        self._told_version = 1

    def knows(self, node_id: str, version: int) -> bool:
        """Whether a replica has announced that its build knows a version."""
        replica = self._state().replicas.get(node_id)
        return replica is not None and replica.encoding >= version

    def tick(self) -> None:
        """Raise the version by one, if all know the next. Called a few times a second."""
        version = self._state().cluster_version
        if version != self._told_version:
            log.info("cluster version", version=version, newest=ENCODING)
            self._told_version = version
        if version >= ENCODING or self._under_way or not self._leads():
            return
        if all(self.knows(node_id, version + 1) for node_id in self._member_ids):
            self._under_way = True
            command = Command("", "", 0, 0, RaiseVersion(version + 1))
            batch = Batch(*self._stamp(), (command,))
            self._propose(pack_batch(batch, version + 1), self._ended)

    def _ended(self, _: Outcome) -> None:
        # Without a look at how: the next tick sees whether it has taken effect.
        self._under_way = False
