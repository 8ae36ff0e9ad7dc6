"""Fakes and small steps that several tests share."""

import asyncio
from collections.abc import Callable
from typing import Any

from agentkeeper.consensus.port import Outcome
from agentkeeper.core.codec import ENCODING, pack_batch, unpack_batch
from agentkeeper.core.commands import Batch, Command, Heartbeat, Register
from agentkeeper.core.records import DONE, Card, Result
from agentkeeper.server.errors import CallError
from agentkeeper.server.machine import Applied, Machine
from agentkeeper.server.messages import Forward, Forwarded
from agentkeeper.server.proposer import Proposer

FAR_S = 30.0
CARD = Card("agent", "", "", (), ("t",), ())


def soon(seconds: float = FAR_S) -> float:
    """A deadline on the loop's clock."""
    return asyncio.get_running_loop().time() + seconds


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    while not condition():  # noqa: ASYNC110  # nothing tells when
        await asyncio.sleep(0)


def command(number: int, session_id: str = "s") -> Command:
    return Command("", session_id, number, 0, Heartbeat(f"agent-{number}"))


def refusal_of(check: Callable[[], object]) -> CallError | None:
    """What a check refuses with, if it does."""
    try:
        check()
    except CallError as error:
        return error
    return None


def failing(reason: str) -> None:
    raise AssertionError(reason)


class Log:
    """A machine fed by hand, entry by entry."""

    def __init__(self) -> None:
        self.machine = Machine(on_failure=failing)
        self.applied: list[Applied] = []
        self.machine.on_applied.append(self.applied.append)
        self.time_ms = 1_000

    def put(self, *bodies: Any, later_ms: int = 0) -> list[Result]:
        """Apply commands without a session, and return their results."""
        self.time_ms += later_ms
        commands = tuple(Command("", "", 0, 0, body) for body in bodies)
        batch = Batch(self.time_ms, self.time_ms, commands)
        self.machine.deliver(self.machine.applied_index + 1, 1, pack_batch(batch, ENCODING))
        return list(self.applied[-1].results)

    def register(self, agent_id: str, *tools: str, ttl_ms: int = 3_600_000) -> None:
        self.put(Register(agent_id, CARD._replace(tools=tools), ttl_ms, 0))


class Around:
    """A proposer with an engine and links that only note what they are given."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.ended: list[Callable[[Outcome], None]] = []
        self.sent: list[tuple[str, Forward | Forwarded]] = []
        self.linked = True
        self.index = 0
        self.proposer = Proposer(
            self._propose, self._send, lambda: (1_000, 2_000), encoding=lambda: ENCODING
        )

    def _propose(self, payload: bytes, ended: Callable[[Outcome], None]) -> None:
        self.batches.append(payload)
        self.ended.append(ended)

    def proposed(self, outcome: Outcome, index: int = -1) -> None:
        """Tell how a batch that was proposed ended: the last, unless another is meant."""
        if self.ended:
            self.ended[index](outcome)

    def _send(self, node_id: str, message: Forward | Forwarded) -> bool:
        self.sent.append((node_id, message))
        return self.linked

    def submit(self, command: Command, seconds: float = FAR_S) -> "asyncio.Task[Result]":
        """Submit in the background."""
        return asyncio.ensure_future(self.proposer.submit(command, soon(seconds)))

    def commands(self, index: int = -1) -> list[int]:
        """Request numbers of a batch that was proposed."""
        return [c.number for c in unpack_batch(self.batches[index]).commands]

    def apply(self, payload: bytes, *results: Result) -> None:
        """The entry is committed and applied here."""
        batch = unpack_batch(payload)
        self.index += 1
        given = results or [DONE] * len(batch.commands)
        self.proposer.applied(Applied(self.index, 1, batch, given, []))

    def commit(self) -> None:
        """Apply the last batch, and tell its outcome."""
        self.apply(self.batches[-1])
        self.proposed(Outcome.COMMITTED)
