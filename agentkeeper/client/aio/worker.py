"""A worker: claims tasks for an agent, hands them to a function, reports what came of them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agentkeeper import errors
from agentkeeper.client.aio.concurrency import (
    AsyncBackground,
    AsyncFlag,
    AsyncLossSignal,
    Handler,
    ends_me,
    invoke,
    on_signals,
    run,
)
from agentkeeper.client.claims import Claims
from agentkeeper.client.holding import HeldClaim
from agentkeeper.types import Task

if TYPE_CHECKING:
    from agentkeeper.client.aio.client import AsyncAgentKeeperClient

REASON_BYTES = 2_000

T = TypeVar("T")

logger = logging.getLogger("agentkeeper")


class AsyncTaskHandle:
    """A claimed task in the hands of a worker's handler; the claim is extended meanwhile."""

    def __init__(self, held: HeldClaim) -> None:
        self._held = held
        self.task: Task = held.task
        self.lost = AsyncLossSignal(held.tenure)
        """Set when the claim can't be counted on any more: somebody else may have the task."""

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def type(self) -> str:
        """The task's type."""
        return self.task.type

    @property
    def input(self) -> bytes:
        """The task's input."""
        return self.task.input

    @property
    def token(self) -> int:
        """The claim's fencing token, for outside resources to compare."""
        return self.task.claim_token

    def check(self) -> None:
        """Raise ClaimLost unless the claim can be counted on at this moment. Asks nobody."""
        if not self._held.tenure.held:
            why = self.lost.reason or "it is done"
            raise errors.ClaimLost(f"task {self.id} is not claimed any more: {why}")

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id} {self.type!r}>"


class AsyncWorker:
    """Works on tasks, `concurrency` at a time, until it is told to stop.

    `run()` works until SIGTERM, SIGINT or `stop()`; as a context manager it works in the
    background until the block is left. Either way it then drains: it claims no more, and waits
    for the tasks in hand for `drain_timeout` seconds. What is not done by then is left to others.
    """

    def __init__(
        self,
        client: AsyncAgentKeeperClient,
        claims: Claims,
        handler: Handler[AsyncTaskHandle],
        concurrency: int,
        drain_timeout: float,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        self._client = client
        self._claims = claims
        self._handler = handler
        self._concurrency = concurrency
        self._drain_timeout = drain_timeout
        self._limit_s = client._limit(None)
        self._stop_asked = AsyncFlag()
        self._slots: list[AsyncBackground] = []
        self._started = self._stopped = False
        self._error: errors.AgentKeeperError | None = None

    @property
    def error(self) -> errors.AgentKeeperError | None:
        """What ended the worker other than `stop()`, if anything did: AgentLost, most likely."""
        return self._error

    async def run(self) -> None:
        """Work until told to stop, then drain. On the main thread SIGTERM and SIGINT tell it so.

        Raises AgentLost if the agent dies for good, ClientClosed if the client is closed, and
        whatever else makes it impossible to claim tasks.
        """
        with on_signals(self.stop):
            self._start()
            try:
                await self._stop_asked.wait()
                await self._drain()
            except BaseException:  # cancelled or interrupted: nobody is there to wait any more
                await self._abandon()
                raise
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Tell the worker to drain; returns at once. From any thread, or a signal handler."""
        self._stopped = True
        self._client._runner.post(self._claims.stop)
        self._stop_asked.set()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        await self._drain()
        if self._error is not None and error is None:
            raise self._error

    def _start(self) -> None:
        if self._started:
            raise RuntimeError("a worker runs once")
        self._started = True
        if not self._stopped:
            self._slots = [
                AsyncBackground(self._work, f"agentkeeper-worker-{number}")
                for number in range(self._concurrency)
            ]

    async def _drain(self) -> None:
        end_s = time.monotonic() + self._drain_timeout
        unfinished = [
            slot for slot in self._slots if not await slot.join(max(0.0, end_s - time.monotonic()))
        ]
        if unfinished:
            logger.warning("%d tasks were not done in time to stop", len(unfinished))
            await self._abandon()

    async def _abandon(self) -> None:
        """Leave what is not done to others."""
        with contextlib.suppress(errors.ClientClosed):
            await self._call(self._claims.abandon())
        for slot in self._slots:
            slot.abandon()

    async def _work(self) -> None:
        """Do one task after the other."""
        try:
            while (claim := await self._call(self._claims.next())) is not None:
                try:
                    await self._handle(claim)
                finally:
                    self._client._runner.post(partial(self._claims.done_with, claim))
        except errors.AgentKeeperError as error:
            self._error = self._error or error
        finally:
            self.stop()  # with one slot less, for a reason that others will meet too

    async def _handle(self, claim: HeldClaim) -> None:
        output, failure = await self._outcome(claim)
        if failure is not None and claim.tenure.lost:
            return None  # no failure of the task's: somebody else does it
        try:
            if failure is None:
                try:
                    return await self._call(claim.complete(output, self._limit_s))
                except errors.InvalidArgument as error:  # too large an output, most likely
                    failure = error
            await self._call(claim.fail(_text(failure), self._limit_s))
        except errors.ClientClosed:
            raise
        except errors.AgentKeeperError as error:
            # If it is not done, whoever gets it next does it.
            task_id = claim.task.id
            logger.warning("the outcome of task %s could not be reported: %s", task_id, error)

    async def _outcome(self, claim: HeldClaim) -> tuple[bytes, BaseException | None]:
        """What the handler makes of the task: its output, or how it failed."""
        try:
            output = await invoke(self._handler, AsyncTaskHandle(claim))
            if output is not None and not isinstance(output, bytes):
                raise TypeError(f"the handler returned {type(output).__name__}, not bytes or None")
        except BaseException as error:
            if ends_me(error):
                raise
            logger.warning("task %s has failed", claim.task.id, exc_info=True)
            return b"", error
        return output or b"", None

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return await run(self._client._runner, work)


def _text(error: BaseException) -> str:
    """The error as a task's failure reason can carry it."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # its own text is at fault too
        text = type(error).__name__
    printable = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return printable.encode(errors="replace")[:REASON_BYTES].decode(errors="ignore")
