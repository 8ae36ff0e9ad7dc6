"""Faults of the network between replicas."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from chaos.backends import Links
from chaos.faults.base import Fault, Span, World


class _OfNetwork(Fault):
    def heal(self, world: World) -> None:
        """Let everything pass everywhere."""
        assert world.backend.network is not None
        world.backend.network.heal()


def _links(world: World) -> Links:
    assert world.backend.links is not None
    return world.backend.links


@dataclass
class Isolated(_OfNetwork):
    """A replica is cut off from all others, both ways; clients still reach it."""

    needs: ClassVar = frozenset({"network"})
    who: str = "leader"
    for_s: Span = (3.0, 8.0)

    def inject(self, world: World) -> str:
        """Cut it off."""
        assert world.backend.network is not None
        if not self._take(world, self.who):
            return ""
        for name in self.targets:
            world.backend.network.isolate(name)
        return f"isolate {', '.join(self.targets)} ({self.who})"


@dataclass
class OneWay(_OfNetwork):
    """Nothing passes from a replica to the others, or nothing from them to it."""

    needs: ClassVar = frozenset({"network", "links"})
    who: str = "leader"
    deaf: bool | None = None
    """True: it hears nobody; False: it reaches nobody; None: either."""
    for_s: Span = (3.0, 8.0)

    def inject(self, world: World) -> str:
        """Cut one way."""
        if not self._take(world, self.who):
            return ""
        deaf = world.rng.random() < 0.5 if self.deaf is None else self.deaf
        for name in self.targets:
            for other in world.backend.replicas:
                if other != name:
                    _links(world).cut(*((other, name) if deaf else (name, other)))
        what = "hears nobody" if deaf else "reaches nobody"
        return f"{', '.join(self.targets)} ({self.who}) {what}"


@dataclass
class Ring(_OfNetwork):
    """Every replica sees a majority, and no two see the same: Jepsen's majorities ring.

    Of three replicas that is a chain, whose middle sees all.
    """

    needs: ClassVar = frozenset({"network", "links"})
    alone: ClassVar = True
    for_s: Span = (3.0, 8.0)

    def inject(self, world: World) -> str:
        """Cut all but neighbours in a ring drawn by lot."""
        order = self._take(world, "all")
        count = len(order)
        for i, j in itertools.combinations(range(count), 2):
            distance = min(j - i, count - j + i) if count > 3 else j - i
            if distance > max(1, count // 4):
                _links(world).cut(order[i], order[j])
                _links(world).cut(order[j], order[i])
        return f"each sees its neighbours only: {' - '.join(order)}"


@dataclass
class Slow(_OfNetwork):
    """Packets between a replica and all others are delayed, both ways."""

    needs: ClassVar = frozenset({"network", "links"})
    who: str = "leader"
    delay_ms: Span = (20.0, 200.0)
    for_s: Span = (4.0, 10.0)

    def inject(self, world: World) -> str:
        """Delay them."""
        if not self._take(world, self.who):
            return ""
        delay_ms = round(world.rng.uniform(*self.delay_ms))
        for name, other in itertools.product(self.targets, world.backend.replicas):
            if other != name:
                _links(world).slow(name, other, delay_ms)
                _links(world).slow(other, name, delay_ms)
        return f"{delay_ms} ms each way to and from {', '.join(self.targets)} ({self.who})"


@dataclass
class Lossy(_OfNetwork):
    """Packets between a replica and all others are lost by lot, both ways."""

    needs: ClassVar = frozenset({"network", "links"})
    who: str = "leader"
    share: Span = (0.05, 0.3)
    for_s: Span = (4.0, 10.0)

    def inject(self, world: World) -> str:
        """Lose them."""
        if not self._take(world, self.who):
            return ""
        share = round(world.rng.uniform(*self.share), 2)
        for name, other in itertools.product(self.targets, world.backend.replicas):
            if other != name:
                _links(world).lossy(name, other, share)
                _links(world).lossy(other, name, share)
        return f"{share:.0%} of packets lost to and from {', '.join(self.targets)} ({self.who})"
