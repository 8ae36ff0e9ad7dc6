"""Waiting for other threads, which the fake's own time knows nothing of."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

PATIENCE_S = 30.0


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
