"""What one page is told of the events, however fast they come and however seldom it looks."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from agentkeeper.core import epoch, limits
from agentkeeper.core.records import Effect, Policy
from agentkeeper.core.state import State
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.events import Filter, Rows, page, whole
from agentkeeper.server.http.live import BATCH_EVENTS, Reader
from agentkeeper.server.turns import Turns

TOPICS = ("policy.set", "policy.deleted")


def a_policy(name: str) -> Policy:
    return Policy(name, "s", "a", "r", Effect.ALLOW)


def replica_of(state: State) -> Any:
    return SimpleNamespace(state=state, turns=Turns())


def emit(state: State, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        state.emit(TOPICS[i % 2], name, a_policy(name))


async def batch_of(reader: Reader) -> tuple[list[int], int, int]:
    batch = await reader.batch()
    if batch is None:
        return [], 0, 0
    numbers = [event["sequence_number"] for event in batch["events"]]
    return numbers, batch["left_out"], batch["missed"]


async def test_a_page_is_told_what_comes_after_it_began() -> None:
    state = State()
    emit(state, ["before"])
    reader = Reader(replica_of(state), Rows(), Filter((), ""), None)
    assert await reader.batch() is None
    emit(state, ["x", "y"])
    batch = await reader.batch()
    assert batch is not None
    assert [e["subject"] for e in batch["events"]] == ["x", "y"]
    assert batch["events"][0]["detail"]["effect"] == "ALLOW"
    assert await reader.batch() is None


async def test_it_resumes_where_it_was_or_begins_anew_with_a_cluster_that_counts_from_one() -> None:
    state = State()
    emit(state, "abc")
    assert await batch_of(Reader(replica_of(state), Rows(), Filter((), ""), 1)) == ([2, 3], 0, 0)
    ahead = Reader(replica_of(state), Rows(), Filter((), ""), 10**9)
    assert await ahead.batch() is None
    emit(state, "d")
    assert await batch_of(ahead) == ([4], 0, 0)


async def test_a_state_restored_from_earlier_is_followed_from_its_end() -> None:
    state, restored = State(), State()
    emit(state, "abcdef")
    replica = replica_of(state)
    reader = Reader(replica, Rows(), Filter((), ""), None)
    emit(restored, "ab")
    replica.state = restored
    assert await reader.batch() is None
    emit(restored, "c")
    assert await batch_of(reader) == ([3], 0, 0)


async def test_of_a_life_before_nothing_is_known() -> None:
    state, restored = State(), State()
    emit(state, "abcdef")
    replica = replica_of(state)
    reader = Reader(replica, Rows(), Filter((), ""), None)
    restored.wall_ms = 1_800_000_000_000
    epoch.begin(restored)
    replica.state = restored
    emit(restored, "x")
    batch = await reader.batch()
    assert batch == {"events": [], "left_out": 0, "missed": None}
    emit(restored, "y")
    assert (await batch_of(reader))[1:] == (0, 0)
    assert reader.position == restored.last_sequence


async def test_what_is_gone_before_a_page_came_to_it_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "EVENTS", 10)
    state = State()
    reader = Reader(replica_of(state), Rows(), Filter((), ""), None)
    emit(state, [str(i) for i in range(25)])
    assert await batch_of(reader) == (list(range(16, 26)), 0, 15)


@given(st.lists(st.tuples(st.integers(0, 180), st.booleans()), max_size=6), st.booleans())
async def test_every_event_that_fits_is_told_or_counted(
    bursts: list[tuple[int, bool]], only_set: bool
) -> None:
    state = State()
    wanted = Filter(("policy.set",) if only_set else (), "")
    reader = Reader(replica_of(state), Rows(), wanted, None)
    told: list[int] = []
    counted = 0
    for length, looks in [*bursts, (0, True)]:
        emit(state, [str(i) for i in range(length)])
        if looks:
            numbers, left_out, _ = await batch_of(reader)
            assert len(numbers) <= BATCH_EVENTS
            assert left_out == 0 or len(numbers) == BATCH_EVENTS
            told += numbers
            counted += left_out
    fitting = [e.sequence for e in state.events.values() if wanted.accepts(e)]
    assert told == sorted(set(told))
    assert set(told) <= set(fitting)
    assert len(told) + counted == len(fitting)


async def test_pages_of_the_past_go_back_to_the_oldest_kept() -> None:
    state = State()
    emit(state, [f"p{i}" for i in range(45)])
    wanted = Filter.of(MultiDict([("topics", "policy.set"), ("contains", "p")]))
    seen: list[int] = []
    before = ""
    while True:
        query = MultiDict([("limit", "10"), *([("before", before)] if before else [])])
        answer = await page(replica_of(state), wanted, query)
        seen += [e["sequence_number"] for e in answer["events"]]
        if not answer["next_before"]:
            break
        before = str(answer["next_before"])
    assert seen == list(range(45, 0, -2))


def test_one_event_is_shown_with_all_that_it_carries() -> None:
    state = State()
    emit(state, ["x"])
    event = whole(state, MultiDict(sequence="1"))["event"]
    assert event["topic"] == "policy.set"
    assert event["payload"]["policy"]["id"] == "x"
    with pytest.raises(CallError) as refusal:
        whole(state, MultiDict(sequence="2"))
    assert refusal.value.code == "NOT_FOUND"


@pytest.mark.parametrize(
    "query", [{"limit": "x"}, {"limit": "501"}, {"before": "-1"}, {"before": "9" * 17}]
)
async def test_pages_that_cant_be_asked_for_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(CallError) as refusal:
        await page(replica_of(State()), Filter((), ""), MultiDict(query))
    assert refusal.value.code == "INVALID_ARGUMENT"
