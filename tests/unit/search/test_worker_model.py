"""The worker process with the real model."""

import asyncio
import math
from array import array

import pytest

from agentkeeper.search.model.locate import locate
from agentkeeper.search.worker.process import EmbeddingProcess

MODEL = locate().model

pytestmark = pytest.mark.skipif(MODEL is None, reason="no model is installed")


async def ready(process: EmbeddingProcess, changed: asyncio.Event) -> None:
    process.start()
    async with asyncio.timeout(150):
        while process.state != "ready":
            changed.clear()
            await changed.wait()


def cosine(one: bytes, other: bytes) -> float:
    return sum(a * b for a, b in zip(array("f", one), array("f", other), strict=True))


async def test_vectors_tell_meanings_and_the_cache_gives_the_same_ones(tmp_path):
    assert MODEL is not None
    texts = [
        "someone who can make sense of a crumpled till receipt",
        "expense OCR: reads amounts and vendors from photos of invoices",
        "weather forecasts for farmers: rain, frost, wind",
        "long " * 10_000,
    ]
    changed = asyncio.Event()
    process = EmbeddingProcess(MODEL, tmp_path / "vectors.db", on_change=changed.set)
    await ready(process, changed)
    try:
        vectors = await process.embed(texts)
        assert await process.embed(texts, urgent=True) == vectors
    finally:
        await process.stop()
    assert (process.embedded, process.cache_hits) == (len(texts), len(texts))
    assert process.model_id.startswith(MODEL.runtime)
    assert {len(vector) for vector in vectors} == {4 * process.dimension}
    assert all(math.isclose(cosine(vector, vector), 1, abs_tol=1e-4) for vector in vectors)
    receipt, expenses, weather, _ = vectors
    assert cosine(receipt, expenses) > cosine(receipt, weather) + 0.1
