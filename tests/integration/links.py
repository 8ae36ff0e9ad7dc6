"""TCP links in user space that can be cut: between clients and replicas, and between replicas."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from agentkeeper.launcher import LocalCluster

HOST = "127.0.0.1"
CLIENTS = ""
"""The end of the links that a cluster advertises to its clients."""


class Link:
    """A listening port from which connections are forwarded to `target`.

    Where it is cut nothing passes: connections stay open and new ones get no answer. What was
    sent meanwhile arrives once it is healed, as in a network that drops packets.
    """

    def __init__(self, source: str, destination: str, target: str) -> None:
        self.source = source
        self.destination = destination
        self.target = target
        self.address = ""
        self.accepted = 0
        """Connections so far."""
        self.forth = True
        """Whether anything passes to the target."""
        self.back = True
        """Whether anything passes from there."""
        self.ends: set[_End] = set()
        self.dialable = asyncio.Event()
        self.dialable.set()
        self._server: asyncio.Server | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), HOST, 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    def dial(self, accepted: _Accepted) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._dial(accepted))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, accepted: _Accepted) -> None:
        await self.dialable.wait()
        host, _, port = self.target.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            _, dialled = await loop.create_connection(lambda: _End(self), host, int(port))
        except OSError:
            accepted.transport.abort()  # as if it had been refused
            return
        accepted.other, dialled.other = dialled, accepted
        if accepted.transport.is_closing() or dialled.transport.is_closing():  # meanwhile
            accepted.transport.abort()
            dialled.transport.abort()
        for end in (accepted, dialled):
            end.read_or_not()

    def set_passing(self, *, forth: bool, back: bool) -> None:
        self.forth, self.back = forth, back
        (self.dialable.set if forth else self.dialable.clear)()
        for end in list(self.ends):
            end.read_or_not()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._dialling):
            task.cancel()
        for end in list(self.ends):
            end.transport.abort()


class _End(asyncio.Protocol):
    """One of the two sockets of a connection: what it receives the other one sends."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.other: _End | None = None
        self.transport: asyncio.Transport
        self.congested = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.link.ends.add(self)
        transport.pause_reading()

    @property
    def passing(self) -> bool:
        """Whether what it receives may go on."""
        return self.link.back

    def read_or_not(self) -> None:
        if self.passing and self.other is not None and not self.other.congested:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.congested = True
        self._tell_other()

    def resume_writing(self) -> None:
        self.congested = False
        self._tell_other()

    def _tell_other(self) -> None:
        if self.other is not None:
            self.other.read_or_not()

    def connection_lost(self, error: Exception | None) -> None:
        self.link.ends.discard(self)
        if self.other is not None:
            self.other.transport.close()


class _Accepted(_End):
    @property
    def passing(self) -> bool:
        return self.link.forth

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.link.dial(self)


class Links:
    """The links of a cluster, served by one thread. A context manager.

    `LocalCluster(route=links.route)` puts one in every way between two replicas, and one before
    each replica for clients.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.all: list[Link] = []

    def route(self, source: str, target: str, address: str) -> str:
        """The address by which `source` reaches `target`; see `LocalCluster`."""
        link = Link(source, target, address)
        self._run(link.listen())
        self.all.append(link)
        return link.address

    def endpoints_for(self, client: str, cluster: LocalCluster) -> list[str]:
        """Endpoints for one client alone, which can then be cut off by its name."""
        return [self.route(client, name, node.addr) for name, node in cluster.nodes.items()]

    def cut(self, name: str) -> None:
        """Cut all links of a replica or client."""
        self._set_passing(self._of(name), forth=False, back=False)

    def isolate(self, name: str) -> None:
        """Cut a replica's links with other replicas; clients still reach it."""
        between = [link for link in self._of(name) if link.source != CLIENTS]
        self._set_passing(between, forth=False, back=False)

    def mute(self, name: str) -> None:
        """Let a replica hear its clients, and nothing that it answers reach them."""
        with_clients = [link for link in self._of(name) if link.source == CLIENTS]
        self._set_passing(with_clients, forth=True, back=False)

    def heal(self) -> None:
        """Make all links whole again."""
        self._set_passing(self.all, forth=True, back=True)

    def _of(self, name: str) -> list[Link]:
        return [link for link in self.all if name in (link.source, link.destination)]

    def accepted(self) -> dict[str, int]:
        """How many connections of clients each replica has got over the advertised links."""
        return {link.destination: link.accepted for link in self.all if link.source == CLIENTS}

    def _set_passing(self, links: list[Link], *, forth: bool, back: bool) -> None:
        async def set_passing() -> None:
            for link in links:
                link.set_passing(forth=forth, back=back)

        self._run(set_passing())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *exception: object) -> None:
        for link in self.all:
            self._run(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
