"""Child processes that end when this process does, however it ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

GUARD = Path(__file__).with_name("_guard.py")
LOG_TAIL_BYTES = 4_000
KILL_TIMEOUT_S = 10.0
SETTINGS_PREFIX = "AGENTKEEPER_"
MODEL = "AGENTKEEPER_MODEL"
"""A setting that is the same for all daemons here: which model this machine has, or is to use."""

_Job = tuple[Callable[[], "subprocess.Popen[bytes]"], "concurrent.futures.Future[Any]"]


class ChildFailed(RuntimeError):  # noqa: N818
    """A child process ended when it should not have; the message shows the end of its log."""


class Child:
    """A running program, its output going to a file, in a process session of its own.

    Signals from the terminal (Ctrl-C) do not reach it. On Linux the kernel kills it when this
    process is gone.
    """

    def __init__(
        self, command: Sequence[str], log_path: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        """Start `command`. Raises OSError.

        `env` is added to the present environment, without the settings of a daemon in that but
        which model to use.
        """
        self.command = list(command)
        self.log_path = log_path
        present = os.environ.items()
        inherited = {k: v for k, v in present if k == MODEL or not k.startswith(SETTINGS_PREFIX)}
        full_env = {**inherited, **(env or {})}

        def start() -> subprocess.Popen[bytes]:
            with log_path.open("ab") as log:
                return subprocess.Popen(
                    _guarded(self.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=full_env,
                    start_new_session=True,
                )

        self._process = _on_spawning_thread(start)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended (negative: by that signal), or None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end and return the exit code, or None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def kill(self) -> int:
        """End the process with SIGKILL and return its exit code."""
        self.signal(signal.SIGKILL)
        return self._process.wait(KILL_TIMEOUT_S)

    def stop(self, grace_s: float = 10.0) -> int:
        """End the process with SIGTERM, after `grace_s` with SIGKILL; return its exit code."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process can't act on anything else
        code = self.wait(grace_s)
        return self.kill() if code is None else code

    def log_tail(self) -> str:
        """Return the last of what the process wrote."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def check_running(self, what: str) -> None:
        """Raise ChildFailed, showing the log, if the process has ended."""
        code = self.exit_code
        if code is not None:
            tail = self.log_tail() or "(it wrote nothing)"
            raise ChildFailed(f"{what} ended with exit code {code}; the end of its log:\n{tail}")


def _guarded(command: list[str]) -> list[str]:
    if not sys.platform.startswith("linux") or not sys.executable:
        return command
    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command]


# The kernel's parent-death signal follows the thread that started the child, not the process. So
# children are started by one thread that never ends.
_jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
_spawner: threading.Thread | None = None
_lock = threading.Lock()


def _forget() -> None:
    """In a fork: the thread stayed behind, and the lock may have been held by another one."""
    global _jobs, _spawner, _lock  # noqa: PLW0603
    _jobs = queue.SimpleQueue()
    _spawner = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _on_spawning_thread(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    global _spawner  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _spawner is None:
            _spawner = threading.Thread(target=_spawn, name="agentkeeper-spawner", daemon=True)
            _spawner.start()
    future: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()
    _jobs.put((start, future))
    return future.result()


def _spawn() -> None:
    while True:
        start, future = _jobs.get()
        try:
            future.set_result(start())
        except BaseException as error:  # raised again for who asked
            future.set_exception(error)
