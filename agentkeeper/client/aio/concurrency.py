"""How the async face waits, calls back and runs things: on the user's own event loop.

`agentkeeper.client.sync.concurrency` has the same names for threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar

from agentkeeper import errors
from agentkeeper.client.runner import Runner, Undo
from agentkeeper.client.tenure import Tenure

P = ParamSpec("P")
T = TypeVar("T")
EnteredT = TypeVar("EnteredT", bound="_Enterable")

logger = logging.getLogger("agentkeeper")


async def run(runner: Runner, work: Coroutine[Any, Any, T], undo: Undo[T] | None = None) -> T:
    """Run `work` on the I/O thread and return what it returns; cancelling cancels it.

    Raises what it raises, and ClientClosed if the client is closed meanwhile. `undo` gets what it
    has returned if the cancelling came too late.
    """
    cancelled_before = _cancelled()
    future = runner.start(work, undo)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if future.cancelled() and _cancelled() == cancelled_before:
            raise _closed() from None
        runner.give_up(future, undo)
        raise


class AsyncBegun(Generic[T]):
    """Work under way on the I/O thread. Whoever stops waiting for it may wait again."""

    def __init__(self, runner: Runner, work: Coroutine[Any, Any, T]) -> None:
        self._runner = runner
        self._future = runner.start(work)
        self._here: dict[asyncio.AbstractEventLoop, asyncio.Future[T]] = {}
        """As awaited in each event loop: one for all who wait there."""

    async def result(self) -> T:
        """What the work returns. Raises as `run` does; cancelling does not end the work."""
        cancelled_before = _cancelled()
        loop = asyncio.get_running_loop()
        here = self._here.get(loop)
        if here is None:
            here = self._here[loop] = asyncio.wrap_future(self._future)
        try:
            return await asyncio.shield(here)
        except asyncio.CancelledError:
            if self._future.cancelled() and _cancelled() == cancelled_before:
                raise _closed() from None
            raise

    def undo(self, undo: Undo[T]) -> None:
        """Cancel the work; if it has a result already, `undo` gets it. On any thread."""
        self._runner.give_up(self._future, undo)

    def await_if_blocking(self) -> None:
        """Nothing to do here: this face never blocks."""


def _cancelled() -> int:
    """How often the running task was asked to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _closed() -> errors.ClientClosed:
    return errors.ClientClosed("the client was closed during the call")


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that blocks."""
    return await asyncio.to_thread(function)


async def invoke(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user's, which may be a coroutine function."""
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def notifier(function: Callable[[T], object], argument: T) -> Callable[[], None]:
    """Return what makes `function(argument)` be called in the loop that runs now."""
    loop = asyncio.get_running_loop()

    async def call() -> None:
        try:
            await invoke(function, argument)
        except Exception:
            logger.exception("a callback raised")

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(lambda: _keep(loop.create_task(call())))

    return notify


_kept: set[asyncio.Task[Any]] = set()


def _keep(task: asyncio.Task[Any]) -> None:
    """The loop itself holds tasks weakly."""
    _kept.add(task)
    task.add_done_callback(_kept.discard)


def ends_me(error: BaseException) -> bool:
    """Whether what came out of a function of the user's is meant for whoever runs it."""
    if isinstance(error, asyncio.CancelledError):
        return _cancelled() > 0
    return not isinstance(error, Exception)


class AsyncLossSignal:
    """Whether something that was held is lost. True for good once it is; may be waited for.

    Never true of what was given back.
    """

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure

    def is_set(self) -> bool:
        """Whether it is lost, by the cluster's word or by this client's own clock."""
        return self._tenure.lost

    def __bool__(self) -> bool:
        return self.is_set()

    @property
    def reason(self) -> str:
        """Why it was lost; empty if it was not."""
        return self._tenure.reason

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost or given back, `timeout` seconds at most; return if it is lost."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

        self._tenure.on_end(tell)
        try:
            async with asyncio.timeout(timeout):
                await over.wait()
        except TimeoutError:
            pass
        finally:
            self._tenure.forget(tell)
        return self.is_set()

    def __repr__(self) -> str:
        return f"<LossSignal: {self.reason or 'not'}>"


class AsyncBackground:
    """A coroutine function that runs beside its starter."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(function(), name=name)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._task.done()

    async def join(self, timeout: float | None) -> bool:
        """Wait for its end, for `timeout` seconds at most; return whether it has ended."""
        await asyncio.wait((self._task,), timeout=timeout)
        return self._task.done()

    def abandon(self) -> None:
        """End it, as far as that is possible."""
        self._task.cancel()


class AsyncFlag:
    """Can be set from anywhere, a signal handler included, and be waited for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        """Set it; harmless when repeated."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()


@contextlib.contextmanager
def on_signals(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` at the first SIGTERM or SIGINT, where this may be: on the main thread.

    The next one does what it did before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def once(_number: int, _frame: object) -> None:
        restore()
        loop.call_soon_threadsafe(handle)

    for number in former:
        signal.signal(number, once)
    try:
        yield
    finally:
        restore()


class _Enterable(Protocol):
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Entering(Coroutine[Any, Any, T], Generic[T, EnteredT]):
    """A coroutine that gives a handle, and that may be entered to have the handle for a block.

    Awaiting gives None where there is no handle to be had; entering raises TypeError then.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._entered: Any = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """As of a coroutine."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """As of a coroutine."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """As of a coroutine."""
        self._coroutine.close()

    async def __aenter__(self) -> EnteredT:
        self._entered = await self._coroutine
        if self._entered is None:
            raise TypeError("nothing to enter: the call gave None")
        entered: EnteredT = await self._entered.__aenter__()
        return entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._entered.__aexit__(kind, error, traceback)


def entering(
    function: Callable[P, Coroutine[Any, Any, EnteredT]],
) -> Callable[P, Entering[EnteredT, EnteredT]]:
    """Let what a coroutine function returns be entered without being awaited first."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Entering[EnteredT, EnteredT]:
        return Entering(function(*args, **kwargs))

    return call


def entering_if_any(
    function: Callable[P, Coroutine[Any, Any, EnteredT | None]],
) -> Callable[P, Entering[EnteredT | None, EnteredT]]:
    """As `entering`, for a function that may return None."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Entering[EnteredT | None, EnteredT]:
        return Entering(function(*args, **kwargs))

    return call


Handler = Callable[[T], "Awaitable[bytes | None] | bytes | None"]
Callback = Callable[[T], object]
"""A function of the user's, or a coroutine function."""
