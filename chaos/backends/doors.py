"""Ways for clients into namespaces: a loopback port here for the same one in there.

Cuts in the network leave them as they are, so a replica that is cut off from the others can still
be asked. All clients' traffic passes, so a process of its own carries it:

    python -m chaos.backends.doors NAMESPACE:PORT ...
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self, cast

import uvloop

from agentkeeper.client.child import Child
from chaos.backends.network import socket_in

LOOPBACK = "127.0.0.1"
BACKLOG = 4_096
OPEN = "all doors are open"
TIMEOUT_S = 20.0
POLL_S = 0.02


class Doors:
    """A process that passes connections on. A context manager: open once entered."""

    def __init__(self, ways: Iterable[tuple[str, int]], log_path: Path) -> None:
        """`ways`: namespaces and ports."""
        words = [f"{namespace}:{port}" for namespace, port in ways]
        self._command = [sys.executable, "-m", "chaos.backends.doors", *words]
        self._log_path = log_path
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self._log_path.unlink(missing_ok=True)
        self._child = Child(self._command, self._log_path)
        deadline = time.monotonic() + TIMEOUT_S
        while OPEN not in self._child.log_tail():
            self._child.check_running("the process of the doors")
            if time.monotonic() > deadline:
                self._child.kill()
                raise TimeoutError(f"no doors within {TIMEOUT_S:g} s: {self._child.log_tail()}")
            time.sleep(POLL_S)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._child is not None:
            self._child.kill()


class _Side(asyncio.Protocol):
    """One end of a connection that is passed on; the other end is another one."""

    def __init__(self, other: _Side | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # in all but its class

    def data_received(self, data: bytes) -> None:
        if to := self._there():
            to.write(data)

    def pause_writing(self) -> None:
        if to := self._there():
            to.pause_reading()

    def resume_writing(self) -> None:
        if to := self._there():
            to.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if to := self._there():
            to.abort() if exc else to.close()

    def _there(self) -> asyncio.Transport | None:
        there = self.other.transport if self.other else None
        return None if there is None or there.is_closing() else there


class _Door(_Side):
    """The end that a client has connected to."""

    def __init__(self, namespace: str, port: int) -> None:
        super().__init__()
        self._namespace, self._port = namespace, port
        self._reaching: asyncio.Task[None] | None = None
        self._early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._reaching = asyncio.get_running_loop().create_task(self._reach(self.transport))

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early += data  # uvloop can't pause a connection that has just been made
        else:
            super().data_received(data)

    async def _reach(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.ExitStack() as unused:
                made = socket_in(self._namespace)
                unused.callback(made.close)
                await loop.sock_connect(made, (LOOPBACK, self._port))
                unused.pop_all()
                # It knows the client from the start: a server may be the first to speak.
                transport, inner = await loop.create_connection(lambda: _Side(self), sock=made)
        except OSError:
            client.abort()  # nobody listens there now: the caller is told by the end of this
            return
        self.other = inner
        if client.is_closing():
            transport.abort()
        else:
            transport.write(bytes(self._early))


async def _serve(ways: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for way in ways:
        namespace, _, port = way.rpartition(":")

        def door(namespace: str = namespace, port: int = int(port)) -> _Door:
            return _Door(namespace, port)

        await loop.create_server(door, LOOPBACK, int(port), backlog=BACKLOG)
    print(OPEN, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Pass connections on until the process is killed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1:]))


if __name__ == "__main__":
    main()
