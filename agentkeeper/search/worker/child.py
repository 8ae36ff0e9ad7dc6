"""One worker process, as long as it lives: started, asked, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Final

from agentkeeper.search.worker import frames

GRACE_S: Final = 0.5
"""How long a worker whose input has been closed may take to end by itself."""
MAX_LAST_WORDS: Final = 2_000
"""Characters kept of what it wrote to its standard error."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class WorkerDied(Exception):  # noqa: N818
    """The worker has ended, does not answer, or says what makes no sense."""


class Child:
    """A worker process. It can be asked one thing at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._number = 0
        self._words = b""
        self._answer = self._listen()
        self._draining = asyncio.create_task(self._drain())

    @classmethod
    async def start(cls) -> Child:
        """Start a worker. Raises `WorkerDied` if the system can't."""
        # It imports what this process would, from wherever its directories happen to be.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        command = (sys.executable, "-P", "-m", "agentkeeper.search.worker", str(os.getpid()))
        environment = {**os.environ, "PYTHONPATH": path}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
            )
        except OSError as error:
            raise WorkerDied(f"can't be started: {error.strerror}") from error
        return cls(process)

    async def ask(self, patience_s: float, **question: Any) -> dict[str, Any]:
        """Return the answer to a question. Raises `WorkerDied`, also after `patience_s`."""
        self._refuse_unasked()
        self._number += 1
        question["number"] = self._number
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(ConnectionError):  # its end is seen where answers are read
            stdin.write(frames.pack(question))
        # Twice half of it: if it was this process that stood still, the second finds the answer.
        if not await self._answered(patience_s / 2) and not await self._answered(patience_s / 2):
            raise WorkerDied(f"gave no answer for {patience_s:g} s")
        answer = self._heard()
        if answer.get("number") != self._number:
            raise WorkerDied("answered what it was not asked")
        self._answer = self._listen()
        return answer

    async def attend(self, call: asyncio.Future[None]) -> None:
        """Wait for a call. Raises `WorkerDied` as soon as it ends, or speaks unasked."""
        waiting: set[asyncio.Future[Any]] = {self._answer, call}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._refuse_unasked()

    def rss_bytes(self) -> int:
        """Memory that it holds; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/statm").read_bytes().split()
            return int(fields[1]) * _PAGE_BYTES
        except (OSError, LookupError, ValueError):
            return 0

    async def end(self) -> None:
        """End it, by force if it does not end by itself in `GRACE_S`, and wait until it is gone."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await self._process.wait()
        finally:  # also if this is cancelled
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
        try:
            await self._process.wait()
        finally:
            # What it wrote last may still be on its way.
            waiting: set[asyncio.Future[Any]] = {self._answer, self._draining}
            await asyncio.wait(waiting, timeout=GRACE_S)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            # There is no public way to let go of pipes whose other ends others may still have, and
            # left to the garbage collector they outlive the loop.
            self._process._transport.close()  # type: ignore[attr-defined]
            await asyncio.sleep(0)

    def describe(self) -> str:
        """How it ended, and the last of what it had to say."""
        code = self._process.returncode
        if code is None:
            return "runs"
        ended = f"ended with {code}" if code >= 0 else f"ended by {_signal_name(-code)}"
        words = self._words.decode(errors="replace").strip()
        return f"{ended}: {words}" if words else ended

    def _listen(self) -> asyncio.Task[dict[str, Any]]:
        assert self._process.stdout is not None
        return asyncio.create_task(frames.receive(self._process.stdout))

    async def _answered(self, patience_s: float) -> bool:
        await asyncio.wait({self._answer}, timeout=patience_s)
        return self._answer.done()

    def _heard(self) -> dict[str, Any]:
        try:
            return self._answer.result()
        except asyncio.IncompleteReadError:
            raise WorkerDied("ended") from None
        except (frames.FrameError, OSError) as error:
            raise WorkerDied(f"sent {error}") from error

    def _refuse_unasked(self) -> None:
        if self._answer.done():
            self._heard()
            raise WorkerDied("said what it was not asked")

    async def _drain(self) -> None:
        """Keep what it writes to its standard error from filling the pipe."""
        stream = self._process.stderr
        assert stream is not None
        with contextlib.suppress(OSError):
            while words := await stream.read(4096):
                self._words = (self._words + words)[-MAX_LAST_WORDS:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
