"""What the links of one replica are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentkeeper.consensus.config import TlsFiles


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Settings of a replica's links. With neither secret nor TLS they are open to everyone."""

    bind_address: str
    """`host:port` to listen on; an IPv6 address is best put in brackets."""
    silence_s: float
    """Time after which a link is given up on which nothing arrives, or nothing can be sent."""
    secret: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
