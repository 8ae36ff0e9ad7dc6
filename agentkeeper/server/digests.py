"""Digests compared: a replica whose state differs from the majority's finds out, and stops.

All replicas make the same state of the same log. One that does not (damaged memory, a build that
behaves otherwise) would give wrong answers for ever, and its snapshots would spread them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from agentkeeper.core import limits
from agentkeeper.server.machine import Applied, Machine
from agentkeeper.server.messages import Digest

log = structlog.get_logger(__name__)


class Digests:
    """What each replica has said of its state, this one included.

    After the first entry at or past each multiple of `limits.DIGEST_EVERY` a replica tells the
    others the digest of its state. Digests at one index are compared, and no others: they say
    nothing about each other. A message that is lost means one comparison less.

    `send` reaches another replica, best effort; `fail` is called, with the reason, when this
    replica's state differs from that of a majority of all replicas.
    """

    def __init__(
        self,
        node_id: str,
        other_ids: Sequence[str],
        machine: Machine,
        send: Callable[[str, Digest], bool],
        fail: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._send = send
        self._fail = fail
        self._node_id = node_id
        self._own: dict[int, str] = {}
        """Digests by log index."""
        self._theirs: dict[str, dict[int, str]] = {other_id: {} for other_id in other_ids}
        self._last_index = 0
        self._latest = Digest(0, "", answers=False)
        self._untold: list[str] = []
        """Replicas that could not be reached with the latest digest so far."""
        self._logged: tuple[int, dict[str, str]] = (0, {})
        self.differences = 0
        """How often replicas were found to differ."""

    def applied(self, applied: Applied) -> None:
        """Tell the others the digest, if it is time to."""
        due = applied.index // limits.DIGEST_EVERY > self._last_index // limits.DIGEST_EVERY
        self._last_index = applied.index
        if not due or not self._theirs:
            return
        self._latest = Digest(applied.index, self._machine.state.digest(), answers=False)
        _keep(self._own, self._latest)
        self._untold = list(self._theirs)
        self.tick()
        self._compare(applied.index)

    def restored(self) -> None:
        """A snapshot has replaced the state: what was said of the former one counts no more."""
        self._last_index = self._machine.applied_index
        self._own.clear()
        self._untold.clear()

    def tick(self) -> None:
        """Tell those whom the latest digest has not reached: a replay is over before any link."""
        if self._untold:
            self._untold = [n for n in self._untold if not self._send(n, self._latest)]

    def told(self, sender_id: str, message: Digest) -> None:
        """Take another replica's digest."""
        theirs, index = self._theirs.get(sender_id), message.log_index
        if theirs is None:
            return
        _keep(theirs, message)
        own = self._own.get(index)
        if own is None:
            return  # not there yet, or long past it
        if own != message.digest and not message.answers:
            # It may have been restarted since it was told, and must learn that it differs.
            self._send(sender_id, Digest(index, own, answers=True))
        self._compare(index)

    def _compare(self, index: int) -> None:
        told = {self._node_id: self._own[index]}
        told |= {node_id: of[index] for node_id, of in self._theirs.items() if index in of}
        digest, count = Counter(told.values()).most_common(1)[0]
        if count == len(told):
            return
        if 2 * count <= 1 + len(self._theirs):
            self._log("replicas differ, and no majority agrees so far", index, told)
        elif self._own[index] == digest:
            odd = {node_id: theirs for node_id, theirs in told.items() if theirs != digest}
            self._log("a replica differs from the majority", index, odd, majority=digest)
        else:
            agreed = ", ".join(sorted(n for n, theirs in told.items() if theirs == digest))
            self._fail(
                f"the state at log index {index} differs from the majority's: its digest is "
                f"{self._own[index]} here and {digest} on {agreed}; remove this replica's data "
                "folder and start it empty, and it gets the state from the others"
            )

    def _log(self, event: str, index: int, digests: dict[str, str], **facts: str) -> None:
        """Once, although each message that comes in leads here again."""
        if self._logged != (index, digests):
            self._logged = (index, digests)
            self.differences += 1
            log.error(event, index=index, digests=digests, **facts)


def _keep(digests: dict[int, str], digest: Digest) -> None:
    digests[digest.log_index] = digest.digest
    while len(digests) > limits.DIGESTS_KEPT:
        del digests[next(iter(digests))]
