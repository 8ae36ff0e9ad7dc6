"""A network of its own for each replica, whose ways can be cut one by one and one way only."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import threading
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Self

from .power import Unsupported, run

LOOPBACK = "127.0.0.1"
CLONE_NEWNET = 0x40000000
CHUNK_BYTES = 65_536
NOBODY = "02:00:00:00:00:fe"
_serial = itertools.count()


class Network:
    """Namespaces joined by a switch, one for each name. A context manager: removed at its end.

    Every machine knows the hardware address of every other one by heart. A way is cut by letting
    the sender have a wrong one: its packets go out and reach nobody, and neither side is told.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self._tag = f"agentkeeper-{os.getpid()}-{next(_serial)}"
        self._files = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as made:
            self._add_namespace(made, self._switch)
            run("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
            run("ip", "-n", self._switch, "link", "set", "switch", "up")
            for name in self.names:
                self._add_machine(made, name)
            self.heal()
            self._files = made.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def address(self, name: str) -> str:
        """The address of a machine in this network."""
        return f"10.77.0.{self.names.index(name) + 1}"

    def namespace(self, name: str) -> str:
        """The namespace of a machine."""
        return f"{self._tag}-{name}"

    def on(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on a machine, as the process it is started as.

        Not `ip netns exec`: that takes a copy of all mounts along, which keeps disks of tests that
        run at the same time from ever being unmounted.
        """
        return ["nsenter", f"--net=/run/netns/{self.namespace(name)}", *command]

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one machine to another; the other way stays as it is."""
        self._send(source, target, NOBODY)

    def isolate(self, name: str) -> None:
        """Cut a machine off, both ways."""
        for other in self._others(name):
            self.cut(name, other)
            self.cut(other, name)

    def unplug(self, name: str) -> None:
        """Take a machine's cable out of the switch."""
        run("ip", "-n", self._switch, "link", "set", f"port-{name}", "down")

    def heal(self) -> None:
        """Let everything pass everywhere."""
        for name in self.names:
            run("ip", "-n", self._switch, "link", "set", f"port-{name}", "up")
            for other in self._others(name):
                self._send(name, other, self._hardware(other))

    @property
    def _switch(self) -> str:
        return f"{self._tag}-switch"

    def _others(self, name: str) -> list[str]:
        return [other for other in self.names if other != name]

    def _hardware(self, name: str) -> str:
        return f"02:00:00:00:00:{self.names.index(name) + 1:02x}"

    def _send(self, source: str, target: str, hardware: str) -> None:
        neighbour = (self.address(target), "lladdr", hardware, "dev", "eth0", "nud", "permanent")
        run("ip", "-n", self.namespace(source), "neigh", "replace", *neighbour)

    def _add_namespace(self, made: ExitStack, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        made.callback(run, "ip", "netns", "del", namespace)

    def _add_machine(self, made: ExitStack, name: str) -> None:
        namespace = self.namespace(name)
        self._add_namespace(made, namespace)
        here = ("ip", "-n", namespace)
        ends = ("eth0", "address", self._hardware(name), "type", "veth", "peer", f"port-{name}")
        run(*here, "link", "add", *ends, "netns", self._switch)
        run("ip", "-n", self._switch, "link", "set", f"port-{name}", "master", "switch", "up")
        run(*here, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run(*here, "link", "set", device, "up")


class Doors:
    """Ways for clients into namespaces: a loopback port here for the same one in there.

    Cuts in the network leave them as they are, so a replica that is cut off from the others can
    still be asked. A context manager.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[asyncio.Task[Any]] = set()
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def open(self, namespace: str, port: int) -> None:
        """Forward connections to this loopback port to the same one of a namespace."""

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            await _join(reader, writer, namespace, port)

        async def listen() -> None:
            self._servers.append(await asyncio.start_server(accepted, LOOPBACK, port))

        self._run(listen())

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, namespace: str, port: int
) -> None:
    """Connect to a port in a namespace, and pass on everything both ways until one side ends."""
    there: asyncio.StreamWriter | None = None
    try:
        inside = socket_in(namespace)
        await asyncio.get_running_loop().sock_connect(inside, (LOOPBACK, port))
        answers, there = await asyncio.open_connection(sock=inside)
        passing = [_pass_on(reader, there), _pass_on(answers, writer)]
        tasks = [asyncio.ensure_future(way) for way in passing]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    except OSError:
        pass  # nobody listens there now: the caller is told by the end of its connection
    finally:
        for side in (writer, there):
            if side is not None:
                side.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def socket_in(namespace: str) -> socket.socket:
    """A TCP socket of a namespace. A socket stays in the one that its thread was in."""
    with open(f"/run/netns/{namespace}") as there, open("/proc/thread-self/ns/net") as here:
        _enter(there.fileno())
        try:
            inside = socket.socket()
        finally:
            _enter(here.fileno())
    inside.setblocking(False)
    return inside


def _enter(descriptor: int) -> None:
    """Move this thread into a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise Unsupported(f"setns: {os.strerror(ctypes.get_errno())}")
