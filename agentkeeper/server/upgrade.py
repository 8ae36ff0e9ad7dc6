"""Rolling upgrades: the leader raises the cluster's version once every replica's build knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from agentkeeper.consensus.port import Outcome
from agentkeeper.core.codec import ENCODING, pack_batch
from agentkeeper.core.commands import Batch, Command, RaiseVersion
from agentkeeper.core.state import State
from agentkeeper.server.vitals import Seen

log = structlog.get_logger(__name__)

HEARD_MS: Final = 1_500
"""A replica that has told its vital signs within this time runs the build that it announced."""


class Upgrade:
    """Proposes the next version, when it is time to, and tells when it has come.

    `state` gives the present state; `leads` says whether this replica leads and takes commands;
    `vitals` gives what each replica last said of itself. What it announced does not do: builds of
    version 1 may leave the announcement of a newer one, run on the same folder before, in place.
    `stamp` gives cluster and wall time; `propose` puts bytes into the log and reports how it ended.
    """

    def __init__(
        self,
        member_ids: Sequence[str],
        *,
        state: Callable[[], State],
        leads: Callable[[], bool],
        vitals: Callable[[], Mapping[str, Seen]],
        stamp: Callable[[], tuple[int, int]],
        propose: Callable[[bytes, Callable[[Outcome], None]], None],
    ) -> None:
        self._member_ids = list(member_ids)
        self._state = state
        self._leads = leads
        self._vitals = vitals
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
        if self._all_know(version + 1):
            self._under_way = True
            command = Command("", "", 0, 0, RaiseVersion(version + 1))
            batch = Batch(*self._stamp(), (command,))
            self._propose(pack_batch(batch, version + 1), self._ended)

    def _all_know(self, version: int) -> bool:
        if not all(self.knows(node_id, version) for node_id in self._member_ids):
            return False
        heard = {node_id for node_id, seen in self._vitals().items() if seen.age_ms <= HEARD_MS}
        return heard.issuperset(self._member_ids)

    def _ended(self, _: Outcome) -> None:
        # Without a look at how: the next tick sees whether it has taken effect.
        self._under_way = False
