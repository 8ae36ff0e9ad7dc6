"""What stands between a browser and the handlers: headers, names, time, and room.

The pages need no login and show what the cluster coordinates, so no other site may read them
through its visitor's browser: nothing here allows another origin, and since a name of that site's
own may be made to point here ("DNS rebinding"), a page is only given to who asks for it by an
address, by a name of private networks or by the name of a replica.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler

REQUEST_S: Final = 5.0
"""How long an answer may take."""
HEAD_S: Final = 20.0
"""How long a connection may go without having asked for anything."""
CONNECTIONS: Final = 512

PRIVATE_SUFFIXES: Final = (
    ".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".test",
)  # fmt: skip
OPEN_TO_ALL: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines under any name, and told to nobody's browser."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def host_of(text: str) -> str:
    """The host of `host:port`, without the brackets of IPv6."""
    host = text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() else text
    return host.strip("[]").rstrip(".").lower()


def is_private(host: str) -> bool:
    """Whether no site of the open internet can have this name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or f".{host}".endswith(PRIVATE_SUFFIXES) or ".svc." in host
    return True


class Guard:
    """The middleware of all requests. `endpoints` are those of the cluster's replicas."""

    def __init__(self, endpoints: Callable[[], Iterable[str]]) -> None:
        self._endpoints = endpoints
        self._busy: set[asyncio.BaseTransport] = set()
        self._idle_since_s: dict[asyncio.BaseTransport, float] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What every request goes through."""
        transport = request.transport
        if transport is not None:
            self._busy.add(transport)
            self._idle_since_s.pop(transport, None)
        try:
            return await self._answer(request, handler)
        finally:
            if transport is not None:
                self._busy.discard(transport)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = host_of(request.host)
        if request.path not in OPEN_TO_ALL and not self._knows(host):
            return web.Response(
                status=421,
                text="This replica is not known under that name: use its address, or the name in "
                "its --advertise-addr.\n",
                headers=HEADERS,
            )
        try:
            return await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise

    def _knows(self, host: str) -> bool:
        return is_private(host) or any(host == host_of(e) for e in self._endpoints())

    def sweep(self, transports: Iterable[asyncio.BaseTransport], now_s: float) -> None:
        """Cut connections that have not asked for anything for too long.

        `transports` are all that are open. Called now and then, on the event loop.
        """
        idle = {t: self._idle_since_s.get(t, now_s) for t in transports if t not in self._busy}
        self._idle_since_s = idle
        for transport, since_s in idle.items():
            if now_s - since_s > HEAD_S:
                cast(asyncio.Transport, transport).abort()


class Refusal(asyncio.Protocol):
    """A connection that there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Cut it."""
        cast(asyncio.Transport, transport).abort()
