"""What stands between a browser and the handlers: headers, names, time, and room.

The pages need no login and show what the cluster coordinates, so no other site may read them
through its visitor's browser: nothing here allows another origin, and since a name of that site's
own may be made to point here ("DNS rebinding"), a page is only given to who asks for it by an
address, by a name of private networks, by the name of a replica or by one of `--http-names`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Iterable
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler

REQUEST_S: Final = 5.0
"""How long an answer may take."""
FIRST_S: Final = 5.0
"""How long a new connection may take until it has asked for something."""
HEAD_S: Final = 20.0
"""How long it may then take until it asks again."""
CONNECTIONS: Final = 512
"""With one more, the one that has been idle for the longest is cut."""

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
        return "." not in host or f".{host}".endswith(PRIVATE_SUFFIXES)
    return True


class Guard:
    """The middleware of all requests, and the watch over connections.

    `endpoints` are those of the cluster's replicas, `names` others under which it may be asked.
    """

    def __init__(self, endpoints: Callable[[], Iterable[str]], names: Collection[str] = ()) -> None:
        self._endpoints = endpoints
        self._names = names
        self._busy: set[asyncio.BaseTransport] = set()
        self._silent_since_s: dict[asyncio.BaseTransport, float] = {}
        self._idle_since_s: dict[asyncio.BaseTransport, float] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What every request goes through."""
        transport = request.transport
        if transport is not None:
            self._busy.add(transport)
            self._silent_since_s.pop(transport, None)
            self._idle_since_s.pop(transport, None)
        try:
            return await self._answer(request, handler)
        finally:
            if transport is not None:
                self._busy.discard(transport)
                self._idle_since_s[transport] = asyncio.get_running_loop().time()

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = host_of(request.host)
        if request.path not in OPEN_TO_ALL and not self._knows(host):
            return _refused(
                request,
                421,
                "This replica is not known under that name: use its address, the name in its "
                "--advertise-addr, or give it the name with --http-names.",
            )
        try:
            return await handler(request)
        except web.HTTPException as error:
            if request.path.startswith("/api/"):
                return _refused(request, error.status, error.reason, error.headers.get("Allow"))
            error.headers.update(HEADERS)
            raise

    def _knows(self, host: str) -> bool:
        return (
            is_private(host)
            or host in self._names
            or any(host == host_of(e) for e in self._endpoints())
        )

    def sweep(self, transports: Iterable[asyncio.BaseTransport], now_s: float) -> None:
        """Cut connections that have not asked for anything for too long.

        `transports` are all that are open. Called now and then, on the event loop.
        """
        quiet = [t for t in transports if t not in self._busy]
        self._idle_since_s = {t: s for t in quiet if (s := self._idle_since_s.get(t)) is not None}
        self._silent_since_s = {
            t: self._silent_since_s.get(t, now_s) for t in quiet if t not in self._idle_since_s
        }
        for since_by_transport, bound_s in (
            (self._silent_since_s, FIRST_S),
            (self._idle_since_s, HEAD_S),
        ):
            for transport, since_s in since_by_transport.items():
                if now_s - since_s > bound_s:
                    cast(asyncio.Transport, transport).abort()

    def make_room(self, transports: Iterable[asyncio.BaseTransport]) -> bool:
        """Cut one connection with no request under way, if there is one; whether there was.

        First those that never asked for anything, in the order of `transports`: of those that are
        open, the oldest first.
        """
        quiet = [t for t in transports if t not in self._busy]
        if not quiet:
            return False
        victim = min(quiet, key=lambda t: self._idle_since_s.get(t, 0.0))
        cast(asyncio.Transport, victim).abort()
        return True


def _refused(
    request: web.Request, status: int, reason: str, allow: str | None = None
) -> web.Response:
    headers = HEADERS if allow is None else {**HEADERS, "Allow": allow}
    if not request.path.startswith("/api/"):
        return web.Response(status=status, text=f"{reason}\n", headers=headers)
    body = {"error": {"reason": "", "message": reason, "field": ""}}
    return web.json_response(body, status=status, headers=headers)


class Refusal(asyncio.Protocol):
    """A connection that there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Cut it."""
        cast(asyncio.Transport, transport).abort()
