"""What tests of the SDK have in common: waiting for other threads, and ways that are not smooth."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import pytest

from agentkeeper import LeaseLost
from agentkeeper.client.transport import Failure
from agentkeeper.testing import FakeKeeper

PATIENCE_S = 30.0
LONG_S = 86_400
"""The ttl of agents whose heartbeats are not to matter."""


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Look until something true is seen, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            return pytest.fail(f"never seen: {what}; last: {seen!r}")
        time.sleep(0.001)


async def eventually_async(look: Callable[[], Any], what: str) -> Any:
    """As `eventually`, while the event loop runs."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            return pytest.fail(f"never seen: {what}; last: {seen!r}")
        await asyncio.sleep(0.001)


def background(call: Callable[..., Any], *args: Any, **keywords: Any) -> "Future[Any]":
    """Run a call that may block on a thread that does not outlive the tests."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **keywords))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def an_agent(client: Any, name: str = "agent", ttl: int = LONG_S, **card: Any) -> Any:
    return client.register(name, "", "1", ttl=ttl, **card)


def holder_of(keeper: FakeKeeper, key: str) -> tuple[str, int] | None:
    """Who holds a lease, and by which token, as the keeper knows it."""
    lease = keeper._stack.machine.state.leases.get(key)
    return None if lease is None else (lease.holder, lease.token)


class Way:
    """What becomes of a client's calls on their way to the fake keeper and back."""

    def __init__(self, client: Any) -> None:
        self.calls: Counter[str] = Counter()
        """Attempts so far, by method."""
        self.requests_lost: Counter[str] = Counter()
        """How many of the next attempts never arrive, by method."""
        self.answers_lost: Counter[str] = Counter()
        """How many of the next answers never arrive."""
        self.late_s: dict[str, float] = {}
        """How much later than given an answer arrives."""
        transport = client._core._caller.transport
        self._call = transport.call
        transport.call = self._carry

    async def _carry(
        self, endpoint: str, method: Any, request: Any, metadata: Any, timeout_s: float
    ) -> Any:
        loop, name = asyncio.get_running_loop(), method.name
        end_s = loop.time() + timeout_s
        late_s = self.late_s.get(name, 0.0)
        self.calls[name] += 1
        if self.requests_lost[name] > 0:
            self.requests_lost[name] -= 1
            await self._never(end_s)
        answer = await self._call(endpoint, method, request, metadata, timeout_s)
        if self.answers_lost[name] > 0:
            self.answers_lost[name] -= 1
            await self._never(end_s)
        if loop.time() + late_s > end_s:
            await self._never(end_s)
        await asyncio.sleep(late_s)
        return answer

    async def _never(self, end_s: float) -> None:
        await asyncio.sleep(end_s - asyncio.get_running_loop().time())
        raise Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time", unreachable=True)


class Suspended:
    """A client whose machine may sleep: its clock goes on meanwhile, its timers do not."""

    def __init__(self, keeper: FakeKeeper, client: Any) -> None:
        self._slept_s = 0.0
        client._core.clock = lambda: keeper._loop.time() + self._slept_s

    def sleep(self, seconds: float) -> None:
        self._slept_s += seconds


def is_held(lease) -> bool:
    """Whether its holder counts on it."""
    try:
        lease.check()
    except LeaseLost:
        return False
    return True


class Cast:
    """A client that holds, on a way that can be made worse, and another one that wants to."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.keeper = keeper
        self.client, self.rival = keeper.client(), keeper.client()
        self.way = Way(self.client)
        self.agent = an_agent(self.client, "holder")
        self.rival_agent = an_agent(self.rival, "rival")
        self.told = []

    def acquire(self, ttl=60, key="job", **options):
        held = self.client.acquire_lease(
            key, self.agent.agent_id, ttl, on_lost=self.told.append, **options
        )
        assert held is not None
        return held

    def rival_gets_it(self, key="job"):
        return self.rival.acquire_lease(key, self.rival_agent.agent_id) is not None


def renews_in_background(cast, lease, **options):
    """Begin to renew, and return once the request is on its way."""
    before = cast.way.calls["RenewLease"]
    renewing = background(lease.renew, **options)
    eventually(lambda: cast.way.calls["RenewLease"] > before, "a renewal under way")
    return renewing
