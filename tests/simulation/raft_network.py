"""The network of a simulated world: links that delay, drop and break, reproducibly."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgpack
from pysyncobj.node import Node
from pysyncobj.transport import Transport


class SimulatedTransport(Transport):
    def __init__(self, network: Network, node: Node) -> None:
        super().__init__(None, node, [])
        self.network = network
        self.node_id = str(node.id)
        self.nodes: dict[str, Node] = {}

    def send(self, node: Node, message: object) -> bool:
        return self.network.send(self.node_id, node.id, message)

    def unsent_bytes(self, node: Node) -> int:
        return 0

    def rejuvenate(self, span_s: float) -> None:
        pass

    def note(self, reason: object, text: str) -> None:
        """What is refused is not counted here."""

    def receive(self, sender_id: str, message: object) -> None:
        self._onMessageReceived(Node(sender_id), message)

    def linked(self, peer_id: str, up: bool) -> None:
        (self._onNodeConnected if up else self._onNodeDisconnected)(Node(peer_id))


@dataclass
class Network:
    """First-in-first-out links; a link that breaks loses what is on its way, as TCP does."""

    now: Callable[[], float]
    rng: random.Random
    drop: float = 0.0
    ends: dict[str, SimulatedTransport] = field(default_factory=dict)
    delay_s: dict[tuple[str, str], float] = field(default_factory=dict)
    gap_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _last_s: dict[tuple[str, str], float] = field(default_factory=dict)
    up: set[frozenset[str]] = field(default_factory=set)
    _queues: dict[str, list[tuple[float, int, str, int, bytes]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _order: Iterator[int] = field(default_factory=itertools.count)
    _lives: dict[frozenset[str], int] = field(default_factory=dict)

    def send(self, sender: str, to: str, message: object) -> bool:
        link = frozenset((sender, to))
        if link not in self.up:
            return False
        # Only a link that is badly behind drops anything, so never what is said on it first.
        first = isinstance(message, dict) and message.get("type") == "introduction"
        if first or self.rng.random() >= self.drop:
            at_s = self.now() + self.delay_s.get((sender, to), 0.005)
            at_s = max(at_s, self._last_s.get((sender, to), 0) + self.gap_s.get((sender, to), 0))
            self._last_s[sender, to] = at_s
            item = (at_s, next(self._order), sender, self._life(link), msgpack.packb(message))
            heapq.heappush(self._queues[to], item)
        return True

    def deliver(self, to: str) -> None:
        queue = self._queues[to]
        while queue and queue[0][0] <= self.now():
            _, _, sender, life, message = heapq.heappop(queue)
            link = frozenset((sender, to))
            if link in self.up and life == self._life(link):
                self.ends[to].receive(sender, msgpack.unpackb(message))

    def connect(self, one: str, other: str) -> None:
        link = frozenset((one, other))
        if link in self.up or one not in self.ends or other not in self.ends:
            return
        self.up.add(link)
        self._lives[link] = self._life(link) + 1
        self.ends[one].linked(other, True)
        self.ends[other].linked(one, True)

    def cut(self, one: str, other: str) -> None:
        link = frozenset((one, other))
        if link in self.up:
            self.up.remove(link)
            self.ends[one].linked(other, False)
            self.ends[other].linked(one, False)

    def _life(self, link: frozenset[str]) -> int:
        return self._lives.get(link, 0)


@dataclass
class Sockets:
    """In place of the library's poller: what has arrived waits until the replica looks."""

    network: Network
    node_id: str

    def poll(self, timeout_s: float) -> None:
        self.network.deliver(self.node_id)
