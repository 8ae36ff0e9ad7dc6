"""Metrics of searches, and of what makes vectors."""

from typing import Any

import pytest
from prometheus_client import Metric

from agentkeeper.core.commands import Register
from agentkeeper.server.agent_index import AgentIndex
from agentkeeper.server.metrics.search import SearchCounts

from .helpers import CARD, Log, soon, until
from .slow_embedder import SlowEmbedder


def read(index: AgentIndex) -> dict[str, float]:
    """Samples by name and label."""
    families: list[Metric] = [make() for make in SearchCounts(index).read()]
    return {
        " ".join([sample.name.removeprefix("agentkeeper_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


async def find(index: AgentIndex, query: str) -> Any:
    return await index.find(query, frozenset(), lambda agent_id: True, 10, soon())


@pytest.fixture
async def log() -> Log:
    log = Log()
    log.put(*(Register(f"agent-{n}", CARD, 60_000, 0) for n in range(3)))
    return log


async def test_without_a_model_all_is_there_and_0(log: Log) -> None:
    index = AgentIndex()
    index.rebuild(log.machine.state)
    await find(index, "")
    await find(index, "agent")
    await find(index, "agent")
    told = read(index)
    assert {name: value for name, value in told.items() if value} == {
        "finds_total unranked": 1,
        "finds_total lexical": 2,
    }
    assert told["search_worker_up"] == told["search_pending_vectors"] == 0


async def test_with_one_they_follow_the_worker(log: Log) -> None:
    made: list[SlowEmbedder] = []

    def make(*told: Any) -> SlowEmbedder:
        made.append(SlowEmbedder(*told))
        return made[-1]

    index = AgentIndex(make)
    index.rebuild(log.machine.state)
    await index.settled(soon())
    told = read(index)
    assert (told["search_model"], told["search_worker_up"]) == (1, 0)
    assert (told["search_vectors"], told["search_pending_vectors"]) == (0, 3)
    made[0].turn("ready")
    await until(lambda: not index.pending())
    await find(index, "agent")
    made[0].turn("restarting")
    made[0].cache_hits = 7
    told = read(index)
    assert {name: told[name] for name in told if "duration" not in name} == {
        "finds_total unranked": 0,
        "finds_total lexical": 0,
        "finds_total semantic": 1,
        "search_vectors": 3,
        "search_pending_vectors": 0,
        "search_model": 1,
        "search_worker_up": 0,
        "search_worker_restarts_total": 1,
        "search_worker_memory_bytes": 12_345,
        "search_embeddings_total model": 4,
        "search_embeddings_total cache": 7,
    }
    assert told["search_embedding_duration_seconds_count"] == 2, "one a call of this embedder"
    assert told["search_wait_duration_seconds_count"] == 1
