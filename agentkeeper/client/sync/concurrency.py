"""How the sync face waits, calls back and runs things: on threads.

`agentkeeper.client.aio.concurrency` has the same names for an event loop.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from agentkeeper import errors
from agentkeeper.client.runner import Runner, Undo
from agentkeeper.client.tenure import Tenure

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

logger = logging.getLogger("agentkeeper")


def run(runner: Runner, work: Coroutine[Any, Any, T], undo: Undo[T] | None = None) -> T:
    """Run `work` on the I/O thread and return what it returns.

    Raises what it raises, and ClientClosed if the client is closed meanwhile. Whatever interrupts
    the waiting thread (Ctrl-C) cancels the work; `undo` gets what it has returned if that came too
    late.
    """
    future = runner.start(work, undo)
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise _closed() from None
    except BaseException:
        runner.give_up(future, undo)
        raise


class Begun(Generic[T]):
    """Work under way on the I/O thread. Whoever stops waiting for it may wait again."""

    def __init__(self, runner: Runner, work: Coroutine[Any, Any, T]) -> None:
        self._runner = runner
        self._future = runner.start(work)

    def result(self) -> T:
        """What the work returns. Raises as `run` does; an interrupt does not end the work."""
        try:
            return self._future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None

    def undo(self, undo: Undo[T]) -> None:
        """Cancel the work; if it has a result already, `undo` gets it. On any thread."""
        self._runner.give_up(self._future, undo)

    def await_if_blocking(self) -> None:
        """Wait for the result already."""
        self.result()


def _closed() -> errors.ClientClosed:
    return errors.ClientClosed("the client was closed during the call")


def in_thread(function: Callable[[], T]) -> T:
    """Call a function that blocks."""
    return function()


def invoke(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user's."""
    return function(*args)


def notifier(function: Callable[[T], object], argument: T) -> Callable[[], None]:
    """Return what makes `function(argument)` be called on a thread of its own."""

    def call() -> None:
        try:
            function(argument)
        except Exception:
            logger.exception("a callback raised")

    _start_starter()
    return lambda: _calls.put(call)


_calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
_starters: list[threading.Thread] = []
_starting = threading.Lock()


def _start_starter() -> None:
    with _starting:
        if not _starters:
            starter = threading.Thread(target=_start_calls, name="agentkeeper-calls", daemon=True)
            _starters.append(starter)
            starter.start()


def _start_calls() -> None:
    """Start a thread for each callback: that takes longer than the I/O thread has to spare."""
    while True:
        call = _calls.get()
        try:
            threading.Thread(target=call, name="agentkeeper-callback", daemon=True).start()
        except RuntimeError:
            logger.exception("a callback could not be called")


def ends_me(error: BaseException) -> bool:
    """Whether what came out of a function of the user's is meant for whoever runs it: never."""
    return False


class LossSignal:
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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost or given back, `timeout` seconds at most; return if it is lost."""
        over = threading.Event()
        self._tenure.on_end(over.set)
        try:
            over.wait(timeout)
        finally:
            self._tenure.forget(over.set)
        return self.is_set()

    def __repr__(self) -> str:
        return f"<LossSignal: {self.reason or 'not'}>"


class Background:
    """A function that runs beside its starter."""

    def __init__(self, function: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=function, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def join(self, timeout: float | None) -> bool:
        """Wait for its end, for `timeout` seconds at most; return whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """End it, as far as that is possible: a thread can't be ended."""


class Flag:
    """Can be set from anywhere, a signal handler included, and be waited for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Set it; harmless when repeated."""
        self._event.set()

    def wait(self) -> None:
        """Wait until it is set."""
        self._event.wait()


@contextlib.contextmanager
def on_signals(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` at the first SIGTERM or SIGINT, where this may be: on the main thread.

    The next one does what it did before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def once(_number: int, _frame: object) -> None:
        restore()
        # On another thread: this one may hold the very lock that `handle` needs.
        threading.Thread(target=handle, name="agentkeeper-signal", daemon=True).start()

    for number in former:
        signal.signal(number, once)
    try:
        yield
    finally:
        restore()


def entering(function: F) -> F:
    """Nothing to do here: what a method returns can be entered as it is."""
    return function


entering_if_any = entering

Handler = Callable[[T], bytes | None]
Callback = Callable[[T], object]
"""A function of the user's."""
