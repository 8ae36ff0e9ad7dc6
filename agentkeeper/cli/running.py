"""Runs a command while something is held: stopped when that is lost, signalled as this process is.

The command runs in a process group of its own, so that what it starts is stopped with it, in the
terminal's foreground if there is a terminal. On Linux it is killed if this process is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import ASKED
from agentkeeper.cli.exits import Code

if TYPE_CHECKING:
    from agentkeeper import LossSignal

GRACE_S: Final = 5.0
CANNOT_RUN: Final = 126
NO_SUCH_COMMAND: Final = 127
FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

grace_option = click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="What COMMAND has between SIGTERM and SIGKILL when it is stopped.",
)


def require_executable(command: Sequence[str]) -> None:
    """Say so and exit as a shell does if `command` can't be run."""
    name = command[0]
    if shutil.which(name) is None:
        there = os.path.exists(name)
        click.echo(f"Error: {name}: {'not executable' if there else 'no such command'}", err=True)
        sys.exit(CANNOT_RUN if there else NO_SUCH_COMMAND)


def run_while_held(
    command: Sequence[str],
    environment: Mapping[str, str],
    lost: LossSignal,
    what: str,
    grace_s: float,
) -> int:
    """Run `command` and return its exit code, 128 + n if signal n ended it.

    When `lost` is set, the command is stopped and Code.LOST is returned. `what` names for people
    what was lost.
    """
    ended = threading.Event()
    stopped = threading.Event()
    with _Group(command, environment) as group:

        def stop_when_lost() -> None:
            if lost.wait() and not ended.is_set():
                stopped.set()
                click.echo(f"{what} was lost ({lost.reason}): stopping the command", err=True)
                group.signal(signal.SIGTERM)
                group.signal(signal.SIGCONT)
                ended.wait(grace_s)
                group.signal(signal.SIGKILL)  # also what outlived the command

        watcher = threading.Thread(target=stop_when_lost, daemon=True)
        watcher.start()
        code = group.wait()
        ended.set()
        if stopped.is_set():
            watcher.join()
            return Code.LOST
    return code


class _Group:
    """A command in a process group of its own. A context manager: passes signals on to it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        asked = click.get_current_context().meta.get(ASKED, ())
        full = {**os.environ, variables.ENDPOINTS: ",".join(asked), **environment}
        self._process = subprocess.Popen(guarded(command), env=full, process_group=0)
        self._terminal = _Terminal(self._process.pid)
        self._former: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the group that are left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def wait(self) -> int:
        """Wait for the command's end and return its exit code."""
        while True:
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                code = os.waitstatus_to_exitcode(status)
                self._process.returncode = code
                return code if code >= 0 else 128 - code
            if self._terminal.is_shared:
                self._terminal.stop_too(os.WSTOPSIG(status))
                self.signal(signal.SIGCONT)

    def __enter__(self) -> _Group:
        for number in FORWARDED:
            self._former[number] = signal.signal(number, lambda n, _frame: self.signal(n))
        self._terminal.give()
        return self

    def __exit__(self, *_error: object) -> None:
        self._terminal.take()
        for number, handler in self._former.items():
            signal.signal(number, handler)


class _Terminal:
    """The terminal, if there is one and this process is in its foreground, for the command."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            descriptor = sys.__stdin__.fileno() if sys.__stdin__ else -1
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                self._descriptor = descriptor

    @property
    def is_shared(self) -> bool:
        """Whether there is one."""
        return self._descriptor is not None

    def give(self) -> None:
        """Put the command into the foreground."""
        self._set(self._group)

    def take(self) -> None:
        """Take the foreground back."""
        self._set(os.getpgrp())

    def stop_too(self, number: int) -> None:
        """Stop as the command was (Ctrl-Z); when both go on, put it into the foreground again.

        A command that only asked for the terminal before it had it has just to go on.
        """
        if number == signal.SIGTSTP:
            self.take()
            os.kill(0, signal.SIGSTOP)
        self.give()

    def _set(self, group: int) -> None:
        if self._descriptor is None:
            return
        # Who is in the background and sets the foreground is sent SIGTTOU.
        former = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(self._descriptor, group)
        finally:
            signal.signal(signal.SIGTTOU, former)


def guarded(command: Sequence[str]) -> list[str]:
    """Return a command line under which the command can't outlive this process, where possible."""
    if not sys.platform.startswith("linux"):
        return list(command)
    from agentkeeper.client.child import GUARD  # noqa: PLC0415  # imports gRPC

    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command]
