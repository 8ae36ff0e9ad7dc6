"""The I/O thread runs on a loop and by a clock of another's, if it is given them."""

import asyncio
import time

import pytest

from agentkeeper.client.io_thread import IoThread, shared_io_thread
from agentkeeper.client.runner import Runner
from agentkeeper.errors import ClientClosed
from agentkeeper.testing.loop import HandMovedLoop

from .waiting import PATIENCE_S


def test_a_runner_works_on_the_thread_that_it_is_given():
    loop = HandMovedLoop()
    io = IoThread(loop, loop.time)
    runner = Runner(io)

    async def sleep_long() -> float:
        sleeping = asyncio.ensure_future(asyncio.sleep(3600))
        await loop.move(3600)
        await sleeping
        return runner.clock()

    assert runner.loop is loop
    assert runner.start(sleep_long()).result(PATIENCE_S) == 3600
    io.stop()
    loop.close()
    with pytest.raises(ClientClosed, match="has ended"):
        runner.start(sleep_long())


def test_by_default_all_runners_share_one_thread_and_the_time_since_boot():
    runner = Runner()
    assert runner.loop is shared_io_thread().loop
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime(source)
    assert before <= runner.clock() <= time.clock_gettime(source)
