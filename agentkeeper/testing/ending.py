"""How a keeper's thread comes to its end, also where nobody closes the keeper."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import warnings
from typing import Final

from agentkeeper import errors
from agentkeeper.client.io_thread import IoThread
from agentkeeper.testing.loop import HandMovedLoop

CANCELLED_OFTEN: Final = 100
"""Turns of the loop in which work may end after it was cancelled."""
LET_GO_S: Final = 2.0
"""How long work under way may take to end at a keeper that nobody has closed."""


async def end_tasks() -> None:
    """Cancel everything on the loop, until it has ended or will not."""
    for _ in range(CANCELLED_OFTEN):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            return
        for task in others:
            task.cancel()
        await asyncio.sleep(0)


def let_go(io: IoThread, loop: HandMovedLoop) -> None:
    """The keeper was not closed before it was collected: stop its thread, and complain."""

    def stop() -> None:
        ended = (errors.ClientClosed, concurrent.futures.CancelledError, TimeoutError)
        with contextlib.suppress(*ended):
            io.submit(end_tasks()).result(LET_GO_S)
        stop_thread(io, loop)

    try:
        warnings.warn("a FakeKeeper was not closed", ResourceWarning, stacklevel=2)
    finally:
        if io.is_current():  # it was collected there
            threading.Thread(target=stop, name="agentkeeper-let-go", daemon=True).start()
        else:
            stop()


def stop_thread(io: IoThread, loop: HandMovedLoop) -> None:
    """Stop the thread and close its loop. On any other thread."""
    io.stop()
    if not loop.is_running():
        loop.close()
