"""A state to be listed, behind the services."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core.apply import apply
from agentkeeper.core.records import Card, Event, Refused
from agentkeeper.core.state import State
from agentkeeper.server.agent_index import AgentIndex
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from agentkeeper.server.services.elections import ElectionService
from agentkeeper.server.services.entitlements import EntitlementsService
from agentkeeper.server.services.leases import LeaseService
from agentkeeper.server.services.registry import RegistryService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.turns import Turns

from .helpers import soon

WALL_MS = 1_700_000_000_000


class Keeper:
    """The services over a state that a test fills by commands, at times it chooses."""

    def __init__(self) -> None:
        self.state = State()
        self.callers: list[Caller] = []

        async def read(caller: Caller) -> State:
            self.callers.append(caller)
            return self.state

        self.replica: Any = SimpleNamespace(
            read=read,
            turns=Turns(),
            state=self.state,
            index=AgentIndex(),
            deadline_s=lambda caller: soon(),
        )
        replica = self.replica
        self.registry = RegistryService(replica)
        self.leases = LeaseService(replica)
        self.elections = ElectionService(replica)
        self.entitlements = EntitlementsService(replica)
        self.tasks = TaskService(replica)

    def at(self, time_ms: int) -> None:
        self._observe(apply(self.state, c.Batch(time_ms, WALL_MS, ()))[1])

    def do(self, body: Any, session: str = "", number: int = 0) -> Any:
        command = c.Command("x", session, number, 0, body)
        (result,), events = apply(self.state, c.Batch(self.state.time_ms, WALL_MS, (command,)))
        self._observe(events)
        assert not isinstance(result, Refused), result
        return result

    def agent(self, *names: str, tools: tuple[str, ...] = (), ttl_ms: int = 86_400_000) -> None:
        for name in names:
            self.do(c.Register(name, Card(name, "", "", (), tools, ()), ttl_ms, 0))

    def acquire(self, *task_ids: str, agent: str) -> None:
        for task_id in task_ids:
            self.do(c.AcquireLease(task_id, agent, 60_000, 0, False))

    def _observe(self, events: list[Event]) -> None:
        for event in events:
            self.replica.index.observe(event)

    async def names(self, **fields: Any) -> list[str]:
        answer = await self.registry.list_agents(pb.ListAgentsRequest(**fields), Caller())
        return [agent.card.name for agent in answer.agents]


async def refusal(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value
