"""How two replicas introduce themselves, and whom a replica lets in.

The replica with the higher id dials the one with the lower id. The dialer says who it is and whom
it means to reach; the other one answers who it is. A shared secret adds to this, see `channels`.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from agentkeeper.consensus.links.frames import MAX_TEXT_CHARS, decode_introduction, encode
from agentkeeper.consensus.links.refusals import LinkError, Refusal

PROTOCOL = 1
"""Version of what is said on a link; both ends must have the same."""


@dataclass(frozen=True, slots=True)
class Introduced:
    """A peer, known from now on to be the one it says it is."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Party:
    """This replica's end of a connection."""

    own_id: str
    peer_ids: Set[str]
    """Ids of the other replicas of the cluster."""
    target: str | None = None
    """Whom this end dials; None if it was dialled."""
    certified: Set[str] | None = None
    """Names in the certificate that the other end has shown; None if certificates play no part."""

    def hello(self, extra: dict[str, Any]) -> bytes:
        """Give what a dialer says first; `extra` is added to it."""
        return encode({"protocol": PROTOCOL, "from": self.own_id, "to": self.target, **extra})

    def answer(self, extra: dict[str, Any]) -> bytes:
        """Give what the one who was dialled answers; `extra` is added to it."""
        return encode({"from": self.own_id, **extra})

    def check_hello(self, body: bytes) -> tuple[Introduced, dict[str, Any]]:
        """Check what a dialer said, and give it decoded as well; raises `LinkError`."""
        said = decode_introduction(body)
        if said.get("protocol") != PROTOCOL:
            raise LinkError(
                Refusal.WRONG_PROTOCOL,
                f"speaks version {said.get('protocol')!r:.20} of the protocol, not {PROTOCOL}",
            )
        peer = Introduced(text(said, "from"))
        if peer.node_id == self.own_id:
            raise LinkError(Refusal.OWN_ID, f"has this replica's own id {self.own_id}")
        if peer.node_id not in self.peer_ids:
            raise LinkError(Refusal.UNKNOWN_PEER, f"introduced itself as {peer.node_id!r:.80}")
        if peer.node_id < self.own_id:
            raise LinkError(Refusal.WRONG_DIRECTION, f"is {peer.node_id}, which must not dial")
        if text(said, "to") != self.own_id:
            raise LinkError(
                Refusal.MISDIRECTED, f"is {peer.node_id} and asked for {said['to']!r:.80}"
            )
        return self._certified(peer), said

    def check_answer(self, body: bytes) -> tuple[Introduced, dict[str, Any]]:
        """Check what the one who was dialled said; raises `LinkError`."""
        said = decode_introduction(body)
        peer = Introduced(text(said, "from"))
        if peer.node_id != self.target:
            raise LinkError(Refusal.MISDIRECTED, f"turned out to be {peer.node_id!r:.80}")
        return self._certified(peer), said

    def _certified(self, peer: Introduced) -> Introduced:
        if self.certified is not None and peer.node_id not in self.certified:
            raise LinkError(
                Refusal.WRONG_NAME,
                f"says it is {peer.node_id}, but its certificate names "
                f"{', '.join(sorted(self.certified)) or 'nobody'!s:.200}",
            )
        return peer


def text(said: dict[str, Any], key: str) -> str:
    """Give a short text out of what was said; raises `LinkError` if there is none."""
    value = said.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_CHARS:
        raise LinkError(Refusal.MALFORMED, f"gave no proper {key!r} in its introduction")
    return value


def fresh_bytes(said: dict[str, Any], key: str) -> bytes:
    """Give 32 bytes out of what was said; raises `LinkError` if there are none."""
    value = said.get(key)
    if not isinstance(value, bytes) or len(value) != 32:
        raise LinkError(Refusal.MALFORMED, f"gave no proper {key!r} in its introduction")
    return value
