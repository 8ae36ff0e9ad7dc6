"""Calls on one shared stream, over raw gRPC: frames sent as a test likes, answers in the open."""

from __future__ import annotations

import itertools
import queue
from typing import Any

import grpc
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client.methods import Method

from .waiting import PATIENCE_S, background, eventually

PATH = "/agentkeeper.v1.ExchangeService/Exchange"


class SharedStream:
    """A stream that is read in the background unless `reading` is False; open on return."""

    def __init__(self, channel: Any, *, reading: bool = True) -> None:
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self._stream = channel.stream_stream(PATH, response_deserializer=pb.AnswerFrame.FromString)(
            iter(self._frames.get, None)
        )
        self.frames: list[pb.AnswerFrame] = [next(self._stream)]
        self.answers: dict[int, pb.Answer] = {}
        self._reading = background(self._read) if reading else None

    def _read(self) -> None:
        for frame in self._stream:
            self.frames.append(frame)
            self.answers.update((answer.id, answer) for answer in frame.answers)

    def send(self, *calls: pb.Call, cancelled: Any = ()) -> None:
        """Send one frame."""
        self.send_bytes(pb.CallFrame(calls=calls, cancelled=cancelled).SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        self._frames.put(data)

    def new(self, method: Method | str, request: Any = None, **fields: Any) -> pb.Call:
        """A call under an id of its own, to be sent."""
        name = method if isinstance(method, str) else method.name
        data = b"" if request is None else request.SerializeToString()
        return pb.Call(id=next(self._ids), method=name, request=data, **fields)

    def begin(self, method: Method | str, request: Any = None, **fields: Any) -> int:
        """Send a call in a frame of its own; its id."""
        call = self.new(method, request, **fields)
        self.send(call)
        return call.id

    def answer(self, call_id: int) -> pb.Answer:
        """Wait for an answer."""

        def look() -> pb.Answer | None:
            if call_id not in self.answers and self._reading is not None and self._reading.done():
                pytest.fail(f"the stream ended without an answer: {self._reading}")
            return self.answers.get(call_id)

        return eventually(look, f"the answer of call {call_id}")

    def call(self, method: Method, request: Any, **fields: Any) -> Any:
        """Call and wait for the response."""
        answer = self.answer(self.begin(method, request, **fields))
        assert answer.WhichOneof("outcome") == "response", answer
        return method.response.FromString(answer.response)

    def refusal(self, method: Method | str, request: Any = None, **fields: Any) -> pb.CallFailure:
        """Call and wait to be refused."""
        return self.failure(self.begin(method, request, **fields))

    def failure(self, call_id: int) -> pb.CallFailure:
        """Wait for a call to fail."""
        answer = self.answer(call_id)
        assert answer.WhichOneof("outcome") == "failure", answer
        return answer.failure

    def settle(self) -> None:
        """Wait until the replica has taken all frames that were sent."""
        self.answer(self.begin("Status"))

    @property
    def leader_endpoint(self) -> str:
        """Where the leader is, as told last."""
        told = [f.leader_endpoint for f in list(self.frames) if f.HasField("leader_endpoint")]
        return told[-1]

    def close(self) -> None:
        """Send no more."""
        self._frames.put(None)

    def cancel(self) -> None:
        """Go away without a word."""
        self._stream.cancel()
        self.close()

    def ended(self) -> grpc.RpcError | None:
        """Wait for the server to end the stream; how it did, None if well."""
        if self._reading is None:
            self._reading = background(self._read)
        error = self._reading.exception(PATIENCE_S)
        assert error is None or isinstance(error, grpc.RpcError), error
        return error
