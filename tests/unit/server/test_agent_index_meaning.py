"""Agents found by meaning: who is embedded when, and what a search does without vectors."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentkeeper.core.commands import Deregister, Heartbeat, Register
from agentkeeper.search.agents import Search
from agentkeeper.server import agent_index, embedding
from agentkeeper.server.agent_index import AgentIndex, FindMode, Found

from .helpers import CARD, FAR_S, Log, settle, soon, until
from .slow_embedder import SlowEmbedder

UNRANKED, LEXICAL, SEMANTIC = FindMode


@dataclass
class World:
    """A log, and an index that follows it."""

    log: Log = field(default_factory=Log)
    made: list[SlowEmbedder] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.index = AgentIndex(self._make)
        self.log.machine.on_applied.append(
            lambda applied: [self.index.observe(event) for event in applied.events]
        )

    def _make(self, *told: Any) -> SlowEmbedder:
        self.made.append(SlowEmbedder(*told))
        return self.made[-1]

    @property
    def embedder(self) -> SlowEmbedder:
        (only,) = self.made
        return only

    def register(self, agent_id: str, description: str = "", *tools: str, **more: int) -> None:
        card = CARD._replace(name=agent_id, description=description, tools=tools)
        self.log.put(Register(agent_id, card, more.get("ttl_ms", 3_600_000), 0))

    async def find(
        self, query: str = "", *tools: str, limit: int = 10, seconds: float = FAR_S
    ) -> Found:
        def fits(agent_id: str) -> bool:
            return agent_id in self.log.machine.state.tool_sets

        return await self.index.find(query, frozenset(tools), fits, limit, soon(seconds))

    async def found(self, query: str = "", *tools: str, limit: int = 10) -> list[str]:
        found = await self.find(query, *tools, limit=limit)
        return [agent_id for agent_id, _ in found.ranked]

    async def done(self) -> None:
        """Wait until nobody waits for a vector."""
        await until(lambda: not self.index.pending())


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MEANING_S", 0.01)
    monkeypatch.setattr(embedding, "BY_WORDS_S", 0.0)
    monkeypatch.setattr(embedding, "RETRY_S", 0.001)


async def test_nothing_is_started_before_there_is_an_agent(world: World) -> None:
    await settle()
    assert (await world.find()).mode is UNRANKED
    assert not world.embedder.started
    world.register("a")
    await world.find()
    assert world.embedder.started


async def test_a_query_starts_it_too_and_once(world: World) -> None:
    for _ in range(2):
        found = await world.find("anything")
        assert (found.ranked, found.mode, found.pending) == ([], LEXICAL, 0)
    assert world.embedder.started


async def test_while_it_loads_all_wait_and_words_decide(world: World) -> None:
    world.register("books", "expense booking", "ocr")
    world.register("routes", "truck routes")
    found = await world.find("truck")
    assert (found.ranked[0][0], found.mode, found.pending) == ("routes", LEXICAL, 2)
    assert (await world.find("truck", "ocr")).pending == 1
    world.embedder.turn("ready")
    found = await world.find("lorry")
    assert (found.ranked[0][0], found.mode, found.pending) == ("routes", SEMANTIC, 0)


async def test_all_get_their_vectors_though_nobody_asks(world: World) -> None:
    for number in range(100):
        world.register(f"agent-{number}", f"job {number}")
    await world.index.settled(soon())
    world.embedder.turn("ready")
    await world.done()
    assert world.index.vectors == 100
    assert len(world.embedder.texts) == 100, "each is embedded once"
    world.register("late")
    await until(lambda: world.index.vectors == 101)


async def test_who_came_a_moment_ago_is_embedded_in_the_call(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready", background=False)
    world.register("books", "expense booking")
    world.register("routes", "truck routes")
    found = await world.find("receipt")
    assert (found.ranked[0][0], found.mode, found.pending) == ("books", SEMANTIC, 0)


async def test_of_many_who_came_the_youngest_are_the_others_go_by_words(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready", background=False)
    for number in range(20):
        world.register(f"agent-{number:02}", "truck", "t" if number < 2 else "u")
    found = await world.find("lorry", limit=20)
    assert (found.mode, found.pending) == (SEMANTIC, 20 - embedding.YOUNGEST)
    assert sorted(a for a, _ in found.ranked[: embedding.YOUNGEST]) == [
        f"agent-{number}" for number in range(12, 20)
    ]
    assert len(found.ranked) == 20
    found = await world.find("lorry", "t")
    assert (found.pending, len(found.ranked)) == (0, 2), "only who has the tools is embedded"


@pytest.mark.usefixtures("impatient")
async def test_without_an_answer_in_time_words_decide(world: World) -> None:
    world.register("routes", "truck routes")
    await world.find()
    world.embedder.turn("ready")
    await world.done()
    for lane in world.embedder.lanes.values():
        lane.clear()
    found = await world.find("truck")
    assert (found.ranked[0][0], found.mode) == ("routes", LEXICAL)
    for lane in world.embedder.lanes.values():
        lane.set()
    assert (await world.find("truck")).mode is SEMANTIC
    assert world.index.finds == {UNRANKED: 1, LEXICAL: 1, SEMANTIC: 1}


async def test_a_deadline_that_is_nearer_leaves_time_for_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MEANING_S", FAR_S)
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.lanes[True].clear()
    async with asyncio.timeout(FAR_S / 2):
        assert (await world.find("truck", seconds=0.02)).mode is LEXICAL


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seconds", [FAR_S, 0.01])
async def test_one_waits_in_vain_for_all_unless_it_is_in_a_hurry(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(embedding, "BY_WORDS_S", FAR_S)
    await world.find("start it")
    world.embedder.turn("ready")
    for lane in world.embedder.lanes.values():
        lane.clear()
    assert (await world.find("truck", seconds=seconds)).mode is LEXICAL
    for lane in world.embedder.lanes.values():
        lane.set()
    others = LEXICAL if seconds == FAR_S else SEMANTIC
    assert (await world.find("lorry")).mode is others


@pytest.mark.usefixtures("impatient")
async def test_fresh_agents_that_take_too_long_hold_no_query_up(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    await world.find("lorry")
    for lane in world.embedder.lanes.values():
        lane.clear()
    world.register("routes", "truck routes")
    found = await world.find("lorry")
    assert (found.mode, found.pending) == (SEMANTIC, 1), "its vector is known from before"
    assert [agent_id for agent_id, _ in found.ranked] == ["routes"]


async def test_a_query_is_embedded_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "KEPT_QUERIES", 2)
    await world.find("start it")
    world.embedder.turn("ready")
    for query in ("a", "b", "a", "c", "a", "b"):
        await world.find(query)
    assert world.embedder.texts == ["a", "b", "c", "b"], "the one last used goes last"


async def test_many_searches_leave_room_in_the_embedders_queue(world: World) -> None:
    await world.find("start it")
    for number in range(20):
        world.register(f"agent-{number}")
    await world.index.settled(soon())
    world.embedder.turn("ready", background=False)
    world.embedder.lanes[True].clear()
    searches = [asyncio.ensure_future(world.find(f"query {n}")) for n in range(100)]
    most = embedding.QUERIES_AT_ONCE + embedding.YOUNGEST
    await until(lambda: world.embedder.at_once == most)
    world.embedder.lanes[True].set()
    assert {found.mode for found in await asyncio.gather(*searches)} == {SEMANTIC}
    assert world.embedder.most_at_once == most


async def test_a_text_that_is_refused_costs_one_agent_and_no_other(world: World) -> None:
    for agent_id, description in (("good", "truck"), ("bad", "poison truck"), ("fine", "truck")):
        world.register(agent_id, description)
    await world.find()
    world.embedder.deadly = "poison"
    world.embedder.turn("ready")
    await until(lambda: world.index.vectors == 2)
    found = await world.find("lorry")
    assert (found.mode, found.pending) == (SEMANTIC, 0)
    assert [agent_id for agent_id, _ in found.ranked] == ["good", "fine", "bad"]
    found = await world.find("poison")
    assert (found.ranked[0][0], found.mode) == ("bad", LEXICAL), "and so it is with a query"


@pytest.mark.usefixtures("impatient")
async def test_what_is_left_goes_on_after_a_death(world: World) -> None:
    world.register("books", "expense booking")
    await world.find()
    world.embedder.turn("ready")
    await world.done()
    world.embedder.turn("restarting")
    world.register("routes", "truck routes")
    found = await world.find("truck")
    assert (found.ranked[0][0], found.mode, found.pending) == ("routes", LEXICAL, 1)
    world.embedder.turn("ready")
    await until(lambda: world.index.vectors == 2)
    assert world.embedder.texts.count(world.embedder.texts[0]) == 1, "vectors outlive it"


@pytest.mark.usefixtures("impatient")
async def test_what_was_with_it_when_it_died_is_asked_for_again(world: World) -> None:
    world.register("routes", "truck routes")
    await world.find()
    world.embedder.turn("ready", background=False)
    await until(lambda: len(world.embedder.texts) == 1)
    world.embedder.turn("restarting")
    world.embedder.lanes[False].set()
    await settle()
    world.embedder.turn("ready")
    await until(lambda: world.index.vectors == 1)
    assert len(world.embedder.texts) == 2


async def test_a_restore_keeps_the_vectors_of_who_is_there(world: World) -> None:
    for agent_id in ("goes", "stays"):
        world.register(agent_id, f"{agent_id} truck")
    await world.find()
    world.embedder.turn("ready")
    await world.done()
    other = World()
    other.register("stays", "stays truck")
    other.register("comes", "comes truck")
    world.embedder.texts.clear()
    world.log.machine = other.log.machine
    world.index.rebuild(other.log.machine.state)
    assert await world.found("lorry") == ["stays", "comes"]
    await world.done()
    assert world.index.vectors == 2, "who is gone has none"
    assert "comes" in "".join(world.embedder.texts)
    assert "stays" not in "".join(world.embedder.texts)


async def test_only_who_is_alive_is_found_and_waits(world: World) -> None:
    world.register("silent", "truck", ttl_ms=1_000)
    world.register("here", "truck")
    assert (await world.find("truck")).pending == 2
    world.log.put(later_ms=1_500)
    found = await world.find("truck")
    assert ([a for a, _ in found.ranked], found.pending) == (["here"], 1)
    world.log.put(Heartbeat("silent"))
    assert (await world.find("truck")).pending == 2
    world.log.put(Deregister("here"))
    found = await world.find("truck")
    assert ([a for a, _ in found.ranked], found.pending) == (["silent"], 1)


async def test_without_a_query_the_oldest_come_first_and_nothing_is_embedded(world: World) -> None:
    for number in range(6):
        world.register(f"agent-{number}", "", "t", "odd" if number % 2 else "even")
    found = await world.find("", "t", "odd", limit=2)
    assert found.ranked == [("agent-1", 0.0), ("agent-3", 0.0)]
    assert (found.mode, found.pending) == (UNRANKED, 3)
    assert await world.found("", "nobody's") == []
    world.embedder.turn("ready", background=False)
    await world.find("", "t")
    assert world.embedder.at_once == world.embedder.most_at_once == 0


@pytest.mark.parametrize("inline_rows", [0, 100])
async def test_much_is_compared_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, inline_rows: int
) -> None:
    monkeypatch.setattr(agent_index, "INLINE_ROWS", inline_rows)
    world.register("books", "expense booking")
    world.register("routes", "truck routes")
    await world.find()
    world.embedder.turn("ready")
    await world.done()
    ran_on: list[int] = []
    run = Search.run

    def noted(search: Search) -> None:
        ran_on.append(threading.get_ident())
        run(search)

    monkeypatch.setattr(Search, "run", noted)
    assert await world.found("lorry", limit=1) == ["routes"]
    assert [ident == threading.get_ident() for ident in ran_on] == [inline_rows > 0]
    await world.index.stop()
    assert world.embedder.stopped
