"""A client at the other end of a shared stream, for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.errors import CallError
from agentkeeper.server.exchange import Exchange

from .desk import Desk
from .helpers import settle, until

BLOB = "x" * 1_000


class Client:
    """A client at the other end of a stream; it takes what it is sent unless told not to."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.frames: list[pb.AnswerFrame] = []
        self.sizes: list[int] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.exchange = Exchange(desk.dispatcher, self.sent.get, self._take)
        self.running = asyncio.ensure_future(self.exchange.run())

    async def _take(self, data: bytes) -> None:
        self.frames.append(pb.AnswerFrame.FromString(data))
        self.sizes.append(len(data))
        await self.taking.wait()

    @property
    def answers(self) -> dict[int, pb.Answer]:
        return {answer.id: answer for frame in self.frames for answer in frame.answers}

    def send(self, *calls: pb.Call, cancelled: Any = ()) -> None:
        self.sent.put_nowait(pb.CallFrame(calls=calls, cancelled=cancelled).SerializeToString())

    async def ask(self, *calls: pb.Call) -> list[pb.Answer]:
        """Send calls in one frame and wait for their answers."""
        self.send(*calls)
        await until(lambda: all(call.id in self.answers for call in calls))
        return [self.answers[call.id] for call in calls]

    async def ended(self) -> CallError:
        with pytest.raises(CallError) as caught:
            await self.running
        return caught.value

    async def go(self) -> None:
        """The connection is gone."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def connected(desk: Desk | None = None) -> AsyncIterator[Client]:
    client = Client(desk or Desk())
    try:
        await until(lambda: bool(client.frames))
        yield client
    finally:
        await client.go()
        await settle()
        assert client.desk.calls == 0, "nothing goes on without the client"


def text(answer: pb.Answer) -> str:
    assert answer.WhichOneof("outcome") == "response", answer
    return pb.RegisterResponse.FromString(answer.response).agent_id


def failure(answer: pb.Answer) -> pb.CallFailure:
    assert answer.WhichOneof("outcome") == "failure", answer
    return answer.failure
