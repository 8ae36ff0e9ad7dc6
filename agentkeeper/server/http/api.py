"""`/api/...`: what the read methods of the services answer, as JSON, from this replica's own state.

Paths stand for methods, parameters for the fields of their requests. Answers say in `as_of` how far
this replica's state had come, and its wall clock, by which ages are counted.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from google.protobuf.message import Message

from agentkeeper.core.state import State
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import OVERLOADED, CallError, bad_field, overloaded
from agentkeeper.server.http import events
from agentkeeper.server.http.guard import HEADERS, REQUEST_S
from agentkeeper.server.http.plain import Json, plain, plain_field, request_from
from agentkeeper.server.replica import Replica
from agentkeeper.server.services.method import Method, Unary

PAGE: Final = 50
PAGE_MAX: Final = 200
AT_ONCE: Final = 8
"""Requests worked on at a time; others wait their turn."""
LISTED: Final = 100
"""Of what one agent holds."""
DESCRIPTION_CHARS: Final = 240
TOOLS_SHOWN: Final = 16
CANDIDATES_SHOWN: Final = 8

STATUSES: Final = {
    "NOT_FOUND": 404,
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 410,
    "RESOURCE_EXHAUSTED": 413,
    "UNAVAILABLE": 503,
}


def brief_agent(agent: Json) -> Json:
    """An agent as a list shows it: cards may be large."""
    card = agent["card"]
    shown = {
        "name": card["name"],
        "description": card["description"][:DESCRIPTION_CHARS],
        "version": card["version"],
        "tools": card["tools"][:TOOLS_SHOWN],
    }
    return {**agent, "card": shown, "tools_count": len(card["tools"])}


def brief_election(election: Json) -> Json:
    """A group as a list shows it."""
    shown = election["candidate_agent_ids"][:CANDIDATES_SHOWN]
    return {**election, "candidate_agent_ids": shown}


def brief_task(task: Json) -> Json:
    """A task as a list shows it."""
    sizes = {f"{part}_bytes": task[part]["size_bytes"] for part in ("input", "output")}
    kept = {key: value for key, value in task.items() if key not in ("input", "output")}
    return {**kept, "required_tools": task["required_tools"][:TOOLS_SHOWN], **sizes}


@dataclass(frozen=True, slots=True)
class Route:
    """A path under /api and the method behind it. `brief` shortens the items of a list."""

    path: str
    method: str
    brief: Callable[[Json], Json] | None = None


ROUTES: Final = (
    Route("cluster", "Status"),
    Route("summary", "Summary"),
    Route("agents", "ListAgents", brief_agent),
    Route("agent", "GetAgent"),
    Route("find", "Find", brief_agent),
    Route("leases", "ListLeases"),
    Route("lease", "GetLease"),
    Route("elections", "ListElections", brief_election),
    Route("election", "GetElection"),
    Route("policies", "ListPolicies"),
    Route("policies/check", "ExplainPolicy"),
    Route("tasks", "ListTasks", brief_task),
    Route("task", "GetTask"),
)


class Api:
    """Answers reads. `services` are the methods of each service."""

    def __init__(self, replica: Replica, services: dict[str, list[Method]]) -> None:
        self._replica = replica
        self._methods = {
            method.name: method
            for methods in services.values()
            for method in methods
            if isinstance(method, Unary)
        }
        self._room = asyncio.Semaphore(AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """All paths."""
        paths = [web.get(f"/api/{route.path}", self._handler(route)) for route in ROUTES]
        return [
            *paths,
            web.get("/api/events", self._answering(self._events)),
            web.get("/api/event", self._answering(self._event)),
        ]

    async def ask(self, route: Route, request: Message) -> Json:
        """The answer to one request. Raises `CallError`."""
        caller = Caller(deadline_s=asyncio.get_running_loop().time() + REQUEST_S, stale=True)
        response = await self._methods[route.method].handle(request, caller)
        answer: Json = {}
        for field in response.DESCRIPTOR.fields:
            if field.is_repeated and field.message_type is not None:
                answer[field.name] = rows = []
                for item in getattr(response, field.name):
                    await self._replica.turns.take()
                    row = plain(item)
                    rows.append(row if route.brief is None else route.brief(row))
            else:
                answer[field.name] = plain_field(response, field)
        if route.method == "GetAgent":
            answer["holds"] = _holdings(self._replica.state, answer["agent"]["agent_id"])
        answer["names"] = self._names(answer)
        return answer

    def as_of(self) -> Json:
        """How far this replica's state has come, and what time its clock shows."""
        return {
            "applied_index": self._replica.machine.applied_index,
            "node_id": self._replica.node_id,
            "wall_ms": time.time_ns() // 1_000_000,
        }

    def _handler(self, route: Route) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> Json:
            asked = request_from(request.query, self._methods[route.method].request_type)
            if "limit" in asked.DESCRIPTOR.fields_by_name:
                _bound(asked)
            return await self.ask(route, asked)

        return self._answering(answer)

    def _answering(self, answer: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        """A handler that sends what `answer` returns, or why it could not."""

        async def handle(request: web.Request) -> web.Response:
            try:
                async with asyncio.timeout(REQUEST_S), self._room:
                    body = await answer(request)
            except TimeoutError:
                return failed(overloaded("this replica could not answer in time"))
            except CallError as error:
                return failed(error)
            return _response(200, {**body, "as_of": self.as_of()})

        return handle

    async def _events(self, request: web.Request) -> Json:
        return await events.page(self._replica, events.Filter.of(request.query), request.query)

    async def _event(self, request: web.Request) -> Json:
        return events.whole(self._replica.state, request.query)

    def _names(self, answer: Json) -> dict[str, str]:
        """The names of all agents whose ids are in an answer, as far as they are known."""
        agents = self._replica.state.agents
        known = ((agent_id, agents.get(agent_id)) for agent_id in set(_agent_ids(answer)))
        return {agent_id: agent.card.name for agent_id, agent in known if agent is not None}


def _agent_ids(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _agent_ids(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key.endswith("_agent_id"):
                yield item
            elif key.endswith("_agent_ids"):
                yield from item
            else:
                yield from _agent_ids(item)


def _bound(request: Any) -> None:
    request.limit = request.limit or PAGE
    if request.limit > PAGE_MAX:
        raise bad_field("limit", f"must be from 1 to {PAGE_MAX}")


def _holdings(state: State, agent_id: str) -> Json:
    """The leases that an agent holds, the tasks that it has claimed and the groups in
    which it is a candidate: the first of each, and how many there are."""
    indexes = {
        "leases": state.leases_by_agent,
        "tasks": state.claims_by_agent,
        "elections": state.groups_by_agent,
    }
    return {
        what: {
            "count": index.count(agent_id),
            "first": [key for key, _ in index.of(agent_id)[:LISTED]],
        }
        for what, index in indexes.items()
    }


def failed(error: CallError) -> web.Response:
    """The answer to what was refused."""
    body = {"error": {"reason": error.reason, "message": error.message, "field": error.field}}
    status = 503 if error.reason == OVERLOADED else STATUSES.get(error.code, 500)
    return _response(status, body)


def _response(status: int, body: Json) -> web.Response:
    headers = {**HEADERS, "Cache-Control": "no-store"}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)
