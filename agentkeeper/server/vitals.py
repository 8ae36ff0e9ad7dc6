"""Vital signs: every replica tells the others once a second how it is.

So each can show the whole cluster, also what only another one knows (why it isn't ready). Nothing
is decided by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from agentkeeper.server.cluster_view import ClusterView
from agentkeeper.server.messages import Vitals

TELL_EVERY_S: Final = 1.0
FORGET_AFTER_S: Final = 5.0
"""A replica that has not been heard for this long is shown without vitals."""
GREET_EVERY_S: Final = 30.0
"""One that is connected but not heard is told this often: it may run an older build again, which
would log each message, whatever a newer one announced before."""


class Seen(NamedTuple):
    """What a replica said of itself, and how long ago."""

    vitals: Vitals
    age_ms: int


class VitalSigns:
    """What each replica last said of itself, this one included.

    `view` and `applied_index` look at this replica, `now_s` at a monotonic clock. `send` reaches
    another replica, best effort; `understands` tells which of them know the message.
    """

    def __init__(
        self,
        node_id: str,
        other_ids: Sequence[str],
        *,
        build: str,
        view: Callable[[], ClusterView],
        applied_index: Callable[[], int],
        now_s: Callable[[], float],
        send: Callable[[str, Vitals], bool],
        understands: Callable[[str], bool],
    ) -> None:
        self._node_id = node_id
        self._other_ids = list(other_ids)
        self._build = build
        self._view = view
        self._applied_index = applied_index
        self._now_s = now_s
        self._send = send
        self._understands = understands
        self._heard: dict[str, tuple[Vitals, float]] = {}
        self._greeted_s: dict[str, float] = {}
        """When each that is connected was last told."""
        self._tell_at_s = now_s()

    def own(self) -> Vitals:
        """How this replica is now."""
        view = self._view()
        return Vitals(
            role=view.role,
            term=view.term,
            commit_index=view.commit_index,
            applied_index=self._applied_index(),
            not_ready_reason=view.not_ready_reason,
            build=self._build,
        )

    def latest(self) -> dict[str, Seen]:
        """By node id, what each has said within `FORGET_AFTER_S`; this one is told as of now."""
        now_s = self._now_s()
        seen = {
            node_id: Seen(vitals, int(1000 * (now_s - heard_s)))
            for node_id, (vitals, heard_s) in self._heard.items()
            if now_s - heard_s <= FORGET_AFTER_S
        }
        return seen | {self._node_id: Seen(self.own(), 0)}

    def tick(self) -> None:
        """Tell the others, if it is time to. Called a few times a second."""
        now_s = self._now_s()
        connected = {peer.node_id for peer in self._view().peers if peer.connected}
        for node_id in self._other_ids:
            if node_id not in connected:
                # Whatever comes back, it may be another build.
                self._heard.pop(node_id, None)
                self._greeted_s.pop(node_id, None)
        if now_s < self._tell_at_s:
            return
        self._tell_at_s = now_s + TELL_EVERY_S
        told = [n for n in self._other_ids if n in connected and self._is_to_be_told(n, now_s)]
        if told:
            vitals = self.own()
            for node_id in told:
                self._greeted_s[node_id] = now_s
                self._send(node_id, vitals)

    def _is_to_be_told(self, node_id: str, now_s: float) -> bool:
        if not self._understands(node_id):
            return False
        _, heard_s = self._heard.get(node_id, (None, -math.inf))
        greeted_s = self._greeted_s.get(node_id, -math.inf)
        return now_s - heard_s <= FORGET_AFTER_S or now_s - greeted_s >= GREET_EVERY_S

    def told(self, sender_id: str, vitals: Vitals) -> None:
        """Take what another replica says of itself."""
        if sender_id in self._other_ids:
            self._heard[sender_id] = (vitals, self._now_s())
