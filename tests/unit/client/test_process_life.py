"""What becomes of the SDK where the process ends or forks, and of what starts while it closes."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client.background import Background
from agentkeeper.client.io_thread import IoThread
from agentkeeper.client.presence import KeptAgent
from agentkeeper.client.runner import Runner


def run(code):
    """Run a program of its own, which must end by itself, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_a_client_may_be_used_and_closed_at_exit():
    code = """
        import atexit
        def cleanup():
            try:
                client.find()
            except errors.ClientClosed:
                print("refused")
            client.close()
            print("closed")
        atexit.register(cleanup)
        from agentkeeper import AgentKeeperClient, errors
        client = AgentKeeperClient(port=1)
    """
    assert run(code) == ["refused", "closed"]


def test_a_fork_is_told_that_it_can_use_no_client():
    code = """
        import os, signal, sys
        from agentkeeper import AgentKeeperClient, errors
        client = AgentKeeperClient(port=1)
        forked = os.fork()
        if forked == 0:
            signal.alarm(30)  # should it hang
            try:
                client.find()
            except errors.ClientClosed:
                print("inherited", flush=True)
            client.close()
            try:
                AgentKeeperClient(port=1)
            except RuntimeError:
                print("new", flush=True)
            sys.exit()
        assert os.waitpid(forked, 0)[1] == 0
        client.close()
    """
    assert run(code) == ["inherited", "new"]


def test_a_fork_before_the_first_client_is_free():
    code = """
        import os, signal, sys
        from agentkeeper import AgentKeeperClient, errors
        forked = os.fork()
        if forked == 0:
            signal.alarm(30)
            with AgentKeeperClient(port=1) as client:
                try:
                    client.find(timeout=0.1)
                except errors.Unavailable:
                    print("asked", flush=True)
            sys.exit()
        assert os.waitpid(forked, 0)[1] == 0
    """
    assert run(code) == ["asked"]


def test_what_is_under_way_when_the_thread_stops_is_cancelled():
    io = IoThread()
    future = io.submit(asyncio.sleep(3600))
    io.stop()
    assert future.cancelled()
    with pytest.raises(errors.ClientClosed, match="ended"):
        io.submit(asyncio.sleep(0))


def test_what_starts_while_the_client_closes_does_not_outlive_it():
    runner = Runner()
    blocked, ran = threading.Event(), []

    async def block():
        blocked.wait(10)

    async def late():
        ran.append("late")

    async def farewell():
        pass

    runner.start(block())
    future = runner.start(late())  # queued behind what blocks the loop
    runner._closed = True  # as `close` begins
    blocked.set()
    with pytest.raises(errors.ClientClosed):
        future.result(10)
    assert ran == []


async def test_heartbeats_go_on_after_an_unexpected_error(caplog):
    beats = asyncio.Queue()

    failures = [ZeroDivisionError("newer"), errors.Unavailable("gone")]

    class Core:
        clock = staticmethod(time.monotonic)
        background = Background()

        def __init__(self):
            self.agents = {}

        async def register(self, request, timeout_s):
            return "a"

        async def heartbeat(self, agent_id, timeout_s):
            beats.put_nowait(agent_id)
            if failures:
                raise failures.pop(0)

    core = Core()
    agent = await KeptAgent.register(core, pb.RegisterRequest(ttl_seconds=1), 1, reregister=False)
    agent._interval_s = 0.001  # heard of from the second heartbeat on
    for _ in range(4):
        assert await asyncio.wait_for(beats.get(), 10) == "a"
    await core.background.close()
    assert "ZeroDivisionError" in caplog.text
