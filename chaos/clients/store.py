"""A fenced store: it takes a write only under a token that is no lower than any before.

It stands for whatever a lease's holders write to, outside of the cluster, and is never hurt itself.
The server is a thread of the runner, on a unix socket; the client is for actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socketserver
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.history import Write

POLL_S = 0.05
"""How long the server may take to notice its end."""


class Store:
    """The store and its socket at `path`. A context manager: it serves from entry to exit."""

    def __init__(self) -> None:
        # Of its own, not in the run's folder: the path of a socket may not be long.
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-store-")
        self.path = str(Path(self._folder.name) / "socket")
        self._writes: list[Write] = []
        self._highest: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self.path, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="chaos-store", daemon=True
        )

    @property
    def writes(self) -> list[Write]:
        """All writes so far, refused ones too, in the order in which they were decided."""
        with self._lock:
            return list(self._writes)

    def write(self, key: str, token: int, client: str) -> bool:
        """Write under a token; returns whether it was accepted.

        It is if the token is higher than any seen for the key, or is the highest one and was
        brought by the same client. From any thread.
        """
        with self._lock:
            highest, holder = self._highest.get(key, (0, ""))
            accepted = token > highest or (token == highest and client == holder)
            if accepted:
                self._highest[key] = token, client
            self._writes.append(Write(time.monotonic_ns(), client, key, token, accepted))
            return accepted

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, store: Store) -> None:
        self.store = store
        super().__init__(path, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer a client's writes, a line of JSON each, until it is gone."""
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                if not line.endswith(b"\n"):
                    return  # killed in mid-write
                accepted = self.server.store.write(*json.loads(line))
                self.wfile.write(b"true\n" if accepted else b"false\n")


class StoreClient:
    """The store as the actors of one process see it."""

    def __init__(self, path: str, client: str) -> None:
        self._path = path
        self._client = client
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def write(self, key: str, token: int) -> bool:
        """Write under a token; returns whether it was accepted. Raises OSError."""
        async with self._turn:
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(self._path)
            reader, writer = self._streams
            try:
                writer.write(json.dumps([key, token, self._client]).encode() + b"\n")
                answer = await reader.readline()
            except BaseException:
                self.close()  # else a later write would get this one's answer
                raise
            if not answer:
                self.close()
                raise ConnectionError("the store is gone")
            return answer == b"true\n"

    def close(self) -> None:
        """Close the connection; a later write opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
