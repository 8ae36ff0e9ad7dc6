"""The HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict
from typing import Final

from aiohttp import web

from agentkeeper.server.http.api import Api
from agentkeeper.server.http.guard import CONNECTIONS, HEAD_S, Guard, Refusal
from agentkeeper.server.http.live import Live
from agentkeeper.server.http.pages import Pages
from agentkeeper.server.http.plain import Json
from agentkeeper.server.http.pulse import Pulse
from agentkeeper.server.metrics import Metrics
from agentkeeper.server.stack import Stack

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BODY_BYTES_MAX: Final = 8_190
SWEEP_S: Final = 1.0
STOP_S: Final = 1.0


class HttpServer:
    """Serves `/healthz`, `/readyz`, `/metrics`, and the dashboard with what it asks for.

    `not_ready_reason` is empty when ready. `names` are those under which pages may be asked for,
    beside the replicas' own.
    """

    def __init__(
        self,
        stack: Stack,
        metrics: Metrics,
        not_ready_reason: Callable[[], Awaitable[str]],
        names: Collection[str] = (),
    ) -> None:
        self._metrics = metrics
        self._not_ready_reason = not_ready_reason
        api = Api(stack.replica, stack.services())
        self._pulse = Pulse(api, stack.machine, self._figures)
        self._live = Live(stack.replica, self._pulse)
        machine = stack.machine
        self._guard = Guard(lambda: [r.endpoint for r in machine.state.replicas.values()], names)
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._guard.middleware])
        app.on_response_prepare.append(self._unsigned)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._render_metrics),
                web.get("/api/live", self._live.serve, allow_head=False),
                *api.routes(),
                *Pages(metrics).routes(),
            ]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=HEAD_S,
            shutdown_timeout=STOP_S,
        )
        self._listening: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises `OSError` if the address can't be had."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._accept, host, port)
        self._tasks = [loop.create_task(self._pulse.run()), loop.create_task(self._sweep())]

    async def stop(self) -> None:
        """Close."""
        for task in self._tasks:
            task.cancel()
        self._live.end()
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        transports = self._transports()
        if len(transports) >= CONNECTIONS and not self._guard.make_room(transports):
            return Refusal()
        return server()

    def _transports(self) -> list[asyncio.Transport]:
        """Those of all open connections, the oldest first."""
        server = self._runner.server
        assert server is not None
        return [t for c in server.connections if (t := c.transport) and not t.is_closing()]

    async def _sweep(self) -> None:
        while True:
            self._guard.sweep(self._transports(), asyncio.get_running_loop().time())
            await asyncio.sleep(SWEEP_S)

    @staticmethod
    async def _unsigned(request: web.Request, response: web.StreamResponse) -> None:
        """Nobody needs to know what serves this, and in which version."""
        response.headers.popall("Server", None)

    def _figures(self) -> Json:
        return asdict(self._metrics.live())

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = await self._not_ready_reason()
        return web.Response(text=reason or "ok", status=503 if reason else 200)

    async def _render_metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=await self._metrics.render(), headers={"Content-Type": METRICS_TYPE}
        )
