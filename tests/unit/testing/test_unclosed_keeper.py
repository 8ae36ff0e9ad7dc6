"""A keeper that nobody closes complains when it is collected, and leaves no thread behind."""

import gc
import subprocess
import sys
import threading
import warnings

import pytest

from agentkeeper.testing import FakeKeeper

from .waiting import eventually


def at_work() -> FakeKeeper:
    """A keeper with clients of both faces, an agent, a lease that is renewed, and time gone by."""
    keeper = FakeKeeper()
    client = keeper.client()
    keeper.async_client()
    agent = client.register("a", "", "1", ttl=10)
    assert client.acquire_lease("job", agent.agent_id, ttl=5, keep_alive=True)
    keeper.advance(60)
    return keeper


def drop(held: list[object]) -> None:
    """Hold it no longer, and collect it if nobody else does."""
    held.clear()
    gc.collect()


def test_one_that_is_dropped_warns_and_stops_its_thread():
    held = [at_work()]
    thread, loop = held[0]._io._thread, held[0]._loop
    with pytest.warns(ResourceWarning, match="a FakeKeeper was not closed"):
        drop(held)
    eventually(lambda: not thread.is_alive() and loop.is_closed(), "the thread's end")


def test_it_stops_also_if_its_own_thread_collects_it():
    keeper = at_work()
    thread, loop = keeper._io._thread, keeper._loop
    caught = threading.Event()

    def collect() -> None:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            gc.collect()
        if any("was not closed" in str(warning.message) for warning in seen):
            caught.set()

    gc.disable()  # so that nobody else does
    try:
        del keeper
        loop.call_soon_threadsafe(collect)
        assert caught.wait(30)
    finally:
        gc.enable()
    eventually(lambda: not thread.is_alive() and loop.is_closed(), "the thread's end")


def test_it_lives_as_long_as_one_of_its_clients():
    held = [at_work().client()]
    gc.collect()
    assert [agent.card.name for agent in held[0].find()] == ["a"]
    with pytest.warns(ResourceWarning, match="a FakeKeeper was not closed"):
        drop(held)


def test_one_that_was_closed_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keeper = at_work()
        keeper.close()
        del keeper
        gc.collect()


def test_one_that_outlives_the_program_holds_up_nothing():
    program = "from agentkeeper.testing import FakeKeeper; k = FakeKeeper(); c = k.client()"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.count("ResourceWarning") == 1
    assert "a FakeKeeper was not closed" in done.stderr
