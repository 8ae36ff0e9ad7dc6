"""Waiting for things to happen, and looking at what 0.1.x does not know."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from .legacy_client import AgentHandle, AgentKeeperClient
from .legacy_types import WatchEvent

PATIENCE_S = 20.0


class Recorder:
    """A callback that keeps what it gets, for tests that wait for it."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, event: Any) -> None:
        with self._changed:
            self._kept.append(event)
            self._changed.notify_all()

    @property
    def kept(self) -> list[Any]:
        with self._changed:
            return list(self._kept)

    def wait_for(self, wanted: Callable[[Any], bool], what: str = "") -> Any:
        """The first event that fits, past or future."""
        deadline = time.monotonic() + PATIENCE_S
        seen = 0
        with self._changed:
            while True:
                for event in self._kept[seen:]:
                    if wanted(event):
                        return event
                seen = len(self._kept)
                if not self._changed.wait(deadline - time.monotonic()):
                    topics = [getattr(event, "topic", event) for event in self._kept]
                    pytest.fail(f"never seen: {what or wanted}; seen: {topics}")

    def topic(self, topic: str, subject: str) -> WatchEvent:
        """The first event of a topic about an agent, a lease's task or a group."""
        return self.wait_for(
            lambda event: event.topic == topic and subject_of(event) == subject,
            f"{topic} of {subject}",
        )

    def about(self, *subjects: str) -> list[WatchEvent]:
        return [event for event in self.kept if subject_of(event) in subjects]


def subject_of(event: WatchEvent) -> str | None:
    payload: Any = event.payload
    for field in ("task_id", "group", "agent_id"):
        if hasattr(payload, field):
            return getattr(payload, field)
    return None


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Looks until it sees something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    return pytest.fail(f"never: {what}")


def background(call: Callable[..., Any], *args: Any) -> "Future[Any]":
    """Runs a call that may block for ever in a thread that does not outlive the tests."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[None]:
    """The block ends with this status."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() == code, caught.value


@contextmanager
def crashing(client: AgentKeeperClient, name: str, **card: Any) -> Iterator[AgentHandle]:
    """An agent that falls silent at once, cleaned up after should it still live."""
    agent = client.register(name, "Falls silent", "1.0.0", **{"ttl": 1, **card})
    agent.crash()
    yield agent
    with suppress(grpc.RpcError):  # most are DEAD by now
        agent.deregister()


def newer_fields(message: Any) -> dict[int, Any]:
    """Fields of a message that 0.1.x does not know, by number."""
    return {field.field_number: field.data for field in UnknownFieldSet(message)}
