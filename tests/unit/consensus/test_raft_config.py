"""What a replica's settings may be."""

from __future__ import annotations

import pytest

from agentkeeper.consensus import limits
from agentkeeper.consensus.config import RaftConfig


def peers(*ids: str) -> dict[str, str]:
    return dict.fromkeys(ids, "localhost:7400")


def test_a_cluster_has_a_bounded_number_of_replicas() -> None:
    ids = [f"replica-{number}" for number in range(limits.MAX_REPLICAS + 1)]
    assert len(RaftConfig(ids[0], peers=peers(*ids[:-1])).member_ids) == limits.MAX_REPLICAS
    with pytest.raises(ValueError, match="at most 16 replicas"):
        RaftConfig(ids[0], peers=peers(*ids))


def test_a_node_id_has_a_bounded_length() -> None:
    longest, too_long = "a" * limits.MAX_NAME_BYTES, "a" * (limits.MAX_NAME_BYTES + 1)
    assert RaftConfig(longest, peers=peers(longest, "b")).other_ids == ["b"]
    for node_id, others in ((too_long, ()), (too_long, (too_long, "b")), ("b", (too_long, "b"))):
        with pytest.raises(ValueError, match=f"'{too_long}' is longer than 64"):
            RaftConfig(node_id, peers=peers(*others))
