"""RegistryService: agents come, are found, and go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits, present
from agentkeeper.core.records import Agent, AgentStatus, Done, NameConflict, Registered
from agentkeeper.core.refusals import not_found
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import bad_field, refused, too_large
from agentkeeper.server.replica import Replica
from agentkeeper.server.services import pages
from agentkeeper.server.services.fields import agent_id_of, answer
from agentkeeper.server.services.method import Method, Stream, Subscription, Unary

LIVE: Final = (AgentStatus.ALIVE, AgentStatus.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class RegistryService:
    """Handlers of agentkeeper.v1.RegistryService."""

    replica: Replica
    _copying: asyncio.Semaphore = field(default_factory=pages.copying)

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("Register", pb.RegisterRequest, self.register),
            Unary("Heartbeat", pb.HeartbeatRequest, self.heartbeat),
            Unary("Deregister", pb.DeregisterRequest, self.deregister),
            Unary("GetAgent", pb.GetAgentRequest, self.get_agent),
            Unary("ListAgents", pb.ListAgentsRequest, self.list_agents),
            Unary("Find", pb.FindRequest, self.find),
            Stream("Watch", pb.WatchRequest, self.watch),
        ]

    async def register(self, request: pb.RegisterRequest, caller: Caller) -> pb.RegisterResponse:
        """Register a new agent."""
        body = c.Register(
            agent_id=self.replica.draw_id(),
            card=convert.card_from(request.card),
            ttl_ms=v.ttl_ms(request.ttl_seconds, limits.AGENT_TTL_MS_DEFAULT),
            on_name_conflict=v.choice(request.on_name_conflict, "on_name_conflict", NameConflict),
        )
        registered = answer(Registered, await self.replica.submit(body, caller))
        return pb.RegisterResponse(agent_id=registered.agent_id)

    async def heartbeat(self, request: pb.HeartbeatRequest, caller: Caller) -> pb.HeartbeatResponse:
        """Keep an agent ALIVE."""
        answer(Done, await self.replica.submit(c.Heartbeat(agent_id_of(request)), caller))
        return pb.HeartbeatResponse()

    async def deregister(
        self, request: pb.DeregisterRequest, caller: Caller
    ) -> pb.DeregisterResponse:
        """End an agent."""
        answer(Done, await self.replica.submit(c.Deregister(agent_id_of(request)), caller))
        return pb.DeregisterResponse()

    async def get_agent(self, request: pb.GetAgentRequest, caller: Caller) -> pb.GetAgentResponse:
        """Look one agent up."""
        agent_id = agent_id_of(request)
        state = await self.replica.read(caller)
        stored = state.agents.get(agent_id)
        agent = None if stored is None else present.agent(state, stored)
        if agent is None:
            raise refused(not_found("agent", agent_id))
        return pb.GetAgentResponse(agent=convert.agent(agent))

    async def list_agents(
        self, request: pb.ListAgentsRequest, caller: Caller
    ) -> pb.ListAgentsResponse:
        """Agents in order of registration, a page at a time."""
        v.count(request.statuses, "statuses", limits.STATUSES)
        statuses = frozenset(
            v.choice(status, f"statuses[{i}]", AgentStatus)
            for i, status in enumerate(request.statuses)
        )
        prefix = v.line(request.name_prefix, "name_prefix", limits.NAME_BYTES, empty=True)
        tools = frozenset(v.lines(request.tools, "tools", limits.TOOLS, limits.NAME_BYTES))
        limit = pages.limit_of(request.limit)
        after = pages.order_in(request.page_token)
        state = await self.replica.read(caller)

        def show(copied: Agent) -> pb.AgentInfo | None:
            if not copied.card.name.startswith(prefix):
                return None
            # As it is by now: time has gone on since the copy was made.
            stored = state.agents.get(copied.agent_id)
            agent = None if stored is None else present.agent(state, stored)
            if agent is None or agent.status not in (statuses or LIVE):
                return None
            if tools and not tools.issubset(agent.card.tools):
                return None
            return convert.agent(agent)

        response = pb.ListAgentsResponse()
        async with self._copying:
            await self.replica.turns.take()
            found = pages.arrived_after(tuple(state.agents.values()), after)
            last = await pages.fill(response.agents, found, show, limit, self.replica.turns)
        if last is not None:
            response.next_page_token = str(last.order)
        return response

    async def find(self, request: pb.FindRequest, caller: Caller) -> pb.FindResponse:
        """Find ALIVE agents that have the tools; rank them by the query."""
        query = v.prose(request.query, "query", limits.QUERY_BYTES).strip()
        tools = frozenset(v.lines(request.tools, "tools", limits.TOOLS, limits.NAME_BYTES))
        limit = v.number(request.limit, "limit", 0, limits.FIND_LIMIT_MAX)
        await self.replica.read(caller)
        deadline_s = self.replica.deadline_s(caller)
        found = await self.replica.index.find(
            query, tools, self._is_alive, limit or limits.FIND_LIMIT_DEFAULT, deadline_s
        )
        response = pb.FindResponse(mode=found.mode, pending=found.pending)  # type: ignore[arg-type]
        size = 0
        for agent_id, score in found.ranked:
            # Cards may be large, and many reads have their index at the same moment.
            await self.replica.turns.take()
            agent = self._alive(agent_id)
            if agent is None:
                continue
            message = convert.agent(agent)
            size += message.ByteSize() + pages.ENTRY_BYTES
            if size > limits.RESPONSE_BYTES:
                raise too_large("ask for fewer with limit")
            response.agents.append(message)
            response.scores.append(score)
        return response

    async def watch(self, request: pb.WatchRequest, caller: Caller) -> Subscription:
        """Follow the events of some topics."""
        topics = v.lines(request.topics, "topics", limits.TOPICS, limits.TOPIC_BYTES, empty=True)
        after = await watch_from(self.replica, request, caller)
        if not topics or "" in topics:
            return Subscription(self.replica.hub.follow(after, lambda event: True), after)
        events = self.replica.hub.follow(
            after, lambda event: event.topic.startswith(topics), progress=request.progress
        )
        return Subscription(events, after)

    def _alive(self, agent_id: str) -> Agent | None:
        """The agent as it is by now, if it is ALIVE."""
        state = self.replica.state
        stored = state.agents.get(agent_id)
        agent = None if stored is None else present.agent(state, stored)
        return agent if agent is not None and agent.status == AgentStatus.ALIVE else None

    def _is_alive(self, agent_id: str) -> bool:
        return self._alive(agent_id) is not None


async def watch_from(
    replica: Replica, request: pb.WatchRequest | pb.WatchElectionRequest, caller: Caller
) -> int:
    """The sequence number after which a watch begins: as asked for, or now."""
    last = (await replica.read(caller)).last_sequence
    after = request.after_sequence if request.HasField("after_sequence") else last
    if after > last:
        raise bad_field("after_sequence", f"{after} is in the future; the last event is {last}")
    replica.hub.check(after)
    return after
