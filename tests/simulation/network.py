"""Links between replicas: first in first out, slow, cut in one direction or both, broken."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgpack
from pysyncobj.node import Node
from pysyncobj.transport import Transport

DELAY_S = 0.0004
SILENCE_S = (2.0, 2.5)
"""After how long without hearing anything an end gives a link up."""
RECONNECT_S = 0.1


class Clockwork(Protocol):
    """What the network needs of the world."""

    def now_s(self) -> float: ...

    def at(self, when_s: float, act: Callable[..., None], *args: Any) -> None: ...

    def record(self, data: bytes) -> None: ...


class SimulatedTransport(Transport):  # type: ignore[misc]
    """The end of all links of one replica. What arrives waits until the engine polls."""

    def __init__(self, network: Network, node: Node, wake: Callable[[], None]) -> None:
        super().__init__(None, node, [])
        self.network = network
        self.node_id = str(node.id)
        self.wake = wake
        self.up: dict[str, int] = {}
        """Peers to which this end believes to have a link, with the life of that link."""
        self.inbox: list[tuple[str, str, bytes]] = []
        self.nodes: dict[str, Node] = {}
        """The replica's own, by id."""

    def send(self, node: Node, message: object) -> bool:
        life = self.up.get(node.id)
        if life is None:
            return False
        self.network.send(self.node_id, node.id, life, msgpack.packb(message))
        return True

    def unsent_bytes(self, node: Node) -> int:
        return 0

    def rejuvenate(self, span_s: float) -> None:
        """The network itself decides when silence has lasted too long."""

    def note(self, reason: object, text: str) -> None:
        """What is refused is not counted here."""

    def put(self, kind: str, peer_id: str, data: bytes = b"") -> None:
        self.inbox.append((kind, peer_id, data))
        self.wake()

    def poll(self, timeout_s: float) -> None:
        """Hand what has arrived to the replica, as the library's poller would."""
        while self.inbox:
            inbox, self.inbox = self.inbox, []
            for kind, peer_id, data in inbox:
                node = self.nodes[peer_id]
                if kind == "message":
                    self._onMessageReceived(node, msgpack.unpackb(data, strict_map_key=False))
                elif kind == "up":
                    self._onNodeConnected(node)
                else:
                    self._onNodeDisconnected(node)

    def subscribe(self, *args: object) -> None:
        """Stands for the library's poller, which is told of a pipe here."""

    unsubscribe = subscribe

    def destroy(self) -> None:
        self.up.clear()


