"""Services whose calls a test answers by hand, behind a dispatcher."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core.commands import Command, Heartbeat
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.errors import bad_field, unavailable
from agentkeeper.server.services.method import Method, Stream, Subscription, Unary

from .helpers import FAR_S, Around, soon

Request = pb.GetAgentRequest


class Desk:
    """`Echo` answers at once, `Block` when a test says so, `Write` when its command is applied.

    `Wait` is as `Block`, and says that it may be long.
    """

    def __init__(self) -> None:
        self.around = Around()
        self.around.proposer.lead()
        self.counted: Counter[str] = Counter()
        self.leader = "a:1"
        self.index = 7
        self.closing = asyncio.Event()
        self.begun: list[str] = []
        self.callers: list[Caller] = []
        self.cancelled: list[str] = []
        self.blocked: dict[str, asyncio.Future[str]] = {}
        self.closed = 0
        self.surroundings = Surroundings(
            applied_index=lambda: self.index,
            leader_endpoint=lambda: self.leader,
            count=self._count,
            closing=self.closing,
        )
        self.dispatcher = Dispatcher(self.services(), self.surroundings)

    def services(self) -> dict[str, list[Method]]:
        unary = {
            "Echo": self.echo,
            "Block": self.block,
            "Refuse": self.refuse,
            "Break": self.broken,
            "Write": self.write,
            "InTime": self.in_time,
        }
        waits = Unary("Wait", Request, self.block, lambda request: request.agent_id != "no")
        return {
            "One": [waits, *(Unary(name, Request, handle) for name, handle in unary.items())],
            "Two": [Stream("Follow", Request, self.follow)],
        }

    def _count(self, name: str) -> None:
        self.counted[name] += 1

    @property
    def calls(self) -> int:
        """Calls under way."""
        return self.surroundings.calls.count

    async def echo(self, request: pb.GetAgentRequest, caller: Caller) -> pb.RegisterResponse:
        self.callers.append(caller)
        return pb.RegisterResponse(agent_id=request.agent_id)

    async def block(self, request: pb.GetAgentRequest, caller: Caller) -> pb.RegisterResponse:
        name = request.agent_id
        self.begun.append(name)
        self.blocked[name] = asyncio.get_running_loop().create_future()
        try:
            return pb.RegisterResponse(agent_id=await self.blocked[name])
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def refuse(self, request: pb.GetAgentRequest, caller: Caller) -> pb.RegisterResponse:
        raise bad_field(request.agent_id, "no good")

    async def broken(self, request: pb.GetAgentRequest, caller: Caller) -> pb.RegisterResponse:
        raise ZeroDivisionError

    async def write(self, request: pb.GetAgentRequest, caller: Caller) -> pb.RegisterResponse:
        command = Command("", "s", caller.number, 0, Heartbeat(request.agent_id))
        await self.around.proposer.submit(command, soon(FAR_S))
        return pb.RegisterResponse(agent_id=request.agent_id)

    async def in_time(self, request: pb.GetAgentRequest, caller: Caller) -> pb.RegisterResponse:
        try:
            async with asyncio.timeout_at(caller.deadline_s):
                return await self.block(request, caller)
        except TimeoutError:
            raise unavailable("nobody there") from None

    async def follow(self, request: pb.GetAgentRequest, caller: Caller) -> Subscription:
        if request.agent_id == "refused":
            raise bad_field("topics", "no good")
        return Subscription(self._events(request.agent_id), 5)

    async def _events(self, kind: str) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            if kind == "cut":
                raise unavailable("cut")
            if kind == "broken":
                raise ZeroDivisionError
        finally:
            self.closed += 1


def request(name: str) -> bytes:
    """An encoded request of any of the desk's methods."""
    return Request(agent_id=name).SerializeToString()


def call(call_id: int, method: str, name: str = "", **fields: Any) -> pb.Call:
    """A call of one of the desk's methods."""
    return pb.Call(id=call_id, method=method, request=request(name), **fields)
