"""How agents are searched for, and how the process is that makes vectors."""

from __future__ import annotations

from collections.abc import Iterator

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.server.agent_index import AgentIndex, FindMode
from agentkeeper.server.embedding import EMBEDDING_S
from agentkeeper.server.metrics.families import Reading, counter, counters, gauge, histogram


class SearchCounts:
    """Everything is told without a model too: as 0."""

    def __init__(self, index: AgentIndex) -> None:
        self._index = index

    def read(self) -> Iterator[Reading]:
        """See `Source.read`."""
        index, embedding = self._index, self._index.embedding
        yield counters(
            "agentkeeper_finds",
            "Searches for agents answered here, by what put the agents in order",
            ("mode",),
            {(mode.name.lower(),): index.finds[mode] for mode in FindMode},
        )
        yield gauge(
            "agentkeeper_search_vectors", "Agents that can be found by meaning here", index.vectors
        )
        yield gauge(
            "agentkeeper_search_pending_vectors",
            "ALIVE agents that wait for their vectors here",
            index.pending(),
        )
        nothing = Distribution(EMBEDDING_S)
        yield histogram(
            "agentkeeper_search_wait_duration_seconds",
            "How long searches waited for vectors, those that gave up left out",
            (nothing if embedding is None else embedding.wait_s).counted(),
        )
        yield histogram(
            "agentkeeper_search_embedding_duration_seconds",
            "How long the model took for a text",
            (nothing if embedding is None else embedding.model_s).counted(),
        )
        yield gauge("agentkeeper_search_model", "1 if there is a model", embedding is not None)
        yield from self._worker()

    def _worker(self) -> Iterator[Reading]:
        embedding = self._index.embedding
        embedder = None if embedding is None else embedding.embedder
        yield gauge(
            "agentkeeper_search_worker_up",
            "1 while the process that makes vectors takes texts",
            embedding is not None and embedding.ready,
        )
        yield counter(
            "agentkeeper_search_worker_restarts",
            "How often that process was started again, as it had died or hung",
            0 if embedder is None else embedder.restarts,
        )
        yield gauge(
            "agentkeeper_search_worker_memory_bytes",
            "Its memory in use",
            0 if embedder is None else embedder.rss_bytes(),
        )
        yield counters(
            "agentkeeper_search_embeddings",
            "Vectors made for texts by the model, or found in the cache",
            ("source",),
            {
                ("model",): 0 if embedder is None else embedder.embedded,
                ("cache",): 0 if embedder is None else embedder.cache_hits,
            },
        )
