"""What to say about an error: what went wrong, what to do next, and with which exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import grpc

from agentkeeper import errors
from agentkeeper.cli.exits import Code
from agentkeeper.client.retry import OVERLOADED
from agentkeeper.client.status import replica_statuses

PROBE_TIMEOUT_S = 1.0


class Report(NamedTuple):
    """The end of a command that failed."""

    code: int
    message: str
    hint: str


_WHERE = {
    "agent": "`agentkeeper agent list` shows those there are; DEAD ones with --status DEAD.",
    "lease": "`agentkeeper lease list` shows those that are held.",
    "task": "`agentkeeper task list` shows those there are.",
    "policy": "`agentkeeper policy list` shows those there are.",
    "election": "`agentkeeper election list` shows the groups there are.",
}
_KIND = re.compile(r"no such (\w+)")
_KINDS: Sequence[tuple[type[errors.AgentKeeperError], Code, str]] = (
    (
        errors.InvalidArgument,
        Code.USAGE,
        'Every field has its bound: see "Limits" in the documentation.',
    ),
    (errors.NotFound, Code.NOT_FOUND, ""),
    (
        errors.StaleToken,
        Code.NO,
        "Somebody else has it by now, or had it in between. Don't go on with what it protected.",
    ),
    (
        errors.Overloaded,
        Code.NO,
        'A bound of the cluster is reached: see "Limits" in the documentation.',
    ),
    (errors.Refused, Code.NO, ""),
    (
        errors.OutcomeUnknown,
        Code.UNKNOWN,
        "It may or may not have taken effect: look before you repeat it.",
    ),
)


def report(error: errors.AgentKeeperError, endpoints: Sequence[str], command: str) -> Report:
    """Return how `command` ("agent get") ends with `error`, having asked `endpoints`.

    For want of an answer, asks each endpoint how it is.
    """
    message = error.details()
    if isinstance(error, errors.Compacted):
        hint = f"The oldest event that is kept is {error.oldest}: go on with --after "
        return Report(Code.NO, message, f"{hint}{max(0, error.oldest - 1)}.")
    if isinstance(error, errors.Unavailable) or error.reason == OVERLOADED:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and "no task" in message:
            return Report(Code.NO, "no task that fits the agent has come in time", "")
        return Report(Code.UNAVAILABLE, *_silence(message, endpoints))
    for kind, code, hint in _KINDS:
        if isinstance(error, kind):
            return Report(code, message, hint or _where(message, command))
    return Report(Code.UNAVAILABLE, message, "")


def _where(message: str, command: str) -> str:
    """Where to look for the name of what was not found."""
    found = _KIND.search(message)
    kind = found.group(1) if found else command.partition(" ")[0]
    return _WHERE.get(kind, "") if found or "get" in command else ""


def _silence(message: str, endpoints: Sequence[str]) -> tuple[str, str]:
    """Why nobody could serve a call, and what to do about it."""
    asked = ", ".join(endpoints)
    statuses = replica_statuses(endpoints, PROBE_TIMEOUT_S)
    known = [status for status in statuses.values() if status is not None]
    if not known:
        return f"no answer from {asked}", (
            "Start a daemon with `agentkeeper serve`, or three with `agentkeeper cluster up`; "
            "or say where they are: --endpoints host:port,... or AGENTKEEPER_ENDPOINTS."
        )
    unready = "; ".join(
        f"{status.endpoint}: {status.not_ready_reason}"
        for status in known
        if status.not_ready_reason
    )
    if unready:
        return f"the cluster can't serve now ({unready})", (
            "`agentkeeper cluster status` shows its replicas; it serves once a majority of them "
            "runs and reaches each other."
        )
    return message, f"{asked} can serve by now: try again, or give it longer with --timeout."
