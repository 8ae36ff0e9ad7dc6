"""The dashboard's files, which come with the package, and its front page.

The front page says how many agents and leases there are also where no script runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import web

from agentkeeper.server.http.guard import HEADERS
from agentkeeper.server.metrics import Metrics

TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
FRONT: Final = "index.html"


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    content_type: str
    etag: str


class Pages:
    """Serves the files from memory: what is not among them can't be asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._files = dict(_read(files(__package__) / "static", ""))

    def routes(self) -> list[web.RouteDef]:
        """The front page, and the files under /static."""
        return [web.get("/", self._front), web.get("/static/{path:.+}", self._static)]

    async def _front(self, request: web.Request) -> web.Response:
        agents, leases = self._metrics.summary()
        page = self._files[FRONT].data.decode()
        page = page.replace("{agents}", f"{agents:,}").replace("{leases}", f"{leases:,}")
        headers = {**HEADERS, "Cache-Control": "no-store"}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def _static(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["path"])
        if file is None:
            raise web.HTTPNotFound
        # Always asked for again, so that the files of one page are of one build.
        headers = {**HEADERS, "Cache-Control": "no-cache", "ETag": file.etag}
        if request.headers.get("If-None-Match") == file.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=file.data, content_type=file.content_type, charset="utf-8", headers=headers
        )


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, _File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
            continue
        ending = entry.name[entry.name.rfind(".") :]
        if ending in TYPES:
            data = entry.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            yield f"{prefix}{entry.name}", _File(data, TYPES[ending], etag)
