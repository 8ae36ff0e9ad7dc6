"""Runs a command while something is held: stopped when that is lost, signalled as this process is.

The command runs in a process group of its own, in the terminal's foreground if this process is
there. What it has started in that group is stopped with it, also when it ends by itself: nothing
goes on without what the command was run under. On Linux it is killed if this process is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from agentkeeper.cli import variables
from agentkeeper.cli.connection import ASKED
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import complain
from agentkeeper.cli.parameters import Seconds

if TYPE_CHECKING:
    from agentkeeper import LossSignal

GRACE_S: Final = 5.0
LEAVE_S: Final = 2.0
"""What giving back may take in the end: the command's exit code waits for it."""
LOOK_S: Final = 0.02
"""How often to see whether the rest of a group has ended: it is not ours to wait for."""
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
STOPPED_BY_TERMINAL: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

grace_option = click.option(
    "--grace",
    "grace_s",
    type=Seconds(),
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
        why = "not executable" if there else "no such command"
        complain(f"Error: {name}: {why}")
        sys.exit(CANNOT_RUN if there else NO_SUCH_COMMAND)


@contextlib.contextmanager
def given_back(give: Callable[..., object]) -> Iterator[None]:
    """In the end call `give` (with `timeout`); what can't be given back in time ends with its ttl.

    Then the cluster can't be reached, which is no news by then and must not hide the exit code.
    """
    from agentkeeper import AgentKeeperError  # noqa: PLC0415  # imported with the client

    try:
        yield
    finally:
        with contextlib.suppress(AgentKeeperError):
            give(timeout=LEAVE_S)


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
                complain(f"{what} was lost ({lost.reason}): stopping the command")
                group.stop(grace_s)

        watcher = threading.Thread(target=stop_when_lost, daemon=True)
        watcher.start()
        code = group.wait()
        ended.set()
        if stopped.is_set():
            watcher.join()
            return Code.LOST
        group.stop(grace_s)  # what it has left behind
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
        _signal_group(self._process.pid, number)

    def stop(self, grace_s: float) -> None:
        """End all processes of the group that are left."""
        stop_group(self._process.pid, grace_s)

    def wait(self) -> int:
        """Wait for the command's end and return its exit code."""
        while True:
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                code = os.waitstatus_to_exitcode(status)
                self._process.returncode = code
                return code if code >= 0 else 128 - code
            if self._terminal.stop_too(os.WSTOPSIG(status)):
                self.signal(signal.SIGCONT)

    def __enter__(self) -> _Group:
        for number in FORWARDED:
            self._former[number] = signal.signal(number, lambda n, _frame: self.signal(n))
        self._terminal.give()
        return self

    def __exit__(self, *_error: object) -> None:
        self._terminal.close()
        for number, handler in self._former.items():
            signal.signal(number, handler)


def stop_group(group: int, grace_s: float) -> None:
    """End all processes of a group that are left: SIGTERM, SIGKILL `grace_s` later."""
    end_s = time.monotonic() + grace_s
    left = _signal_group(group, signal.SIGTERM)
    _signal_group(group, signal.SIGCONT)
    while left and time.monotonic() < end_s:
        time.sleep(LOOK_S)
        left = _signal_group(group, 0)
    if left:
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Send a signal; return whether anybody is left who may be sent one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


class _Terminal:
    """The terminal that controls this process, if there is one, whatever the streams are."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = os.open("/dev/tty", os.O_RDWR)

    def give(self) -> None:
        """Put the command into the foreground if this process is there."""
        self._pass_on(os.getpgrp(), self._group)

    def close(self) -> None:
        """Take the foreground back."""
        self._pass_on(self._group, os.getpgrp())
        if self._descriptor is not None:
            os.close(self._descriptor)

    def stop_too(self, number: int) -> bool:
        """Stop as the command was by its terminal; return whether it is to go on.

        By Ctrl-Z, or because it is in the background and wants the terminal: then this process is
        stopped until the shell lets it go on, and passes the foreground on. A command that wanted
        the terminal a moment before it had it has just to go on.
        """
        if self._descriptor is None or number not in STOPPED_BY_TERMINAL:
            return False
        if number == signal.SIGTSTP or not self._is_ahead(os.getpgrp(), self._group):
            self._pass_on(self._group, os.getpgrp())
            os.kill(0, signal.SIGSTOP)
        self.give()
        return True

    def _is_ahead(self, *groups: int) -> bool:
        """Whether one of the groups is in the foreground."""
        assert self._descriptor is not None
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(self._descriptor) in groups
        return False

    def _pass_on(self, giver: int, taker: int) -> None:
        if self._descriptor is None or not self._is_ahead(giver):
            return
        # Who is in the background and sets the foreground is sent SIGTTOU.
        former = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(self._descriptor, taker)
        finally:
            signal.signal(signal.SIGTTOU, former)


def guarded(command: Sequence[str]) -> list[str]:
    """Return a command line under which the command can't outlive this process, where possible."""
    if not sys.platform.startswith("linux"):
        return list(command)
    from agentkeeper.client.child import GUARD  # noqa: PLC0415  # imports gRPC

    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command]
