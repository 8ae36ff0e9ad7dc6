"""A short load and its verdict."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentkeeper import AgentKeeperError, AsyncAgentKeeperClient

ENOUGH = 0.9
"""Share of the writes asked for that must get done."""
P99_MS_MAX = 500.0
LEASE_TTL_S = 60


class Load(NamedTuple):
    """What is asked of the cluster."""

    callers: int
    """How many call at a time."""
    rate: float
    """Writes begun a second; infinite: each caller goes on as soon as it has an answer."""
    expected: float
    """Writes a second that it takes to pass."""


LOADS = {
    "s": Load(20, 100.0, ENOUGH * 100),
    "m": Load(100, 1_000.0, ENOUGH * 1_000),
    "l": Load(200, math.inf, ENOUGH * 3_000),
}


@dataclass
class Result:
    """What came of a load."""

    load: Load
    seconds: float = 0.0
    took_ms: list[float] = field(default_factory=list)
    """Of every write that was answered."""
    failures: int = 0
    last_failure: str = ""

    @property
    def rate(self) -> float:
        """Writes a second."""
        return len(self.took_ms) / self.seconds if self.seconds else 0.0

    @property
    def problems(self) -> list[str]:
        """What it falls short of."""
        found = []
        if self.failures:
            found.append(f"{self.failures} calls failed; the last: {self.last_failure}")
        if self.rate < self.load.expected:
            found.append(f"{self.rate:.0f} writes/s are fewer than {self.load.expected:.0f}")
        p99_ms = quantile(self.took_ms, 0.99)
        if p99_ms > P99_MS_MAX:
            found.append(f"1% of the writes took longer than {p99_ms:.0f} ms")
        return found

    @property
    def passed(self) -> bool:
        """Whether it falls short of nothing."""
        return not self.problems

    def fields(self) -> dict[str, Any]:
        """Return the figures."""
        spread = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {
            "seconds": round(self.seconds, 1),
            "writes": len(self.took_ms),
            "failures": self.failures,
            "writes_per_second": round(self.rate, 1),
            **{f"{name}_ms": round(quantile(self.took_ms, q), 1) for name, q in spread.items()},
        }


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed; 0 for none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def measure(endpoints: Sequence[str], load: Load, duration_s: float, timeout_s: float) -> Result:
    """Put `load` on the cluster for `duration_s`. Raises what connecting raises."""
    return asyncio.run(_measure(endpoints, load, duration_s, timeout_s))


async def _measure(
    endpoints: Sequence[str], load: Load, duration_s: float, timeout_s: float
) -> Result:
    result = Result(load)
    async with AsyncAgentKeeperClient(endpoints=endpoints, timeout=timeout_s) as client:
        description = "agentkeeper check perf"
        async with client.register("check-perf", description, "", ttl=60) as agent:
            tag = uuid.uuid4().hex[:8]
            begin_s = time.monotonic()

            def write(number: int) -> Coroutine[Any, Any, None]:
                key = f"check-perf/{tag}/{number}"
                first_s = begin_s + number / load.rate
                caller = _Caller(client, agent.agent_id, key, result, begin_s + duration_s)
                return caller.run(first_s, load.callers / load.rate)

            await asyncio.gather(*map(write, range(load.callers)))
            result.seconds = time.monotonic() - begin_s
    return result


@dataclass
class _Caller:
    """Acquires and releases a lease of its own by turns."""

    client: AsyncAgentKeeperClient
    agent_id: str
    key: str
    result: Result
    end_s: float

    async def run(self, due_s: float, turn_s: float) -> None:
        """Begin a write at `due_s` and every `turn_s`, or as soon as the one before is done."""
        lease = None
        while (now_s := time.monotonic()) < self.end_s:
            if now_s < due_s:
                await asyncio.sleep(min(due_s, self.end_s) - now_s)
                continue
            if lease is None:
                lease = await self._timed(
                    self.client.acquire_lease(self.key, self.agent_id, LEASE_TTL_S)
                )
            else:
                await self._timed(lease.release())
                lease = None
            due_s += turn_s

    async def _timed(self, call: Any) -> Any:
        begin_s = time.monotonic()
        try:
            answer = await call
        except AgentKeeperError as error:
            self.result.failures += 1
            self.result.last_failure = str(error)
            return None
        self.result.took_ms.append((time.monotonic() - begin_s) * 1000)
        return answer
