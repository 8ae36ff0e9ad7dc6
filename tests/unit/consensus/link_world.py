"""Replicas' links, stepped by hand in one thread, with a clock that tests move."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pysyncobj import syncobj
from pysyncobj.node import Node
from pysyncobj.poller import createPoller

from agentkeeper.consensus.config import TlsFiles
from agentkeeper.consensus.links.channels import Channel, PlainChannel, SecretChannel
from agentkeeper.consensus.links.introduction import Introduced, Party
from agentkeeper.consensus.links.refusals import LinkError
from agentkeeper.consensus.links.tls import TlsChannel, TlsContexts
from agentkeeper.consensus.transport import LinkSettings, PeerNode, PeerTransport

SECRET = "a shared secret"
SILENCE_S = 2.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(syncobj, "monotonicTime", made)
    return made


def party(own: str, target: str | None = None, peers: str = "abc") -> Party:
    others = frozenset(peers) - {own}
    return Party(own, others, target)


def channel(guard: str | TlsFiles | None, of: Party) -> Channel:
    """Make a channel: with a secret, with TLS, or with neither."""
    if isinstance(guard, TlsFiles):
        return TlsChannel(of, TlsContexts(guard))
    return PlainChannel(of) if guard is None else SecretChannel(of, guard)


def introduce(dialer: Channel, acceptor: Channel) -> tuple[Introduced, Introduced]:
    """Let two channels talk until each knows the other; give what they learned."""
    learned: dict[Channel, Introduced] = {}
    for _ in range(6):
        for source, sink in ((dialer, acceptor), (acceptor, dialer)):
            for event in sink.receive(source.take_outgoing()):
                assert isinstance(event, Introduced)
                assert sink not in learned
                learned[sink] = event
    return learned[dialer], learned[acceptor]


class Raft:
    """What a transport needs of the library's replica."""

    def __init__(self) -> None:
        self._poller = createPoller("auto")
        self._callbacks: list[Callable[[], None]] = []

    def addOnTickCallback(self, callback: Callable[[], None]) -> None:  # noqa: N802
        self._callbacks.append(callback)

    def step(self) -> None:
        for callback in self._callbacks:
            callback()
        self._poller.poll(0)


class Replica:
    """One replica's transport, and all that it reported, in order."""

    def __init__(self, world: World, node_id: str, guard: str | TlsFiles | None) -> None:
        self.raft = Raft()
        self.nodes = {name: PeerNode(name, world.addresses[name]) for name in world.addresses}
        self.events: list[tuple[str, Any]] = []
        self.transport = PeerTransport(
            self.raft,
            self.nodes[node_id],
            [node for node in self.nodes.values() if node.id != node_id],
            LinkSettings(
                bind_address=world.addresses[node_id],
                silence_s=SILENCE_S,
                secret=guard if isinstance(guard, str) else None,
                tls=guard if isinstance(guard, TlsFiles) else None,
            ),
        )
        self.transport.setOnNodeConnectedCallback(lambda node: self._note("up", node))
        self.transport.setOnNodeDisconnectedCallback(lambda node: self._note("down", node))
        self.transport.setOnMessageReceivedCallback(
            lambda node, message: self.events.append((node.id, message))
        )
        self.transport.tryGetReady()

    def _note(self, what: str, node: Node) -> None:
        self.events.append((what, node.id))

    def send(self, node_id: str, message: dict[str, Any]) -> bool:
        return self.transport.send(self.nodes[node_id], message)

    def received(self, sender: str) -> list[dict[str, Any]]:
        return [message for source, message in self.events if source == sender]


class World:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.addresses = {node_id: f"127.0.0.1:{free_port()}" for node_id in "ab"}
        self.replicas: dict[str, Replica] = {}

    def start(self, node_id: str, guard: str | TlsFiles | None = None) -> Replica:
        self.replicas[node_id] = Replica(self, node_id, guard)
        return self.replicas[node_id]

    def step(self, span_s: float = 0.001) -> None:
        self.clock.now += span_s
        for replica in list(self.replicas.values()):
            replica.raft.step()

    def until(self, condition: Callable[[], object], span_s: float = 0.0005) -> None:
        """Step until the condition holds, for less than ten seconds of the replicas' time."""
        for _ in range(20_000):
            if condition():
                return
            self.step(span_s)
        pytest.fail("the condition did not come true")

    def pass_time(self, span_s: float, steps: int = 50) -> None:
        for _ in range(steps):
            self.step(span_s / steps)

    def linked(self, *node_ids: str) -> None:
        """Step until all of these are linked to each other."""
        self.until(
            lambda: all(
                ("up", other) in self.replicas[own].events
                for own in node_ids
                for other in node_ids
                if other != own
            )
        )

    def stop(self, node_id: str) -> None:
        self.replicas.pop(node_id).transport.destroy()


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    made = World(clock)
    yield made
    for node_id in list(made.replicas):
        made.stop(node_id)


class RawPeer:
    """The other end of a connection to a replica, in a test's hands: it does only as told."""

    def __init__(self, world: World, to: str, of: Channel | None = None) -> None:
        self.world = world
        host, port = world.addresses[to].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.channel = of
        self.sent = b""
        self.events: list[Introduced | bytes] = []
        self.ended = False

    def send(self, data: bytes) -> None:
        self.sent += data
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def read(self) -> None:
        """Take in what has come, and answer if that is part of the introduction."""
        with suppress(BlockingIOError):
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            self.ended = not data
            if self.channel is not None and data:
                with suppress(LinkError):
                    self.events += self.channel.receive(data)
                self.send(self.channel.take_outgoing())

    def introduced(self) -> RawPeer:
        assert self.channel is not None
        self.send(self.channel.take_outgoing())
        self.world.until(lambda: self.read() or self.events)
        return self

    def until_ended(self) -> None:
        self.world.until(lambda: self.read() or self.ended)
        self.socket.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
