"""What is refused on the links: counted by reason, and logged at a bounded rate."""

from __future__ import annotations

import enum
import logging
import math
from collections import Counter

from agentkeeper.consensus.internals import now_s

logger = logging.getLogger(__name__)

WARN_AGAIN_S = 10.0
"""How long a warning is not repeated; refused peers dial again several times a second."""


class Refusal(enum.StrEnum):
    """Why something was dropped."""

    OVERSIZED = "oversized"
    """A frame longer than allowed."""
    MALFORMED = "malformed"
    """A frame that holds no message, or a message that makes no sense."""
    UNINTRODUCED = "unintroduced"
    """A message of a replica that has not said on this link what it is, or was refused then."""
    OTHER_CLUSTER = "other_cluster"
    """A replica of a cluster that others have founded."""
    FORGED = "forged"
    """A proof or a sealed frame that does not fit the shared secret, or not this place."""
    TLS = "tls"
    """A TLS handshake or record that failed, for example for the peer's certificate."""
    TLS_FILES = "tls_files"
    """This replica's own certificate, key or authority cannot be read."""
    WRONG_NAME = "wrong_name"
    """A certificate that does not name the replica that presented it."""
    WRONG_PROTOCOL = "wrong_protocol"
    WRONG_DIRECTION = "wrong_direction"
    """A replica dialled that should have been dialled."""
    UNKNOWN_PEER = "unknown_peer"
    OWN_ID = "own_id"
    MISDIRECTED = "misdirected"
    """The replica reached is not the one that was meant."""
    TURNED_AWAY = "turned_away"
    """The peer ended a connection that this replica was making."""
    LATE = "late"
    """An introduction that was not over in time."""
    CROWD = "crowd"
    """One of too many connections that had not introduced themselves."""
    REPLACED = "replaced"
    """A link whose peer made a new one."""
    SILENT = "silent"
    """A link on which nothing arrived for too long."""
    STUCK = "stuck"
    """A link whose peer did not read for too long."""
    NO_DESCRIPTOR = "no_descriptor"
    """A connection that could not be accepted, mostly for want of file descriptors."""
    UNREACHABLE = "unreachable"
    """An address that cannot be used to make a connection."""
    UNSENT = "unsent"
    """A message to a peer that is badly behind, or a message that is too large."""


class LinkError(Exception):
    """A link cannot go on. `reason` None means that its peer, or the network, ended it."""

    def __init__(self, reason: Refusal | None, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Refusals:
    """Counts refusals; of each reason one is logged now and then, with the number left out."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._logged_s: dict[Refusal, float] = {}
        self._logged_count: Counter[str] = Counter()

    def note(self, reason: Refusal | None, text: str) -> None:
        """Count one refusal; `text` says what happened, in words. None counts as nothing."""
        if reason is None:
            return
        self.counts[reason.value] += 1
        now = now_s()
        if now - self._logged_s.get(reason, -math.inf) < WARN_AGAIN_S:
            return
        self._logged_s[reason] = now
        left_out = self.counts[reason.value] - self._logged_count[reason.value] - 1
        self._logged_count[reason.value] = self.counts[reason.value]
        more = f" ({left_out} more like this since the last such warning)" if left_out else ""
        logger.warning("%s%s", text, more)
