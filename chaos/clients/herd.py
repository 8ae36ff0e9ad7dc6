"""`python -m chaos.clients.herd`: connections all at once, each for one call, again and again.

It is what a cluster sees when all of its clients have lost it and come back.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import Any

import click
import grpc

from chaos.clients.crowd import CHECK, check_method, connect, crowd

CALL_TIMEOUT_S = 10.0
PAUSE_S = 0.5
"""Between two waves: for what was closed to be gone."""


class Herd:
    """Waves of connections, each of which is opened, used once and closed."""

    def __init__(self, endpoints: list[str], count: int, seed: int) -> None:
        self._endpoints = endpoints
        self._count = count
        self._rng = random.Random(seed)
        self._waves = 0
        self._codes: Counter[str] = Counter()

    async def run(self) -> None:
        """Send one wave after another."""
        while True:
            targets = itertools.cycle(self._endpoints)
            await asyncio.gather(*(self._come(next(targets)) for _ in range(self._count)))
            self._waves += 1
            await asyncio.sleep(PAUSE_S * self._rng.random())

    async def _come(self, endpoint: str) -> None:
        channel = connect(endpoint)
        try:
            # It waits for its connection, as all come at once; a call that does not would fail.
            await check_method(channel)(CHECK, timeout=CALL_TIMEOUT_S, wait_for_ready=True)
            self._codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self._codes[error.code().name] += 1
        finally:
            await channel.close()

    def report(self) -> dict[str, Any]:
        """Waves that came to their end, and answers by status code."""
        return {"waves": self._waves, "codes": dict(self._codes)}


@click.command()
@click.option("--endpoints", required=True, help="host:port, separated by commas.")
@click.option("--count", default=2000, show_default=True, help="Connections at once.")
@click.option("--seconds", default=0.0, help="How long; until SIGTERM if not given.")
@click.option("--seed", default=1, show_default=True)
def main(endpoints: str, count: int, seconds: float, seed: int) -> None:
    """Connect all at once, call, disconnect, and again."""
    crowd(Herd(endpoints.split(","), count, seed), seconds)


if __name__ == "__main__":
    main()
