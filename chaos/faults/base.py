"""What all faults have in common, and what they are done to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

from agentkeeper.client.status import leader_among
from chaos.backends import Backend
from chaos.clients.fleet import Fleet

POLL_S = 0.1
PATIENCE_S = 60.0
LEADER_PATIENCE_S = 15.0
HURT_PATIENCE_S = 1.0
WHO = ("leader", "follower", "any", "minority", "majority", "all")

Span = tuple[float, float]
"""From and to; what counts is drawn between them."""


class NotRecovered(Exception):  # noqa: N818
    """The cluster did not do what it must after a fault; the message says what."""


@dataclass
class World:
    """A cluster under test with its clients, and the dice."""

    backend: Backend
    fleet: Fleet
    rng: random.Random
    hurt: set[str] = field(default_factory=set)
    """Replicas that a fault has its hands on: another one leaves them alone."""

    def leader(self) -> str:
        """The replica that leads now; after some patience any, if none does.

        Where something is hurt already there may be none until that is healed.
        """
        give_up = time.monotonic() + (HURT_PATIENCE_S if self.hurt else LEADER_PATIENCE_S)
        while time.monotonic() < give_up:
            leader = leader_among(list(self.backend.statuses().values()))
            if leader is not None:
                return leader.node_id
            time.sleep(POLL_S)
        return self.rng.choice(self.backend.replicas)

    def choose(self, who: str) -> list[str]:
        """Draw replicas: "leader", "follower", "any", "minority", "majority" or "all".

        Only such as no other fault has its hands on; so it may be nobody.
        """
        leader = self.leader() if who in ("leader", "follower") else ""
        free = [name for name in self.backend.replicas if name not in self.hurt]
        self.rng.shuffle(free)
        count = len(self.backend.replicas)
        match who:
            case "leader":
                return [leader] if leader in free else free[:1]
            case "follower":
                return [name for name in free if name != leader][:1]
            case "any":
                return free[:1]
            case "minority":
                return free[: (count - 1) // 2]
            case "majority":
                return free[: count // 2 + 1]
            case "all":
                return free
        raise ValueError(f"who must be one of {', '.join(WHO)}")

    def await_(self, done: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until `done()` is true. Raises NotRecovered."""
        give_up = time.monotonic() + patience_s
        while not done():
            if time.monotonic() > give_up:
                raise NotRecovered(f"not within {patience_s:g} s: {what}")
            time.sleep(POLL_S)

    def await_ready(self, names: Collection[str] | None = None) -> None:
        """Wait until replicas, all by default, serve linearizable calls. Raises NotRecovered."""
        waiting = list(self.backend.replicas if names is None else names)
        reasons: dict[str, str] = {}

        def ready() -> bool:
            for name in list(waiting):
                reasons[name] = self.backend.unready_reason(name)
                if not reasons[name]:
                    waiting.remove(name)
            return not waiting

        try:
            self.await_(ready, "ready")
        except NotRecovered as error:
            missing = "; ".join(f"{name}: {reasons[name]}" for name in waiting)
            raise NotRecovered(f"{error}: {missing}") from None


@dataclass
class Fault:
    """Something that is done to a cluster, and undone. One object for each time it is done."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """The means of a backend without which it can't be done."""
    alone: ClassVar[bool] = False
    """Whether no other fault may be under way with it."""

    for_s: Span = (1.0, 3.0)
    """How long it lasts."""
    targets: list[str] = field(default_factory=list, init=False)
    """Whom it was done to."""
    began_ns: int = field(default=0, init=False)
    """When it began to do harm."""

    def inject(self, world: World) -> str:
        """Do it; returns what was done, in words, or nothing if nobody was left to do it to.

        Raises NotRecovered where that takes steps which the cluster must live through.
        """
        raise NotImplementedError

    def heal(self, world: World) -> None:
        """Undo it. Called once, also where `inject` has raised."""
        raise NotImplementedError

    def _take(self, world: World, who: str) -> list[str]:
        """Draw the targets and lay hands on them: what follows does them harm."""
        self.targets = world.choose(who)
        world.hurt.update(self.targets)
        self.began_ns = time.monotonic_ns()
        return self.targets

    def release(self, world: World) -> None:
        """Take the hands off."""
        world.hurt.difference_update(self.targets)
