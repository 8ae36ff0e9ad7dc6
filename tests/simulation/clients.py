"""Clients: they ask, wait, give up waiting, ask again elsewhere under the same number."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import Message

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import records as r
from agentkeeper.core.refusals import SESSION_EXPIRED
from agentkeeper.server.errors import OVERLOADED, CallError
from tests.simulation.checks import GONE
from tests.simulation.clock import MAX_DRIFT

if TYPE_CHECKING:
    from tests.simulation.world import World

NETWORK_S: Final = (0.0002, 0.001)
ATTEMPT_S: Final = (0.5, 1.0, 3.0)
PATIENCE_S: Final = (2.0, 6.0, 12.0)
THINKING_S: Final = (0.005, 0.35)
LOST_ANSWERS: Final = 0.02
AGENT_TTL_S: Final = 3
HEARTBEAT_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Operation:
    """One request with all its attempts. `number` 0 is a read, or a call without a session."""

    method: str
    data: bytes
    session_id: str
    number: int
    first_sent_s: float
    give_up_s: float
    ended: Callable[[Operation, bytes | None, CallError | None], None]
    stale: bool = False
    timeout_s: float = 1.0
    attempts: int = 0
    open: int = 0
    """The attempt that is under way; an answer to another one comes too late."""
    uncertain: bool = False
    """Whether any attempt ended without a definite answer."""
    least_index: int = 0
    """What the state that the open attempt is answered from must hold at least."""

    @property
    def key(self) -> tuple[str, int]:
        return (self.session_id, self.number)


@dataclass(slots=True)
class Agent:
    agent_id: str
    alive_until_s: float
    """Until when it cannot be DEAD, as its client sees it."""


@dataclass(eq=False)
class Client:
    """One client with a session, an agent or two, and what it holds."""

    world: World
    name: str
    rng: random.Random
    next_task: Callable[[Client], None]
    session_id: str = ""
    last_number: int = 0
    unanswered: dict[int, None] = field(default_factory=dict)
    agents: list[Agent] = field(default_factory=list)
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Agent and token by key: what it holds, or held."""
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    old: list[tuple[str, str, int]] = field(default_factory=list)
    """Key, agent and token of leases it no longer holds."""
    min_index: int = 0
    replica: str = ""
    busy: int = 0
    stopped: bool = False

    # --- asking ----------------------------------------------------------------------------------
    def ask(
        self,
        method: str,
        request: Message,
        ended: Callable[[Operation, bytes | None, CallError | None], None],
        *,
        write: bool = True,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> Operation:
        number = 0
        if write and self.session_id:
            self.last_number += 1
            number = self.last_number
            self.unanswered[number] = None
        now_s = self.world.now_s()
        operation = Operation(
            method,
            request.SerializeToString(deterministic=True),
            self.session_id,
            number,
            now_s,
            now_s + self.rng.choice(PATIENCE_S),
            ended,
            stale,
            timeout_s or self.rng.choice(ATTEMPT_S),
        )
        self.busy += 1
        self.world.checks.count("operations")
        self._try(operation)
        return operation

    def _try(self, operation: Operation) -> None:
        world, rng = self.world, self.rng
        operation.attempts += 1
        attempt = operation.open = operation.attempts
        if not self.replica or attempt > 1 or rng.random() < 0.1:
            self.replica = rng.choice(world.ids)
        if operation.stale:
            operation.least_index = self.min_index
        else:
            operation.least_index = world.checks.acknowledged_index
        world.at(world.time_s + rng.uniform(*NETWORK_S), self._arrive, operation, attempt)
        world.at(world.time_s + operation.timeout_s, self._late, operation, attempt)

    def _arrive(self, operation: Operation, attempt: int) -> None:
        world = self.world
        host = world.hosts[self.replica]
        process = host.process
        if process is None:
            if not host.off or self.rng.random() < 0.9:
                error = CallError("UNAVAILABLE", "refused", "nobody listens")
                world.at(world.time_s + 0.001, self._answered, operation, attempt, None, error, 0)
            return
        caller: dict[str, Any] = {"timeout_s": operation.timeout_s, "stale": operation.stale}
        if operation.number:
            seen = 0
            if operation.session_id == self.session_id:
                seen = next(iter(self.unanswered)) - 1
            session = {"session_id": operation.session_id, "number": operation.number}
            caller |= session | {"seen": seen}
        if operation.stale:
            caller["min_index"] = operation.least_index

        def answer(data: bytes | None, error: CallError | None, index: int) -> None:
            if process.alive and self.rng.random() >= LOST_ANSWERS:
                when_s = world.now_s() + self.rng.uniform(*NETWORK_S)
                world.at(when_s, self._answered, operation, attempt, data, error, index)

        process.call(operation.method, operation.data, caller, answer)

    # --- answers ---------------------------------------------------------------------------------
    def _late(self, operation: Operation, attempt: int) -> None:
        if operation.open == attempt:
            operation.uncertain = True
            self._again(operation, self.rng.uniform(0.0, 0.05))

    def _again(self, operation: Operation, after_s: float) -> None:
        operation.open = 0
        now_s = self.world.time_s
        if now_s + after_s < operation.give_up_s:
            self.world.at(self.world.beat(now_s + after_s), self._try, operation)
        else:
            self._end(operation, None, None)

    def _answered(
        self,
        operation: Operation,
        attempt: int,
        data: bytes | None,
        error: CallError | None,
        index: int,
    ) -> None:
        if operation.open != attempt:
            return
        world = self.world
        world.record(b"%b %d %b %d" % (operation.method.encode(), attempt, data or b"", index))
        operation.open = 0
        if error is None:
            if not operation.number:
                self._read(operation, index)
            self.min_index = max(self.min_index, index)
            self._end(operation, data, None)
        elif error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or error.reason == OVERLOADED:
            operation.uncertain |= not error.definite
            self._again(operation, self.rng.uniform(0.005, 0.1))
        else:
            if error.code == "INTERNAL":
                world.checks.violated(f"{operation.method} ended with {error!r}")
            operation.uncertain |= not error.definite
            self._end(operation, None, error)

    def _read(self, operation: Operation, index: int) -> None:
        if operation.method != "OpenSession":
            self.world.checks.read(index, operation.least_index, stale=operation.stale)

    def _end(self, operation: Operation, data: bytes | None, error: CallError | None) -> None:
        """The operation is over, for good; with neither data nor error nobody knows how."""
        checks = self.world.checks
        self.busy -= 1
        if operation.number:
            key = operation.key
            if data is not None and _in_vain(operation.method, data):
                checks.count("waits in vain")
            elif data is not None:
                only_index = operation.least_index if operation.attempts == 1 else None
                checks.acknowledged(key, only_index)
            elif error is None and operation.uncertain:
                checks.count("writes of unknown outcome")
            elif error is None or (error.definite and error.reason not in GONE):
                checks.refused(key)
            if operation.session_id == self.session_id:
                del self.unanswered[operation.number]
        if error is not None and error.reason == SESSION_EXPIRED and self.session_id:
            # Whatever else it has under way ends by itself.
            self.forget_session()
        operation.ended(operation, data, error)

    def forget_session(self) -> None:
        self.session_id = ""
        self.last_number = 0
        self.unanswered.clear()
        self.leases.clear()
        self.claims.clear()

    # --- life ------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Get a session, then an agent, then to work."""
        self.ask("OpenSession", pb.OpenSessionRequest(ttl_seconds=60), self._opened, write=False)

    def _opened(self, operation: Operation, data: bytes | None, error: CallError | None) -> None:
        if data is not None:
            self.session_id = pb.OpenSessionResponse.FromString(data).session_id
        self.soon()

    def soon(self) -> None:
        """Think, then do the next thing."""
        if not self.stopped:
            when_s = self.world.time_s + self.rng.uniform(*THINKING_S)
            self.world.at(self.world.beat(when_s), self._next)

    def _next(self) -> None:
        if self.stopped:
            return
        if self.session_id:
            self.next_task(self)
        elif not self.busy:
            self.begin()
        else:
            self.soon()

    # --- what it holds ---------------------------------------------------------------------------
    def agent(self) -> Agent | None:
        """One that is not dead, as far as it knows."""
        now_s = self.world.time_s
        self.agents = [agent for agent in self.agents if agent.alive_until_s > now_s]
        return self.rng.choice(self.agents) if self.agents else None

    def lost(self, agent_id: str) -> None:
        """An agent is gone, with all it holds."""
        self.agents = [agent for agent in self.agents if agent.agent_id != agent_id]
        for key, (holder, token) in list(self.leases.items()):
            if holder == agent_id:
                self.let_go(key, holder)
                self.old.append((key, holder, token))
        self.claims = {t: claim for t, claim in self.claims.items() if claim[0] != agent_id}

    def let_go(self, key: str, agent_id: str) -> None:
        """From now on it does not count on this lease."""
        self.leases.pop(key, None)
        self.world.checks.forget(key, agent_id)

    def hold(self, operation: Operation, agent_id: str, lease: pb.Lease) -> None:
        """It was told that an agent of its own has a lease, for a ttl from when it first asked."""
        key, token = lease.task_id, lease.token.value
        alive = [a.alive_until_s for a in self.agents if a.agent_id == agent_id]
        until_s = operation.first_sent_s + lease.ttl_seconds * (1 - 1.2 * MAX_DRIFT)
        until_s = min([until_s, *alive]) if alive else 0.0
        self.leases[key] = (agent_id, token)
        effect = self.world.checks.effects.get(operation.key)
        granted = getattr(effect.result, "lease", effect.result) if effect else None
        if not isinstance(granted, r.Lease) or granted.token != token:
            self.world.checks.violated(f"{self.name} was given token {token}, but has {granted}")
        self.world.checks.believe(key, agent_id, token, until_s)


def _in_vain(method: str, data: bytes) -> bool:
    """Whether the answer is that nothing was to be had."""
    if method == "AcquireLease":
        return not pb.AcquireLeaseResponse.FromString(data).acquired
    return method == "ClaimTask" and not data
