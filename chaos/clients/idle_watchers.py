"""`python -m chaos.clients.idle_watchers`: watches of everything that are opened and never read.

Whatever they are sent stays in the buffers of the network, and then in those of the daemon.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import click
import grpc

from agentkeeper._pb import agentkeeper_pb2 as pb
from chaos.clients.crowd import SERVICE, connect, crowd

OPEN_TIMEOUT_S = 30.0
AGAIN_S = 0.5


class IdleWatchers:
    """Watches, each with a connection of its own; one that the daemon ends is opened anew."""

    def __init__(self, endpoints: list[str], count: int) -> None:
        self._endpoints = endpoints
        self._count = count
        self._open = 0
        self._opened = 0
        self._ended: dict[str, int] = {}

    async def run(self) -> None:
        """Keep all of them open."""
        targets = itertools.cycle(self._endpoints)
        await asyncio.gather(*(self._keep(next(targets)) for _ in range(self._count)))

    async def _keep(self, endpoint: str) -> None:
        while True:
            channel = connect(endpoint)
            try:
                await self._sit(channel)
            finally:
                await channel.close()
            await asyncio.sleep(AGAIN_S)

    async def _sit(self, channel: grpc.aio.Channel) -> None:
        """Open one and do nothing until it is ended."""
        call = channel.unary_stream(
            f"{SERVICE}.RegistryService/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.Event.FromString,
        )(pb.WatchRequest(), wait_for_ready=True)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await call.initial_metadata()
        except TimeoutError:
            call.cancel()
            self._count_end("NEVER_OPENED")
            return
        except grpc.aio.AioRpcError as error:
            self._count_end(error.code().name)
            return
        self._opened += 1
        self._open += 1
        try:
            self._count_end((await call.code()).name)
        finally:
            self._open -= 1

    def _count_end(self, code: str) -> None:
        self._ended[code] = self._ended.get(code, 0) + 1

    def report(self) -> dict[str, Any]:
        """How many were opened, and how often the daemon ended one, by status code."""
        return {"opened": self._opened, "ended": self._ended}


@click.command()
@click.option("--endpoints", required=True, help="host:port, separated by commas.")
@click.option("--count", default=50, show_default=True, help="Watches.")
@click.option("--seconds", default=0.0, help="How long; until SIGTERM if not given.")
def main(endpoints: str, count: int, seconds: float) -> None:
    """Open watches, and read none of them."""
    crowd(IdleWatchers(endpoints.split(","), count), seconds)


if __name__ == "__main__":
    main()
