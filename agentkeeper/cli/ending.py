"""How every command ends: in an exit code, and in one line about what went wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import click

from agentkeeper.cli.connection import ASKED, ASKING
from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import complain, printable

Thing = TypeVar("Thing")

BROKEN_PIPE: Final = 128 + 13
"""As a program that SIGPIPE ends: who reads the output has left."""
_STREAMS: Final = (("stdin", "w"), ("stdout", "w"), ("stderr", "w"))
"""What stands for a stream that is closed: reading it fails, what is written to it is gone."""


def replace_closed_streams() -> None:
    """Put something into the place of closed standard streams, before anything else gets there."""
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


@contextlib.contextmanager
def told(*, traced: bool = False) -> Iterator[None]:
    """Turn whatever is raised in it into a line and an exit code.

    `traced`: with the trace of an unexpected error, for those who run a daemon.
    """
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()
            raise
    except (SystemExit, click.exceptions.Exit, click.Abort):
        raise
    except click.ClickException as error:
        raise _harmless(error) from None
    except KeyboardInterrupt as interrupt:
        sys.exit(128 + getattr(interrupt, "number", signal.SIGINT))
    except BrokenPipeError:
        _give_up_output()
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        if traced:
            traceback.print_exc()
        sys.exit(_explain(error))


def _harmless(error: click.ClickException) -> click.ClickException:
    """The same in one line that can't move the cursor: a file or a server has a part in it."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error
    message = printable(error.format_message())
    if isinstance(error, click.UsageError):
        return click.UsageError(message, error.ctx)
    return click.ClickException(message)


def _explain(error: Exception) -> int:
    """Say what went wrong; return the exit code."""
    errors = sys.modules.get("agentkeeper.errors")  # there by now, if it is of those
    if errors is not None and isinstance(error, errors.AgentKeeperError):
        return _explain_answer(error)
    if isinstance(error, UnicodeEncodeError):
        _say("an argument is not UTF-8")
        return Code.USAGE
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EIO, errno.EFBIG}:
        _give_up_output()
    what = str(error) or "no more is known"
    _say(what if isinstance(error, OSError) else f"unexpected {type(error).__name__}: {what}")
    return Code.FAILED


def for_each(
    names: Iterable[str], act: Callable[[str], Thing], done: Callable[[list[Thing]], None]
) -> None:
    """Act on all that are named, also where one fails; show what was `done`.

    Says of each failure what it is, and exits with the worst code.
    """
    from agentkeeper import AgentKeeperError  # noqa: PLC0415  # imported with the client

    things: list[Thing] = []
    code = 0
    for name in names:
        try:
            things.append(act(name))
        except AgentKeeperError as error:
            complain(f"{name}:")
            code = max(code, _explain_answer(error))
    if things or not code:
        done(things)
    if code:
        sys.exit(code)


def _explain_answer(error: Any) -> int:
    from agentkeeper.cli.explaining import report  # noqa: PLC0415  # imports gRPC

    context = click.get_current_context(silent=True)
    meta = context.meta if context else {}
    code, message, hint = report(error, meta.get(ASKED, ()), meta.get(ASKING, ""))
    _say(message)
    if hint:
        click.echo(printable(hint), err=True)
    return int(code)


def _say(message: str) -> None:
    click.secho(printable(f"Error: {message}"), fg="red", err=True)


def _give_up_output() -> None:
    """Let what is left of the output go: the interpreter would fail on it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
