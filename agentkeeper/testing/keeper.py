"""The fake: a keeper and its clients on one event loop, whose time is moved by hand."""

from __future__ import annotations

import concurrent.futures
import contextlib
import inspect
import math
import random
import threading
import weakref
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import structlog

from agentkeeper import errors
from agentkeeper.client.core import Core
from agentkeeper.client.io_thread import IoThread
from agentkeeper.core import limits
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.commands import Announce
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.stack import Stack
from agentkeeper.testing import ending
from agentkeeper.testing.clock import HandMovedClock
from agentkeeper.testing.engine import InstantEngine
from agentkeeper.testing.loop import HandMovedLoop
from agentkeeper.testing.transport import InProcessTransport, OneEndpoint

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient, AsyncAgentKeeperClient

    AnyClient = AgentKeeperClient | AsyncAgentKeeperClient

    ClientT = TypeVar("ClientT", AgentKeeperClient, AsyncAgentKeeperClient)

T = TypeVar("T")

NODE_ID: Final = "fake"
ENDPOINT: Final = "fake-keeper:7070"
"""What clients take for the keeper's address. Nothing listens there."""
DEFAULT_TIMEOUT_S: Final = 30.0
WALL_START_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z, of which the seconds are counted that have passed."""
SEED: Final = 0


class FakeKeeper:
    """A keeper in this process, without network and disk. Time passes only by `advance`.

    All that depends on time follows its clock: on the keeper's side when agents, leases, claims and
    waits expire, on that of its clients heartbeats, renewals, timeouts and retries. The wall clock
    of its timestamps begins with the year 2026 and ids are drawn in a fixed order, so the same
    calls, one after the other, give the same answers in every run.

    May be used from any thread. A context manager: closes on exit. One that is collected with its
    clients, or outlives the program, without having been closed emits a ResourceWarning.
    """

    def __init__(self) -> None:
        _hand_logs_to_logging()
        self._loop = HandMovedLoop()
        self._io = IoThread(self._loop, self._loop.time)
        self._clients: list[tuple[AnyClient, Core, InProcessTransport]] = []
        self._closing = threading.Lock()
        self._failure = ""
        self._began_s = 0.0
        self._let_go = weakref.finalize(self, ending.let_go, self._io, self._loop)
        self._run(self._start())

    @property
    def now(self) -> float:
        """The seconds that have passed, by `advance`, since the keeper was made."""
        return self._loop.time() - self._began_s

    @property
    def calls_under_way(self) -> int:
        """How many calls the keeper has not answered yet, its watches counted.

        In a test, what tells that a call made on another thread has come to wait for something.
        """
        return self._around.calls.count

    def client(self, timeout: float = DEFAULT_TIMEOUT_S) -> AgentKeeperClient:
        """Return a new client of this keeper; `timeout` is that of its calls, in seconds.

        A call that has to wait for something (in line for a lease, for a task to claim) blocks its
        thread, as no time passes, until another thread makes that happen or calls `advance`.
        """
        from agentkeeper import AgentKeeperClient  # noqa: PLC0415 - as lazily as `agentkeeper` does

        return self._add(AgentKeeperClient, timeout)

    def async_client(self, timeout: float = DEFAULT_TIMEOUT_S) -> AsyncAgentKeeperClient:
        """Return a new asynchronous client of this keeper, for use in any event loop."""
        from agentkeeper import AsyncAgentKeeperClient  # noqa: PLC0415

        return self._add(AsyncAgentKeeperClient, timeout)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once; return when all that falls into them is done.

        Everything happens in order, at its own time. Only what runs on other threads and in other
        event loops (callbacks, handlers of tasks) is not waited for. 0 seconds just let everything
        happen that can happen now. Raises ValueError for a negative number, ClientClosed when the
        keeper is closed.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes forward, by a finite number of seconds: {seconds}")
        self._run(self._advance(seconds))

    def disconnect(self, client: AnyClient) -> None:
        """Cut `client` off: its calls and watches under way break, later ones reach nobody.

        As over a broken network, its calls are tried again until `reconnect` or until their timeout
        is over, for which time must pass: a call made by the thread that is to call `advance` needs
        `timeout=0`. Harmless when repeated. Raises ValueError if it is no client of this keeper.
        """
        self._run(self._call(self._transport_of(client).line.cut))

    def reconnect(self, client: AnyClient) -> None:
        """End what `disconnect` began. Calls that are being tried get through at once."""
        self._run(self._call(self._transport_of(client).line.mend))

    def close(self) -> None:
        """Close all clients, then end the keeper. Harmless when repeated."""
        with self._closing:
            if self._loop.is_closed():
                return
            with contextlib.suppress(errors.ClientClosed):
                for client, core, _ in self._clients:
                    if inspect.iscoroutinefunction(client.close):
                        self._run(core.close())  # it could only be awaited in its user's loop
                    else:
                        client.close()
                self._run(self._stop())
            self._let_go.detach()
            ending.stop_thread(self._io, self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FakeKeeper now={self.now:g}>"

    async def _start(self) -> None:
        drawn = random.Random(SEED)
        clock = HandMovedClock(self._loop, WALL_START_MS - limits.TAKEOVER_GRACE_MS)
        self._engine = InstantEngine(NODE_ID, self._loop)
        failed = weakref.WeakMethod(self._fail)  # or its own thread would keep the keeper alive

        def fail(reason: str) -> None:
            if (live := failed()) is not None:
                live(reason)

        stack = self._stack = Stack(
            node_id=NODE_ID,
            engine=self._engine,
            clock=clock,
            draw_id=lambda: f"{drawn.getrandbits(128):032x}",
            draw_attempt=lambda: drawn.getrandbits(52) + 1,
            fail=fail,
        )
        self._around = Surroundings(
            applied_index=lambda: stack.machine.applied_index,
            leader_endpoint=stack.leader_endpoint,
            count=lambda method: None,
            closing=stack.closing,
        )
        self._dispatcher = Dispatcher(self._stack.services(), self._around)
        self._loop.agenda = _Deadlines(self._stack, clock)
        self._engine.start(self._stack.listener)
        # The new leader's grace is over before anybody could notice it.
        await self._loop.move(limits.TAKEOVER_GRACE_MS / 1000)
        announcement = Announce(NODE_ID, ENDPOINT, version("agentkeeper"), ENCODING)
        await self._stack.replica.submit(announcement, Caller())
        self._began_s = self._loop.time()

    async def _stop(self) -> None:
        self._stack.refuse_calls()
        for _, _, transport in self._clients:
            transport.line.cut()
        await ending.end_tasks()
        self._engine.stop()
        await self._loop.shutdown_asyncgens()

    async def _advance(self, seconds: float) -> None:
        await self._loop.move(seconds)
        self._stack.proposer.tick()  # what is read next knows how late it is
        await self._loop.move(0)
        if self._failure:
            raise self._closed()

    async def _call(self, function: Callable[[], T]) -> T:
        return function()

    async def _new_core(self) -> tuple[Core, InProcessTransport]:
        transport = InProcessTransport(self._dispatcher, self._around)
        endpoints = OneEndpoint(ENDPOINT, transport.line)
        return Core(transport, endpoints, self._loop.time), transport

    def _add(self, face: type[ClientT], timeout: float) -> ClientT:
        core, transport = self._run(self._new_core())
        client = face._assembled(core, self._io, timeout)
        self._clients.append((client, core, transport))
        vars(client)["_fake_keeper"] = self  # which lives as long as any of its clients
        return client

    def _transport_of(self, client: AnyClient) -> InProcessTransport:
        for known, _, transport in self._clients:
            if known is client:
                return transport
        raise ValueError("not a client of this keeper")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop, for a thread that may wait for it."""
        if self._io.is_current():
            work.close()
            raise RuntimeError("the keeper's own thread must not wait for itself")
        future = None
        try:
            future = self._io.submit(work)
            return future.result()
        except (concurrent.futures.CancelledError, errors.ClientClosed):
            raise self._closed() from None
        except BaseException:
            if future is not None:
                future.cancel()
            raise

    def _closed(self) -> errors.ClientClosed:
        why = f" as it had failed: {self._failure}" if self._failure else ""
        return errors.ClientClosed(f"the keeper was closed{why}")

    def _fail(self, reason: str) -> None:
        """A bug: nothing can be decided any more, so nobody is to wait for it."""
        self._failure = self._failure or reason
        self._loop.agenda = None
        for _, _, transport in self._clients:
            transport.line.cut()
        threading.Thread(target=self.close, name="agentkeeper-failed", daemon=True).start()


class _Deadlines:
    """What the state has to do at some time; implements `Agenda`."""

    def __init__(self, stack: Stack, clock: HandMovedClock) -> None:
        self._stack = stack
        self._clock = clock

    def next_s(self) -> float | None:
        due_ms = self._stack.machine.state.next_due_ms()
        return None if due_ms is None else self._clock.loop_s(due_ms)

    def work_off(self) -> None:
        self._stack.tick()


def _hand_logs_to_logging() -> None:
    """Unless the program has decided otherwise: by itself structlog prints on standard output."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