@dataclass
class Network:
    """All links between replicas. A link that breaks loses what is on its way, as TCP does."""

    world: Clockwork
    rng: random.Random
    ends: dict[str, SimulatedTransport] = field(default_factory=dict)
    """Of the replicas whose process lives."""
    blocked: dict[tuple[str, str], int] = field(default_factory=dict)
    """Directions in which nothing gets through, by how many faults block them."""
    extra_s: dict[tuple[str, str], float] = field(default_factory=dict)
    broken_links: int = 0
    lost_messages: int = 0
    _last_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _streams: dict[tuple[str, str], random.Random] = field(default_factory=dict)
    _lives: int = 0
    _held: dict[tuple[str, str], list[tuple[int, bytes]]] = field(default_factory=dict)
    _connecting: set[tuple[str, str]] = field(default_factory=set)
    _blocks: int = 0

    # --- messages --------------------------------------------------------------------------------
    def send(self, sender: str, to: str, life: int, data: bytes) -> None:
        way = (sender, to)
        at_s = self.world.now_s() + DELAY_S + self._stream(way).random() * DELAY_S
        at_s = max(at_s + self.extra_s.get(way, 0.0), self._last_s.get(way, 0.0) + 1e-6)
        self._last_s[way] = at_s
        self.world.at(at_s, self._arrive, way, life, data)

    def _arrive(self, way: tuple[str, str], life: int, data: bytes) -> None:
        sender, to = way
        end = self.ends.get(to)
        if end is None or end.up.get(sender) != life:
            self.lost_messages += 1
        elif way in self.blocked:
            self._held.setdefault(way, []).append((life, data))
        else:
            self.world.record(data)
            end.put("message", sender, data)

    def _stream(self, way: tuple[str, str]) -> random.Random:
        """Randomness of each direction's own: the order in which a replica sends is no matter."""
        stream = self._streams.get(way)
        if stream is None:
            stream = self._streams[way] = random.Random(f"{way}{self.rng.random()}")
        return stream

    # --- replicas come and go --------------------------------------------------------------------
    def join(self, end: SimulatedTransport) -> None:
        """A process has opened its transport."""
        self.ends[end.node_id] = end
        for peer_id in sorted(self.ends):
            if peer_id != end.node_id:
                self._connect_soon(end.node_id, peer_id)

    def leave(self, node_id: str, *, told: bool) -> None:
        """A process has ended. Its peers hear of it at once if the machine still runs (`told`)."""
        self.ends.pop(node_id)
        for peer_id in sorted(self.ends):
            life = self.ends[peer_id].up.get(node_id)
            if life is not None:
                at_s = self.world.now_s() + self.rng.uniform(*SILENCE_S)
                if told:  # after all that was sent
                    sent_s = self._last_s.get((node_id, peer_id), 0.0)
                    at_s = max(self.world.now_s(), sent_s) + self.rng.uniform(0.0005, 0.005)
                self.world.at(at_s, self._give_up, peer_id, node_id, life)

    # --- faults ----------------------------------------------------------------------------------
    def block(self, sender: str, to: str) -> None:
        """Let nothing through in one direction, until `unblock`."""
        way = (sender, to)
        self.blocked[way] = self.blocked.get(way, 0) + 1
        end = self.ends.get(to)
        if self.blocked[way] == 1 and end is not None and sender in end.up:
            at_s = self.world.now_s() + self.rng.uniform(*SILENCE_S)
            self._blocks += 1
            self.world.at(at_s, self._silent, way, end.up[sender])

    def unblock(self, sender: str, to: str) -> None:
        way = (sender, to)
        self.blocked[way] -= 1
        if self.blocked[way]:
            return
        del self.blocked[way]
        for life, data in self._held.pop(way, []):
            self.send(sender, to, life, data)
        self._connect_soon(sender, to)

    def break_link(self, one: str, other: str) -> None:
        """Break the link between two replicas, with what is on its way."""
        life = self._linked(one, other)
        if life is not None:
            for node_id, peer_id in ((one, other), (other, one)):
                at_s = self.world.now_s() + self.rng.uniform(0.0, 0.02)
                self.world.at(at_s, self._give_up, node_id, peer_id, life)

    def _silent(self, way: tuple[str, str], life: int) -> None:
        sender, to = way
        if way in self.blocked:
            self._give_up(to, sender, life)

    def _give_up(self, node_id: str, peer_id: str, life: int) -> None:
        """One end drops a link; the other one hears of it, if anything gets through."""
        end = self.ends.get(node_id)
        if end is None or end.up.get(peer_id) != life:
            return
        del end.up[peer_id]
        self._held.pop((peer_id, node_id), None)
        self.broken_links += 1
        end.put("down", peer_id)
        wait_s = 0.001 if (node_id, peer_id) not in self.blocked else self.rng.uniform(*SILENCE_S)
        self.world.at(self.world.now_s() + wait_s, self._give_up, peer_id, node_id, life)
        self._connect_soon(node_id, peer_id)

    # --- connecting ------------------------------------------------------------------------------
    def _connect_soon(self, one: str, other: str) -> None:
        pair = (min(one, other), max(one, other))
        if pair not in self._connecting:
            self._connecting.add(pair)
            wait_s = RECONNECT_S * self.rng.uniform(0.3, 1.2)
            self.world.at(self.world.now_s() + wait_s, self._connect, pair)

    def _connect(self, pair: tuple[str, str]) -> None:
        self._connecting.discard(pair)
        one, other = pair
        if one not in self.ends or other not in self.ends or self._linked(one, other) is not None:
            return
        if pair in self.blocked or (other, one) in self.blocked:
            return  # tried again when the way is free
        self._lives += 1
        for node_id, peer_id in (pair, (other, one)):
            end = self.ends[node_id]
            if peer_id in end.up:
                end.put("down", peer_id)  # half open until now
            end.up[peer_id] = self._lives
            self._last_s[node_id, peer_id] = 0.0
            end.put("up", peer_id)

    def _linked(self, one: str, other: str) -> int | None:
        if one not in self.ends or other not in self.ends:
            return None
        life = self.ends[one].up.get(other)
        return life if life is not None and self.ends[other].up.get(one) == life else None
