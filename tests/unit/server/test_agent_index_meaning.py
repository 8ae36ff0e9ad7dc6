"""Agents found by meaning: who is embedded when, and what a search does without vectors."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentkeeper.core.commands import Deregister, Heartbeat, Register
from agentkeeper.search.agents import Search
from agentkeeper.search.worker.process import MAX_URGENT, EmbeddingRefused
from agentkeeper.server import agent_index, embedding
from agentkeeper.server.agent_index import AgentIndex, FindMode, Found

from .helpers import CARD, FAR_S, Log, settle, soon, until
from .slow_embedder import SlowEmbedder

UNRANKED, LEXICAL, SEMANTIC = FindMode


class Counted:
    """`asyncio.sleep` that tells for how long it was called."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self.values: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.values.append(seconds)
        await self._sleep(seconds)


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


async def test_of_many_who_came_nobody_is_embedded_in_the_call(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready", background=False)
    few = embedding.YOUNGEST
    for number in range(few + 1):
        world.register(f"agent-{number:02}", "truck", "t" if number else "u")
    found = await world.find("lorry", limit=20)
    assert (found.mode, found.pending, len(found.ranked)) == (SEMANTIC, few + 1, few + 1)
    found = await world.find("lorry", "t")
    assert (found.pending, len(found.ranked)) == (0, few), "so few with the tools are"


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
    await until(lambda: world.embedder.at_once == 0)
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
@pytest.mark.parametrize("seconds", [FAR_S, 0.002])
async def test_one_waits_in_vain_for_all(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.lanes[True].clear()
    assert (await world.find("truck", seconds=seconds)).mode is LEXICAL
    asked = world.index.embedding
    assert asked is not None
    await until(lambda: asked._hanging)
    monkeypatch.setattr(embedding, "MEANING_S", FAR_S)
    async with asyncio.timeout(FAR_S / 2):
        for query in ("truck", "lorry"):
            assert (await world.find(query)).mode is LEXICAL
    assert "lorry" not in world.embedder.texts
    world.embedder.lanes[True].set()
    await until(lambda: not asked._hanging)
    assert (await world.find("lorry")).mode is SEMANTIC, "as soon as it does something"


async def test_one_that_is_slow_does_not_hang(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MEANING_S", 0.01)
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.lanes[True].clear()
    assert world.index.embedding is not None
    watched: list[int] = []
    watch = world.index.embedding._watch

    def noted(done: int) -> None:
        watched.append(done)
        world.embedder.embedded += 1
        watch(done)

    monkeypatch.setattr(world.index.embedding, "_watch", noted)
    assert (await world.find("truck")).mode is LEXICAL
    await until(lambda: len(watched) > 2)
    monkeypatch.setattr(embedding, "MEANING_S", FAR_S)
    search = asyncio.ensure_future(world.find("lorry"))
    await until(lambda: "lorry" in world.embedder.texts)
    world.embedder.lanes[True].set()
    assert (await search).mode is SEMANTIC


@pytest.mark.usefixtures("impatient")
async def test_what_nobody_waits_for_any_more_is_there_the_next_time(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.lanes[True].clear()
    assert (await world.find("truck")).mode is LEXICAL
    world.embedder.lanes[True].set()
    await until(lambda: world.embedder.at_once == 0)
    assert (await world.find("truck")).mode is SEMANTIC
    assert world.embedder.texts == ["truck"]


async def test_equal_queries_are_embedded_once_and_one_who_leaves_harms_nobody(
    world: World,
) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.lanes[True].clear()
    searches = [asyncio.ensure_future(world.find("truck")) for _ in range(20)]
    await until(lambda: world.embedder.at_once == 1)
    searches[0].cancel()
    await settle()
    world.embedder.lanes[True].set()
    assert {found.mode for found in await asyncio.gather(*searches[1:])} == {SEMANTIC}
    assert world.embedder.texts == ["truck"]


async def test_queries_are_not_remembered_on_disk(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready", background=False)
    world.register("routes", "truck routes")
    assert (await world.find("lorry")).mode is SEMANTIC
    assert "lorry" in world.embedder.texts
    assert {"lorry", *world.embedder.kept} == {*world.embedder.texts}
    assert "lorry" not in world.embedder.kept


async def test_a_burst_is_served_as_far_as_there_is_time(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.spent_s = 0.1
    assert (await world.find("the first")).mode is SEMANTIC
    world.embedder.lanes[True].clear()
    searches = [asyncio.ensure_future(world.find(f"query {n}")) for n in range(50)]
    await until(lambda: sum(search.done() for search in searches) >= 39)
    assert {search.result().mode for search in searches if search.done()} == {LEXICAL}
    world.embedder.lanes[True].set()
    await asyncio.gather(*searches)
    served = [search.result().mode is SEMANTIC for search in searches]
    assert served == [True] * 11 + [False] * 39, "at a tenth of a second each, in a second"
    assert (await world.find("the next")).mode is SEMANTIC


async def test_one_slow_text_keeps_nobody_from_the_next_try(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    world.embedder.spent_s = 100.0
    for query in ("a", "b"):
        assert (await world.find(query)).mode is SEMANTIC


@pytest.mark.usefixtures("impatient")
async def test_fresh_agents_that_take_too_long_hold_no_query_up(world: World) -> None:
    await world.find("start it")
    world.embedder.turn("ready")
    await world.find("lorry")
    await until(lambda: world.embedder.at_once == 0)
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
    world.embedder.turn("ready")
    world.embedder.lanes[True].clear()
    most = embedding.MAX_ASKED
    searches = [asyncio.ensure_future(world.find(f"query {n}")) for n in range(most + 10)]
    await until(lambda: world.embedder.at_once == most)
    world.embedder.lanes[True].set()
    modes = [found.mode for found in await asyncio.gather(*searches)]
    assert modes == [SEMANTIC] * most + [LEXICAL] * 10
    assert world.embedder.most_at_once == most <= MAX_URGENT


async def test_a_vector_without_direction_costs_one_agent_and_no_other(world: World) -> None:
    for agent_id, description in (("good", "truck"), ("bad", "nothing"), ("fine", "truck")):
        world.register(agent_id, description)
    await world.find()
    world.embedder.void = "nothing"
    world.embedder.turn("ready")
    await until(lambda: world.index.vectors == 2)
    assert (await world.find("lorry")).pending == 0
    found = await world.find("nothing")
    assert (found.ranked[0][0], found.mode) == ("bad", LEXICAL)


@pytest.mark.usefixtures("impatient")
async def test_what_can_not_be_foreseen_ends_no_embedding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.register("routes", "truck routes")
    await world.find()
    embed = world.embedder.embed
    spoilt = iter([OSError("strange"), EmbeddingRefused("of another text", "strange")])

    async def fail_at_first(*texts: Any, **how: Any) -> list[bytes]:
        if (error := next(spoilt, None)) is not None:
            raise error
        return await embed(*texts, **how)

    monkeypatch.setattr(world.embedder, "embed", fail_at_first)
    monkeypatch.setattr(embedding.asyncio, "sleep", counted := Counted(asyncio.sleep))
    world.embedder.turn("ready")
    await until(lambda: world.index.vectors == 1)
    assert counted.values.count(embedding.RETRY_S) == 2, "it does not spin"


async def test_who_was_given_up_is_tried_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "FORGIVEN_S", 0.01)
    world.register("routes", "truck routes")
    await world.find()
    world.embedder.deadly = "truck"
    world.embedder.turn("ready")
    await until(lambda: bool(world.embedder.texts) and not world.index.pending())
    world.embedder.deadly = ""
    await until(lambda: world.index.vectors == 1)


async def test_another_model_begins_anew(world: World) -> None:
    world.register("routes", "truck routes")
    await world.find()
    world.embedder.turn("ready")
    await world.done()
    await world.find("lorry")
    asked = [*world.embedder.texts]
    world.embedder.turn("restarting")
    world.embedder.next_model_id = "another"
    world.embedder.turn("ready")
    assert world.index.vectors == 0
    await world.done()
    assert (await world.find("lorry")).mode is SEMANTIC
    assert world.embedder.texts == 2 * asked


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


async def test_no_search_waits_for_many_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_index, "INLINE_ROWS", 0)
    monkeypatch.setattr(agent_index, "MAX_SCANS", 3)
    world.register("routes", "truck routes")
    await world.find()
    world.embedder.turn("ready")
    await world.done()
    await world.find("lorry")
    go = threading.Event()
    run = Search.run

    def waiting(search: Search) -> None:
        if search.tiers:
            go.wait(FAR_S)
        run(search)

    monkeypatch.setattr(Search, "run", waiting)
    searches = [asyncio.ensure_future(world.find("lorry")) for _ in range(5)]
    await until(lambda: sum(search.done() for search in searches) == 2)
    go.set()
    modes = [found.mode for found in await asyncio.gather(*searches)]
    assert modes == [SEMANTIC] * 3 + [LEXICAL] * 2
    assert (await world.find("lorry")).mode is SEMANTIC


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
    assert (ran_on[0] == threading.get_ident()) is (inline_rows > 0)
    await world.index.stop()
    assert world.embedder.stopped
