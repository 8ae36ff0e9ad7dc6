"""`python -m chaos.clients.shared_flood`: as many calls as it can on shared streams, none retried.

A call on such a stream costs its client a fraction of a gRPC call: so a few processes ask for more
than a cluster can do, however little time the machine has for them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import Counter
from typing import Any

import click
import grpc

from agentkeeper._pb import agentkeeper_pb2 as pb
from chaos.clients.counts import LATENCY_BOUNDS_S, latency_class, latency_of
from chaos.clients.crowd import SERVICE, connect, crowd

CALLS_PER_STREAM = 1000
FRAME_CALLS = 1000
TIMEOUT_MS = 10_000
AGAIN_S = 0.1
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class SharedFlood:
    """Writes, `count` at a time, each followed by the next once it is answered."""

    def __init__(self, endpoints: list[str], count: int) -> None:
        self._endpoints = endpoints
        self._count = count
        self._codes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._longest_s = 0.0
        self._streams_ended: Counter[str] = Counter()
        self._begun_s = time.monotonic()
        mark = f"flood{uuid.uuid4().hex[:8]}"
        policy = pb.Policy(
            id=mark, subject=mark, action="do", resource="it", effect=pb.POLICY_EFFECT_ALLOW
        )
        self._request = pb.SetPolicyRequest(policy=policy).SerializeToString()

    async def run(self) -> None:
        """Call, on streams to all endpoints in turn, without a rest."""
        targets = itertools.cycle(self._endpoints)
        left, streams = self._count, []
        while left > 0:
            streams.append(self._keep(next(targets), min(left, CALLS_PER_STREAM)))
            left -= CALLS_PER_STREAM
        self._begun_s = time.monotonic()
        await asyncio.gather(*streams)

    async def _keep(self, endpoint: str, count: int) -> None:
        while True:
            channel = connect(endpoint)
            try:
                await self._call_on(channel, count)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "BROKEN"
                self._streams_ended[code] += 1
            finally:
                await channel.close()
            await asyncio.sleep(AGAIN_S)

    async def _call_on(self, channel: grpc.aio.Channel, count: int) -> None:
        stream = channel.stream_stream(
            f"{SERVICE}.ExchangeService/Exchange",
            request_serializer=pb.CallFrame.SerializeToString,
            response_deserializer=pb.AnswerFrame.FromString,
        )(wait_for_ready=True)
        numbers = itertools.count(1)
        begun_s: dict[int, float] = {}
        wanted = count
        try:
            while True:
                while wanted:
                    frame = self._frame(numbers, min(wanted, FRAME_CALLS), begun_s)
                    wanted -= len(frame.calls)
                    await stream.write(frame)
                answers = await stream.read()
                if answers is grpc.aio.EOF:
                    return
                wanted += self._take(answers, begun_s)
        finally:
            stream.cancel()

    def _frame(
        self, numbers: itertools.count[int], count: int, begun_s: dict[int, float]
    ) -> pb.CallFrame:
        now_s, frame = time.monotonic(), pb.CallFrame()
        for call_id in itertools.islice(numbers, count):
            begun_s[call_id] = now_s
            frame.calls.add(
                id=call_id, method="SetPolicy", request=self._request, timeout_ms=TIMEOUT_MS
            )
        return frame

    def _take(self, frame: pb.AnswerFrame, begun_s: dict[int, float]) -> int:
        now_s = time.monotonic()
        for answer in frame.answers:
            latency_s = now_s - begun_s.pop(answer.id)
            self._codes[CODES[answer.failure.code]] += 1
            if answer.HasField("failure"):
                self._reasons[answer.failure.reason] += 1
            self._latencies[latency_class(latency_s)] += 1
            self._longest_s = max(self._longest_s, latency_s)
        return len(frame.answers)

    def report(self) -> dict[str, Any]:
        """Answers by status code and by reason, calls per second, and how long they took in ms."""
        seconds = time.monotonic() - self._begun_s
        return {
            "seconds": round(seconds, 1),
            "codes": dict(self._codes),
            "reasons": dict(self._reasons),
            "per_second": round(self._codes.total() / seconds, 1),
            "p50_ms": round(latency_of(self._latencies, 0.5) * 1000, 1),
            "p99_ms": round(latency_of(self._latencies, 0.99) * 1000, 1),
            "longest_ms": round(self._longest_s * 1000, 1),
            "streams_ended": dict(self._streams_ended),
        }


@click.command()
@click.option("--endpoints", required=True, help="host:port, separated by commas.")
@click.option("--count", default=5000, show_default=True, help="Calls under way at a time.")
@click.option("--seconds", default=0.0, help="How long; until SIGTERM if not given.")
def main(endpoints: str, count: int, seconds: float) -> None:
    """Call without a rest on shared streams, and retry nothing."""
    crowd(SharedFlood(endpoints.split(","), count), seconds)


if __name__ == "__main__":
    main()
