"""The HTTP server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from agentkeeper.server.metrics import Metrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BODY_BYTES_MAX = 8_190
PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'", "Cache-Control": "no-store"}
FRONT_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<title>AgentKeeper</title>
<h1>AgentKeeper</h1>
<p>Agents alive: {agents}</p>
<p>Leases active: {leases}</p>
</html>
"""


class HttpServer:
    """Serves `/healthz`, `/readyz` and `/metrics`. `not_ready_reason` is empty when ready."""

    def __init__(self, metrics: Metrics, not_ready_reason: Callable[[], Awaitable[str]]) -> None:
        self._metrics = metrics
        self._not_ready_reason = not_ready_reason
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/", self._front_page)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render_metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises `OSError` if the address can't be had."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, shutdown_timeout=1.0).start()

    async def stop(self) -> None:
        """Close."""
        await self._runner.cleanup()

    async def _front_page(self, request: web.Request) -> web.Response:
        agents, leases = self._metrics.summary()
        page = FRONT_PAGE.format(agents=agents, leases=leases)
        return web.Response(text=page, content_type="text/html", headers=PAGE_HEADERS)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = await self._not_ready_reason()
        return web.Response(text=reason or "ok", status=503 if reason else 200)

    async def _render_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": METRICS_TYPE})
