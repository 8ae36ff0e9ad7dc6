"""Read rounds: shared, asked again, ended in time."""

import asyncio
from collections.abc import Callable

import pytest

from agentkeeper.core import limits
from agentkeeper.server import reads as module
from agentkeeper.server.errors import CallError
from agentkeeper.server.messages import AskIndex, TellIndex
from agentkeeper.server.reads import ReadRounds

from .helpers import FAR_S, settle, soon, until


class Rounds:
    """Reads with an engine and links that are answered by hand."""

    def __init__(self) -> None:
        self.asked: list[Callable[[int | None], None]] = []
        self.sent: list[tuple[str, AskIndex | TellIndex]] = []
        self.linked = True
        self.reads = ReadRounds(lambda _, on_result: self.asked.append(on_result), self.send)

    def send(self, node_id: str, message: AskIndex | TellIndex) -> bool:
        self.sent.append((node_id, message))
        return self.linked

    def index(self, seconds: float = FAR_S) -> "asyncio.Task[int]":
        return asyncio.ensure_future(self.reads.index(soon(seconds)))


async def test_reads_that_arrive_during_a_round_share_the_next() -> None:
    rounds = Rounds()
    rounds.reads.lead()
    first = rounds.index()
    await settle()
    others = [rounds.index() for _ in range(5)]
    await settle()
    assert len(rounds.asked) == 1
    rounds.asked[0](7)
    assert await first == 7
    await settle()
    assert not any(other.done() for other in others)
    assert len(rounds.asked) == 2
    rounds.asked[1](9)
    assert await asyncio.gather(*others) == [9] * 5


async def test_a_follower_asks_the_leader() -> None:
    rounds = Rounds()
    rounds.reads.follow("b")
    read = rounds.index()
    await settle()
    node_id, ask = rounds.sent[-1]
    assert node_id == "b"
    rounds.reads.told(TellIndex(ask.number + 1, 99))  # of no round of ours
    await settle()
    assert not read.done()
    rounds.reads.told(TellIndex(ask.number, 5))
    assert await read == 5


async def test_a_change_of_leader_in_a_round_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSE_S", 0.0)
    rounds = Rounds()
    rounds.reads.lead()
    read = rounds.index()
    await settle()
    rounds.reads.follow("b")
    await until(lambda: bool(rounds.sent))
    rounds.asked[0](3)  # from when this replica led: means nothing now
    await settle()
    assert not read.done()
    rounds.reads.told(TellIndex(rounds.sent[-1][1].number, 8))
    assert await read == 8


async def test_a_round_without_an_answer_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_TIMEOUT_S", 0.0)
    monkeypatch.setattr(module, "RETRY_PAUSE_S", 0.0)
    rounds = Rounds()
    rounds.reads.follow("b")
    read = rounds.index()
    await until(lambda: len(rounds.sent) >= 3)
    monkeypatch.setattr(module, "ROUND_TIMEOUT_S", FAR_S)
    sent = len(rounds.sent)
    await until(lambda: len(rounds.sent) > sent)
    rounds.reads.told(TellIndex(rounds.sent[-1][1].number, 4))
    assert await read == 4


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("leader_id", [None, "b"])
async def test_without_an_answer_the_read_ends_as_unavailable(
    leader_id: str | None, linked: bool
) -> None:
    rounds = Rounds()
    rounds.linked = linked
    rounds.reads.follow(leader_id)
    with pytest.raises(CallError) as caught:
        await rounds.index(0.01)
    assert (caught.value.code, caught.value.definite) == ("UNAVAILABLE", True)


async def test_reads_go_on_after_a_time_without_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSE_S", 0.0)
    rounds = Rounds()
    rounds.reads.follow(None)
    read = rounds.index()
    await settle()
    rounds.reads.lead()
    await until(lambda: bool(rounds.asked))
    rounds.asked[-1](6)
    assert await read == 6


async def test_too_many_reads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_READS", 2)
    rounds = Rounds()
    rounds.reads.lead()
    first = rounds.index()
    await settle()
    waiting = [rounds.index() for _ in range(2)]
    await settle()
    with pytest.raises(CallError) as caught:
        await rounds.index()
    assert caught.value.reason == "overloaded"
    for task in (first, *waiting):
        task.cancel()


async def test_questions_of_others() -> None:
    rounds = Rounds()
    rounds.reads.follow("c")
    rounds.reads.answer("b", AskIndex(1))
    assert rounds.sent == [("b", TellIndex(1, None))]
    rounds.reads.lead()
    rounds.reads.answer("b", AskIndex(2))
    rounds.asked[-1](11)
    assert rounds.sent[-1] == ("b", TellIndex(2, 11))
