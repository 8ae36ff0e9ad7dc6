"""The fenced store, and the counters that clients leave behind."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.clients.counts import LATENCY_BOUNDS_S, Counter, Counts, read_counts
from chaos.clients.store import Store, StoreClient
from chaos.history import Outcome


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as store:
        yield store


def test_takes_rising_tokens_and_refuses_lower_ones(store: Store) -> None:
    assert store.write("a", 5, "c0")
    assert store.write("a", 5, "c0"), "the same client, again"
    assert not store.write("a", 5, "c1"), "nobody else has that token"
    assert not store.write("a", 4, "c0")
    assert store.write("a", 6, "c1")
    assert not store.write("a", 5, "c0")
    assert store.write("b", 1, "c0"), "each key has tokens of its own"
    assert [(w.key, w.token, w.client, w.accepted) for w in store.writes] == [
        ("a", 5, "c0", True),
        ("a", 5, "c0", True),
        ("a", 5, "c1", False),
        ("a", 4, "c0", False),
        ("a", 6, "c1", True),
        ("a", 5, "c0", False),
        ("b", 1, "c0", True),
    ]
    assert sorted(w.at_ns for w in store.writes) == [w.at_ns for w in store.writes]


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Store]:
    with Store() as store:
        yield store


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["c0", "c1"]))))
def test_accepted_tokens_never_fall(shared_store: Store, writes: list[tuple[int, str]]) -> None:
    key = uuid.uuid4().hex
    highest = (0, "")
    for token, client in writes:
        rises = token > highest[0] or (token, client) == highest
        assert shared_store.write(key, token, client) is rises
        highest = (token, client) if rises else highest


async def test_clients_write_through_the_socket(store: Store) -> None:
    first, second = StoreClient(store.path, "c0"), StoreClient(store.path, "c1")
    assert await first.write("a", 2)
    assert not await second.write("a", 1)
    first.close()
    assert await first.write("a", 2), "on another connection it is still the same client"
    assert [w.client for w in store.writes] == ["c0", "c1", "c0"]
    first.close()
    second.close()


async def test_a_client_is_told_when_the_store_is_gone() -> None:
    with Store() as store:
        path = store.path
    with pytest.raises(OSError, match="No such file"):
        await StoreClient(path, "c0").write("a", 1)


def test_counters_are_read_while_they_count(tmp_path: Path) -> None:
    path = tmp_path / "c0.counts"
    assert read_counts(path) == Counts()
    counter = Counter(path)
    for _ in range(98):
        counter.count(Outcome.OK, 0.0004)
    counter.count(Outcome.REFUSED, 0.1)
    counter.count(Outcome.UNAVAILABLE, 1_000.0)
    before = read_counts(path)
    counter.count(Outcome.UNKNOWN, None)
    counts = read_counts(path)
    assert (counts.total, counts.answered) == (101, 99)
    assert counts.latency_s(0.5) == LATENCY_BOUNDS_S[0]
    assert 0.1 <= counts.latency_s(0.99) <= 0.135
    assert counts.latency_s(1.0) == LATENCY_BOUNDS_S[-1]
    since = counts - before
    assert (since.total, since.by_outcome[Outcome.UNKNOWN], since.latency_s(0.5)) == (1, 1, 0.0)
    assert before + since == counts
