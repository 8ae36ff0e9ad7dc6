"""Whatever becomes of agents, the index finds those that are there, against a naive model."""

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from agentkeeper.core.commands import Deregister, Heartbeat, Register
from agentkeeper.core.records import AgentStatus

from .helpers import CARD, soon
from .test_agent_index_meaning import World

NAMES = st.integers(0, 2).map("agent-{}".format)
TOOLS = st.frozensets(st.sampled_from(["ocr", "maps", "mail"]))
STEPS = st.one_of(
    st.tuples(st.just("register"), NAMES, TOOLS),
    st.tuples(st.sampled_from(["deregister", "heartbeat"]), NAMES, TOOLS),
    st.tuples(st.sampled_from(["wait", "restore"]), NAMES, TOOLS),
    st.tuples(st.sampled_from(["ready", "restarting"]), NAMES, TOOLS),
)


def do(world: World, step: str, name: str, tools: frozenset[str]) -> None:
    state = world.log.machine.state
    if step == "register" and name not in state.agents:
        card = CARD._replace(name=name, tools=tuple(sorted(tools)))
        world.log.put(Register(name, card, 1_000, 0))
    elif step == "deregister":
        world.log.put(Deregister(name))
    elif step == "heartbeat":
        world.log.put(Heartbeat(name))
    elif step == "wait":
        world.log.put(later_ms=1_100)
    elif step == "restore":
        world.index.rebuild(state)
    elif step == "ready" or (step == "restarting" and world.embedder.state == "ready"):
        world.embedder.turn(step)


def living(world: World, tools: frozenset[str]) -> list[str]:
    agents = world.log.machine.state.agents.values()
    return [
        agent.agent_id
        for agent in sorted(agents, key=lambda agent: agent.order)
        if agent.status == AgentStatus.ALIVE and tools <= frozenset(agent.card.tools)
    ]


async def agrees(steps: list[tuple[str, str, frozenset[str]]], tools: frozenset[str]) -> None:
    world = World()
    everybody: Callable[[str], bool] = lambda agent_id: True  # noqa: E731
    for step in steps:
        do(world, *step)
        expected = living(world, tools)
        found = await world.index.find("", tools, everybody, 10, soon())
        assert [agent_id for agent_id, _ in found.ranked] == expected
        found = await world.index.find("agent", tools, everybody, 10, soon())
        assert sorted(agent_id for agent_id, _ in found.ranked) == sorted(expected)
        assert found.pending <= len(expected)
    if world.embedder.started:
        world.embedder.turn("ready")
        found = await world.index.find("agent", tools, everybody, 10, soon())
        assert found.pending == 0


@given(steps=st.lists(STEPS, max_size=25), tools=TOOLS)
@settings(max_examples=200)
def test_who_is_alive_is_found(
    steps: list[tuple[str, str, frozenset[str]]], tools: frozenset[str]
) -> None:
    asyncio.run(agrees(steps, tools))
