"""`python -m chaos.clients SPEC`: one client process, which works through the SDK until SIGTERM.

Then no actor begins a call any more, and each ends once its present one has; claimers first see to
it that no task is left, and watchers see all that the others have done. Nothing is deregistered or
released for the end: what was acknowledged is still there to be found, but for what ends by itself
without heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import uvloop

from agentkeeper import AsyncAgentKeeperClient
from chaos.clients.counts import Counter
from chaos.clients.site import Site, Stopping, history_path
from chaos.clients.spec import Spec
from chaos.clients.store import StoreClient
from chaos.history import Recorder
from chaos.workloads import LAST, WORKLOADS

ACTORS_PER_CLIENT = 8
LAST_GRACE_S = 8.0
CLOSE_TIMEOUT_S = 5.0

logger = logging.getLogger("chaos")


class Process:
    """The actors of one process, with what they share."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._recorder = Recorder(history_path(spec, spec.client), spec.client)
        self._counter = Counter(Path(spec.folder) / f"{spec.client}.counts")
        self._store = StoreClient(spec.store, spec.client)
        self._stopping = asyncio.Event()
        self._closing = asyncio.Event()
        self._clients: list[AsyncAgentKeeperClient] = []

    async def run(self) -> None:
        """Let everybody act until SIGTERM, and end."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        acting = [asyncio.create_task(_act(site)) for site in self._sites()]
        last = [asyncio.create_task(_act(site)) for site in self._sites(last=True)]
        await self._stopping.wait()
        await _end(acting, self._spec.grace_s)
        self._closing.set()
        await _end(last, LAST_GRACE_S)
        self._store.close()
        closing = [client.close() for client in self._clients]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*closing, return_exceptions=True)
        self._recorder.close()

    def _sites(self, *, last: bool = False) -> Iterator[Site]:
        names = [name for name in self._spec.workloads if (name in LAST) is last]
        places = [(name, number) for name in names for number in range(self._spec.workloads[name])]
        for place, (name, number) in enumerate(places):
            if place % ACTORS_PER_CLIENT == 0:
                client = AsyncAgentKeeperClient(
                    endpoints=self._spec.endpoints, timeout=self._spec.timeout_s
                )
                self._clients.append(client)
            yield Site(
                self._spec,
                name,
                number,
                client=client,
                recorder=self._recorder,
                counter=self._counter,
                store=self._store,
                stopping=self._closing if last else self._stopping,
            )


async def _act(site: Site) -> None:
    """Let an actor act until it ends, as it is told to; one that breaks off begins anew."""
    while True:
        try:
            await WORKLOADS[site.workload](site)
            return
        except Stopping:
            return
        except Exception as error:
            logger.exception("%s broke off", site.actor)
            site.record_broken(error)
        try:
            await site.pace()
        except Stopping:
            return


async def _end(acting: list[asyncio.Task[None]], grace_s: float) -> None:
    """Wait for actors to end, and cancel those that do not: their calls stay without an end."""
    if not acting:
        return
    _, late = await asyncio.wait(acting, timeout=grace_s)
    for actor in late:
        actor.cancel()
    await asyncio.gather(*acting, return_exceptions=True)


def main() -> None:
    """Run the process that the named file tells of."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    process = Process(Spec.load(Path(sys.argv[1])))
    uvloop.run(process.run())


if __name__ == "__main__":
    main()
