"""`python -m chaos.clients.flood`: as many calls as it can, nothing retried.

So many calls are always under way, each answered or refused before the next one takes its place:
the daemon is given more than it can take, if the concurrency is above what it allows.
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
from chaos.clients.crowd import CHECK, check_method, connect, crowd, method

TIMEOUT_S = 10.0
CALLS_PER_CONNECTION = 50
UNREACHABLE_PAUSE_S = 0.1
TOOL = "nobody has this"


class Flood:
    """Calls of one kind, `concurrency` at a time."""

    def __init__(self, endpoints: list[str], concurrency: int, call: str) -> None:
        self._endpoints = endpoints
        self._concurrency = concurrency
        self._call = call
        self._mark = f"flood{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count()
        self._codes: Counter[str] = Counter()
        self._latencies: dict[str, list[int]] = {}
        self._longest_s = 0.0
        self._begun_s = time.monotonic()

    async def run(self) -> None:
        """Call, on connections to all endpoints in turn, without a rest."""
        callers = []
        targets = itertools.cycle(self._endpoints)
        for number in range(self._concurrency):
            if number % CALLS_PER_CONNECTION == 0:
                channel = connect(next(targets))
            callers.append(self._call_on(channel))
        self._begun_s = time.monotonic()
        await asyncio.gather(*callers)

    async def _call_on(self, channel: grpc.aio.Channel) -> None:
        stub = self._stub(channel)
        while True:
            begun_s = time.monotonic()
            try:
                await stub(self._request(), timeout=TIMEOUT_S)
                code = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                code = error.code()
            self._count(code.name, time.monotonic() - begun_s)
            if code is grpc.StatusCode.UNAVAILABLE:
                await asyncio.sleep(UNREACHABLE_PAUSE_S)  # a refused connection costs no time

    def _stub(self, channel: grpc.aio.Channel) -> Any:
        match self._call:
            case "check":
                return check_method(channel)
            case "set":
                path = "EntitlementsService/SetPolicy"
                return method(channel, path, pb.SetPolicyRequest, pb.SetPolicyResponse)
            case "create":
                path = "TaskService/CreateTask"
                return method(channel, path, pb.CreateTaskRequest, pb.CreateTaskResponse)
        raise ValueError(f"no such call: {self._call}")

    def _request(self) -> Any:
        number = next(self._numbers)
        match self._call:
            case "set":  # of one subject only, lest all that is looked at grows
                policy = pb.Policy(
                    id=self._mark,
                    subject=self._mark,
                    action="do",
                    resource=f"{number}",
                    effect=pb.POLICY_EFFECT_ALLOW,
                )
                return pb.SetPolicyRequest(policy=policy)
            case "create":
                name = f"{self._mark}-{number}"
                return pb.CreateTaskRequest(type=name, required_tools=[TOOL])
        return CHECK

    def _count(self, code: str, latency_s: float) -> None:
        self._codes[code] += 1
        self._longest_s = max(self._longest_s, latency_s)
        classes = self._latencies.setdefault(code, [0] * (len(LATENCY_BOUNDS_S) + 1))
        classes[latency_class(latency_s)] += 1

    def report(self) -> dict[str, Any]:
        """Answers by status code, calls per second, and latencies of each code in ms."""
        seconds = time.monotonic() - self._begun_s
        latencies_ms = {
            code: {
                "p50": round(latency_of(classes, 0.5) * 1000, 1),
                "p99": round(latency_of(classes, 0.99) * 1000, 1),
            }
            for code, classes in self._latencies.items()
        }
        return {
            "seconds": round(seconds, 1),
            "codes": dict(self._codes),
            "per_second": round(self._codes.total() / seconds, 1),
            "latencies_ms": latencies_ms,
            "longest_ms": round(self._longest_s * 1000, 1),
        }


@click.command()
@click.option("--endpoints", required=True, help="host:port, separated by commas.")
@click.option("--count", default=500, show_default=True, help="Calls under way at a time.")
@click.option("--call", type=click.Choice(["check", "set", "create"]), default="set")
@click.option("--seconds", default=0.0, help="How long; until SIGTERM if not given.")
def main(endpoints: str, count: int, call: str, seconds: float) -> None:
    """Call without a rest, and retry nothing."""
    crowd(Flood(endpoints.split(","), count, call), seconds)


if __name__ == "__main__":
    main()
