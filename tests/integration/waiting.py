"""Waiting for conditions, and calls that block in the background."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

PATIENCE_S = 30.0
POLL_S = 0.02


def eventually(look: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Look until something true is seen, and return it."""
    deadline = time.monotonic() + patience_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            return pytest.fail(f"never seen: {what}; last: {seen!r}")
        time.sleep(POLL_S)


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


class Recorder:
    """A callback that keeps what it gets, for tests that wait for it."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._lock = threading.Lock()

    def __call__(self, item: Any) -> None:
        with self._lock:
            self._kept.append(item)

    @property
    def kept(self) -> list[Any]:
        with self._lock:
            return list(self._kept)

    def first(self, fits: Callable[[Any], bool], what: str) -> Any:
        """The first item that fits, past or future."""
        return eventually(lambda: next(filter(fits, self.kept), None), what)
