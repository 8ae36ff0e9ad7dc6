# Made from agentkeeper/client/aio/client.py by tools/make_sync.py: edit that one.
"""The clients' face: connecting, and what lasts longer than a call."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import holding, leading
from agentkeeper.client.buffer import EventBuffer
from agentkeeper.client.claims import Claims
from agentkeeper.client.convert import name_conflict_to
from agentkeeper.client.core import Core
from agentkeeper.client.embedded import EmbeddedDaemon
from agentkeeper.client.endpoints import DEFAULT_PORT, Endpoints
from agentkeeper.client.grpc_transport import StreamTransport
from agentkeeper.client.io_thread import IoThread
from agentkeeper.client.presence import KeptAgent
from agentkeeper.client.runner import Runner
from agentkeeper.client.sync.administration import Administration
from agentkeeper.client.sync.concurrency import (
    Callback,
    Handler,
    entering,
    entering_if_any,
    in_thread,
    invoke,
    run,
)
from agentkeeper.client.sync.events import EventStream, Subscription
from agentkeeper.client.sync.handles import AgentHandle, Leadership, LeaseHandle
from agentkeeper.client.sync.operations import Operations
from agentkeeper.client.sync.worker import TaskHandle, Worker
from agentkeeper.client.watch import EventFeed
from agentkeeper.types import ElectionState, WatchEvent, WatchGap

DEFAULT_TIMEOUT_S = 30.0


class AgentKeeperClient(Administration, Operations):
    """A client of one daemon or of a cluster of them.

    May be used from any number of threads and event loops at a time. What it does by itself
    (heartbeats, renewals, watches) happens on a thread of its own, which user code can't hold up.

    Every method takes `timeout=`, the seconds after which it gives up; None, the default, means
    the client's own `timeout` (30 unless given otherwise), `math.inf` for ever. Within it a replica
    that is down, hangs or has no leader is left for another one, and a call that is repeated
    takes effect once. All methods raise the errors of `agentkeeper.errors`: Refused and its kinds
    for what the cluster refuses, Unavailable or OutcomeUnknown when time runs out, ClientClosed.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = DEFAULT_PORT,
        *,
        endpoints: Sequence[str] | str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Connect to the daemon at `host` and `port`, or to a cluster's `endpoints`.

        `endpoints` are "host:port", in a sequence or in one string with commas. Connections are
        opened when first needed. Raises ValueError for a malformed endpoint.
        """
        if endpoints is None:
            endpoints = [f"{host}:{port}"]
        elif isinstance(endpoints, str):
            endpoints = [part for part in endpoints.split(",") if part.strip()]
        runner = Runner()
        core = Core(StreamTransport(), Endpoints(endpoints, time.monotonic), runner.clock)
        self._set_up(core, runner, timeout)

    @classmethod
    def _assembled(cls, core: Core, io: IoThread, timeout: float) -> Self:
        """Return a client of another making: `core` runs on `io`."""
        client = cls.__new__(cls)
        client._set_up(core, Runner(io), timeout)
        return client

    def _set_up(self, core: Core, runner: Runner, timeout: float) -> None:
        self._core = core
        self._runner = runner
        self._timeout = timeout
        self._daemon: EmbeddedDaemon | None = None

    @classmethod
    @entering
    def embedded(
        cls,
        binary: str | os.PathLike[str] | None = None,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Start a daemon of one's own and return a client of it; closing stops the daemon.

        The daemon is `binary`, or what AGENTKEEPER_BIN names, or `agentkeeper` on the PATH, or
        ./daemon/agentkeeper, or the one installed with this package. It listens on a free
        loopback port unless `port` is given, and forgets everything when it stops unless
        `data_dir` is. Raises FileNotFoundError when there is no daemon, RuntimeError, showing the
        end of its log, when it does not start.
        """
        daemon = in_thread(lambda: EmbeddedDaemon(binary, port, data_dir))
        client = cls("127.0.0.1", daemon.port)
        client._daemon = daemon
        # Also when nobody closes the client: when it is collected or the interpreter exits.
        weakref.finalize(client, _stop_aside, daemon, client._runner)
        return client

    def close(self) -> None:
        """End calls and an embedded daemon; agents and leases stay. Harmless when repeated."""
        try:
            in_thread(lambda: self._runner.close(self._core.close()))
        finally:
            if self._daemon is not None:
                in_thread(self._daemon.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ what is held

    @entering
    def register(  # noqa: PLR0917 - as published
        self,
        name: str,
        description: str,
        version: str,
        tools: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl: int = 30,
        *,
        on_name_conflict: Literal["coexist", "replace", "reject"] = "coexist",
        reregister: bool = False,
        on_lost: Callback[AgentHandle] | None = None,
        timeout: float | None = None,
    ) -> AgentHandle:
        """Register an agent and keep it alive until it is deregistered or this client closes.

        A heartbeat is sent every max(1, ttl // 2) seconds. An agent that is silent for `ttl`
        seconds is UNREACHABLE, after as long again DEAD; with `reregister` it then registers
        itself again, under a new id, unless another agent has superseded it. `on_lost` is called
        with the handle when it is DEAD for good.

        Agents of one name coexist, unless told to "replace" those there are, which are thereby
        superseded, or to "reject" the new one, which raises AlreadyExists.
        """
        request = pb.RegisterRequest(
            card=pb.AgentCard(
                name=name, description=description, version=version, tools=tools, metadata=metadata
            ),
            ttl_seconds=ttl,
            on_name_conflict=name_conflict_to(on_name_conflict),
        )
        registering = KeptAgent.register(
            self._core, request, self._limit(timeout), reregister=reregister
        )
        kept = run(self._runner, registering, KeptAgent.undo)
        return AgentHandle(self, kept, on_lost)

    @entering_if_any
    def acquire_lease(
        self,
        task_id: str,
        agent_id: str,
        ttl: int = 60,
        *,
        wait: float = 0.0,
        exclusive: bool = False,
        keep_alive: bool = False,
        on_lost: Callback[LeaseHandle] | None = None,
        timeout: float | None = None,
    ) -> LeaseHandle | None:
        """Acquire the exclusive lease on `task_id` for `ttl` seconds; None if it is held.

        With `wait`, stand in line for up to that many seconds, first come first served; the
        default timeout is then longer by as much. With `keep_alive` it is renewed in the
        background until it is released. `on_lost` is called with the handle when the lease can't
        be counted on any more, and no later than this client's own clock says so.

        The holder acquiring again gets a new, higher token, and its former handle is stale;
        `exclusive` gives it None instead. Raises NotFound if the agent is unknown or DEAD.
        """
        limit_s = self._limit(timeout) + (wait if timeout is None else 0.0)
        acquiring = holding.acquire(
            self._core,
            task_id,
            agent_id,
            ttl,
            wait_s=wait,
            exclusive=exclusive,
            keep_alive=keep_alive,
            timeout_s=limit_s,
        )
        held = run(self._runner, acquiring, holding.undo)
        return None if held is None else LeaseHandle(self, held, on_lost)

    @entering
    def lead(
        self,
        group: str,
        agent: AgentHandle,
        *,
        on_lost: Callback[Leadership] | None = None,
        timeout: float | None = None,
    ) -> Leadership:
        """Campaign for a group, wait until `agent` leads it, and return its leadership.

        Waits for ever unless `timeout` is given; then raises Unavailable (DEADLINE_EXCEEDED) and
        is no candidate any more. `on_lost` is called with the leadership when it is lost. Raises
        AgentLost if the agent dies meanwhile.
        """
        limit_s = math.inf if timeout is None else timeout
        campaigning = leading.lead(self._core, group, agent._kept, limit_s)
        held = run(self._runner, campaigning, leading.HeldLeadership.undo)
        return Leadership(self, held, on_lost)

    def worker(
        self,
        agent: AgentHandle,
        handler: Handler[TaskHandle],
        *,
        concurrency: int = 1,
        drain_timeout: float = 30.0,
    ) -> Worker:
        """Return a worker that claims tasks for `agent` and hands them to `handler`.

        What the handler returns (bytes or None) is the task's output; what it raises is its
        failure. Claims are extended while it runs. `run()` the worker, or enter it.
        """
        return Worker(self, Claims(self._core, agent._kept), handler, concurrency, drain_timeout)

    # ------------------------------------------------------------ events

    @entering
    def watch(
        self,
        topics: Sequence[str],
        callback: Callback[WatchEvent],
        *,
        after: int | None = None,
        on_gap: Callback[WatchGap] | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Call `callback`, in the background, for every event of the topics (prefixes).

        No topics means all. The subscription is live on return, and goes on at another replica,
        without gap or repeat, when one is lost. With `after`, it begins after that sequence
        number. Where events are no longer kept, `on_gap` is called in their place and the
        watch goes on with what there is; without `on_gap`, an `after` that is too old raises
        Compacted. `timeout` bounds the subscribing only.
        """

        def open_feed() -> Coroutine[Any, Any, EventFeed]:
            return self._core.watch(
                topics, after, self._limit(timeout), gap_is_error=on_gap is None
            )

        stream = self._stream(open_feed, on_gap).opened()
        return Subscription(stream, callback, on_gap)

    @entering
    def watch_election(
        self,
        group: str,
        callback: Callback[ElectionState],
        *,
        after: int | None = None,
        on_gap: Callback[WatchGap] | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Call `callback` with the group's present state, if any, and at every change of leader.

        With `after`, only changes after that sequence number; where those are no longer kept,
        the present state. Else as `watch`.
        """

        def deliver(event: WatchEvent) -> None:
            if isinstance(event.payload, ElectionState):
                invoke(callback, event.payload)

        def open_feed() -> Coroutine[Any, Any, EventFeed]:
            return self._core.watch_election(
                group, after, self._limit(timeout), gap_is_error=on_gap is None
            )

        stream = self._stream(open_feed, on_gap).opened()
        return Subscription(stream, deliver, on_gap)

    def events(
        self,
        topics: Sequence[str] = (),
        *,
        after: int | None = None,
        on_gap: Callback[WatchGap] | None = None,
        timeout: float | None = None,
    ) -> EventStream:
        """Return the events of the topics (prefixes) as an iterator, and context manager.

        No topics means all. With `after`, it begins after that sequence number; otherwise with
        what happens once it is live, for which entering it waits. Where events are no longer
        kept, `on_gap` is called and the stream goes on with what there is; without `on_gap`, the
        iteration raises Compacted. `timeout` bounds the subscribing only.
        """

        def open_feed() -> Coroutine[Any, Any, EventFeed]:
            return self._core.watch(topics, after, self._limit(timeout), gap_is_error=False)

        return self._stream(open_feed, on_gap)

    def _stream(
        self,
        open_feed: Callable[[], Coroutine[Any, Any, EventFeed]],
        on_gap: Callback[WatchGap] | None,
    ) -> EventStream:
        opening = EventBuffer.of(open_feed, self._core.background)
        return EventStream(self._runner, opening, on_gap)


def _stop_aside(daemon: EmbeddedDaemon, runner: Runner) -> None:
    """Stop a daemon, which takes a while: not on the I/O thread, where the collector may run."""
    if runner.on_io_thread:
        threading.Thread(target=daemon.stop, name="agentkeeper-stop").start()
    else:
        daemon.stop()
