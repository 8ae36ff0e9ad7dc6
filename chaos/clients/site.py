"""What an actor of a workload works with: its client, its dice, its agent, and the record."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentkeeper import AsyncAgentHandle, AsyncAgentKeeperClient
from chaos.clients.counts import Counter
from chaos.clients.spec import ERA_S, Spec
from chaos.clients.store import StoreClient
from chaos.history import Recorded, Recorder

AGENT_TTLS_S = (6, 10, 20)
LONGEST_REST = 5.0
"""A rest is never longer than this many average ones."""


class Stopping(Exception):  # noqa: N818
    """No further call is to be begun: the process is to end."""


class Site:
    """One actor's place of work. It outlives what the actor does there, if that breaks off."""

    def __init__(
        self,
        spec: Spec,
        workload: str,
        number: int,
        *,
        client: AsyncAgentKeeperClient,
        recorder: Recorder,
        counter: Counter,
        store: StoreClient,
        stopping: asyncio.Event,
    ) -> None:
        """The actor is the one with this number among those of its workload in its process."""
        self.spec = spec
        self.workload = workload
        self.number = number
        self.actor = f"{workload}/{number}"
        self.client = client
        self.recorder = recorder
        self.store = store
        self.rng = random.Random(f"{spec.seed} {spec.client} {self.actor}")
        self.stopping = stopping
        self._counter = counter
        self._slots = spec.slots(workload)
        self._names = 0
        self._agent: AsyncAgentHandle | None = None
        self._finishing = False

    # ------------------------------------------------------------ names

    def own_name(self) -> str:
        """A name that nobody else has, nor had."""
        self._names += 1
        where = f"{self.spec.client}-{self.workload}-{self.number}"
        return f"{self.spec.mark}-{where}-{self._names}"

    def shared_name(self) -> str:
        """A name that actors of all processes draw from: of a few, others in each era."""
        era = (time.monotonic_ns() - self.spec.start_ns) // (ERA_S * 1_000_000_000)
        return f"{self.spec.mark}-{self.workload}-{self.rng.randrange(self._slots)}-{era}"

    # ------------------------------------------------------------ time

    async def pace(self) -> None:
        """Rest between two calls. Raises Stopping."""
        longest_s = LONGEST_REST * self.spec.pace_s
        await self.rest(min(longest_s, self.rng.expovariate(1 / self.spec.pace_s)))

    async def rest(self, seconds: float) -> None:
        """Rest for that long. Raises Stopping, also meanwhile."""
        if self._finishing:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        self._raise_if_stopping()

    def finish(self) -> None:
        """Go on although the process is to end, for what must not be left as it is."""
        self._finishing = True

    def _raise_if_stopping(self) -> None:
        if self.stopping.is_set() and not self._finishing:
            raise Stopping

    # ------------------------------------------------------------ calls

    @contextlib.contextmanager
    def call(self, call: str, key: str, *, waits: bool = False, **args: Any) -> Iterator[Recorded]:
        """Make one call of the SDK within this: it is recorded, errors of it are swallowed.

        Look at `ok` afterwards, and at `error`. `waits`: the call may be slow on purpose. Raises
        Stopping.
        """
        self._raise_if_stopping()
        begun_s = time.monotonic()
        with self.recorder.call(self.workload, self.actor, call, key, **args) as recorded:
            yield recorded
        latency_s = None if waits else time.monotonic() - begun_s
        self._counter.count(recorded.outcome, latency_s)

    def record_broken(self, error: Exception) -> None:
        """Record what no actor should meet, nor raise."""
        with self.recorder.call(self.workload, self.actor, "act", "") as recorded:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        self._counter.count(recorded.outcome, None)

    # ------------------------------------------------------------ the actor's agent

    async def agent(self, tools: Sequence[str] = ()) -> AsyncAgentHandle:
        """Return the actor's own agent, registered anew if it was lost. Raises Stopping."""
        while self._agent is None or self._agent.lost.is_set():
            name, ttl = self.own_name(), self.rng.choice(AGENT_TTLS_S)
            with self.call("register", name, tools=list(tools), ttl=ttl) as registered:
                self._agent = await self.client.register(
                    name, "An actor", "1", tools=tools, ttl=ttl
                )
                registered.value = {"agent": self._agent.agent_id}
            if not registered.ok:
                await self.pace()
        return self._agent

    def forget_agent(self) -> None:
        """The cluster knows it no more."""
        self._agent = None


def history_path(spec: Spec, client: str) -> Path:
    """Where a client's history is."""
    return Path(spec.folder) / f"{client}.jsonl"
