"""Fields that requests of several services have in common."""

from __future__ import annotations

from typing import Protocol, TypeVar

from agentkeeper.core import limits
from agentkeeper.core.records import Result
from agentkeeper.server import validation as v
from agentkeeper.server.caller import REQUEST
from agentkeeper.server.errors import bad_field

R = TypeVar("R")


class HasAgentId(Protocol):
    """A request with an agent id."""

    agent_id: str


class HasTaskId(Protocol):
    """A request with a task id or lease key."""

    task_id: str


def agent_id_of(request: HasAgentId) -> str:
    """The validated agent id."""
    return v.line(request.agent_id, "agent_id", limits.AGENT_ID_BYTES)


def task_id_of(request: HasTaskId) -> str:
    """The validated task id or lease key."""
    return v.line(request.task_id, "task_id", limits.TASK_ID_BYTES)


def answer(kind: type[R], result: Result) -> R:
    """The result, of the kind that this method answers with.

    Any other kind is the answer kept for an earlier, different request of the same number.
    """
    if not isinstance(result, kind):
        raise bad_field(REQUEST, "this number was used before, for another request")
    return result
