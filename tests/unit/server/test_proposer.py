"""The proposer: batches, forwards, hands on again, answers once."""

import asyncio

import pytest

from agentkeeper.consensus.port import Outcome
from agentkeeper.core import limits, refusals
from agentkeeper.core.codec import ENCODING, pack_batch, pack_commands, unpack_commands
from agentkeeper.core.commands import Batch, Command, CreateTask, Heartbeat
from agentkeeper.core.records import DONE, Refused
from agentkeeper.server import proposer as module
from agentkeeper.server import room as room_module
from agentkeeper.server.errors import CallError
from agentkeeper.server.messages import Forward, Forwarded

from .helpers import Around, command, settle, soon, until


async def ended(task: "asyncio.Task[object]") -> CallError:
    with pytest.raises(CallError) as caught:
        await task
    return caught.value


async def test_what_arrives_while_a_batch_is_on_its_way_goes_into_the_next() -> None:
    around = Around()
    around.proposer.lead()
    first = around.submit(command(1))
    await settle()
    others = [around.submit(command(n)) for n in (2, 3, 4)]
    await settle()
    assert [around.commands(i) for i in range(len(around.batches))] == [[1]]
    around.commit()
    assert await first == DONE
    await settle()
    assert around.commands() == [2, 3, 4]
    around.commit()
    assert await asyncio.gather(*others) == [DONE] * 3
    assert around.proposer.pending == 0


async def test_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_COMMANDS", 3)
    around = Around()
    around.proposer.lead()
    tasks = [around.submit(command(n)) for n in range(1, 8)]
    for expected in ([1, 2, 3], [4, 5, 6], [7]):
        await settle()
        assert around.commands() == expected
        around.commit()
    await asyncio.gather(*tasks)


async def test_a_large_command_travels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES", 500)
    around = Around()
    around.proposer.lead()
    large = Command("", "s", 2, 0, CreateTask("t", "t", bytes(2_000), (), 0, 1, 0, ""))
    tasks = [around.submit(c) for c in (command(1), large, command(3))]
    for expected in ([1], [2], [3]):
        await settle()
        assert around.commands() == expected
        around.commit()
    await asyncio.gather(*tasks)


async def test_a_follower_forwards_and_answers_when_it_has_applied_the_entry() -> None:
    around = Around()
    around.proposer.follow("b")
    waiting = around.submit(command(1))
    await settle()
    node_id, message = around.sent[-1]
    assert (node_id, type(message)) == ("b", Forward)
    around.proposer.forwarded(Forwarded(message.number, True))
    await settle()
    assert not waiting.done()
    leader = Around()
    leader.proposer.lead()
    leader.proposer.take("a", message, may_lead=True)
    await settle()
    assert leader.commands() == [1]
    assert leader.sent == [("a", Forwarded(message.number, True))]
    around.apply(leader.batches[0])
    assert await waiting == DONE


async def test_another_request_under_the_same_number_does_not_answer_it() -> None:
    # Made through another replica, and applied here only after this one was submitted.
    around = Around()
    around.proposer.follow("b")
    waiting = around.submit(command(1))
    await settle()
    other = command(1)._replace(body=Heartbeat("somebody-else"))
    around.apply(pack_batch(Batch(1, 1, (other,)), ENCODING), DONE)
    await settle()
    assert not waiting.done()
    refusal = refusals.number_reused(1)
    around.apply(pack_batch(Batch(1, 1, (command(1),)), ENCODING), refusal)
    assert await waiting == refusal


async def test_a_lost_forward_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.0)
    around = Around()
    around.proposer.follow("b")
    waiting = around.submit(command(1))
    await settle()
    while len(around.sent) < 2:
        around.proposer.sweep()
        await settle()
    numbers = [message.number for _, message in around.sent]
    assert numbers[1] > numbers[0]
    assert around.sent[0][1].commands == around.sent[1][1].commands
    around.proposer.forwarded(
        Forwarded(around.sent[0][1].number, True)
    )  # late, for the first: means nothing
    waiting.cancel()


async def test_without_a_link_it_is_sent_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.0)
    around = Around()
    around.linked = False
    around.proposer.follow("b")
    waiting = around.submit(command(1))
    await settle()
    tried = len(around.sent)
    around.linked = True
    while len(around.sent) == tried:
        around.proposer.sweep()
        await settle()
    waiting.cancel()


async def test_a_change_of_leader_hands_on_everything_again() -> None:
    around = Around()
    around.proposer.follow("b")
    waiting = [around.submit(command(n)) for n in (1, 2)]
    await settle()
    around.proposer.follow("c")
    await settle()
    node_id, message = around.sent[-1]
    assert node_id == "c"
    assert [c.number for c in unpack_commands(message.commands)] == [1, 2]
    around.proposer.lead()
    await settle()
    assert around.commands() == [1, 2]
    around.commit()
    assert await asyncio.gather(*waiting) == [DONE, DONE]


async def test_nothing_is_handed_on_while_no_leader_is_known() -> None:
    around = Around()
    waiting = around.submit(command(1))
    around.proposer.follow(None)
    await settle()
    assert around.batches == []
    assert around.sent == []
    around.proposer.lead()
    await settle()
    assert around.commands() == [1]
    waiting.cancel()


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.UNKNOWN])
async def test_a_batch_that_was_not_committed_is_proposed_again(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    around = Around()
    around.proposer.lead()
    waiting = around.submit(command(1))
    await settle()
    around.proposed(outcome)
    await until(lambda: len(around.batches) == 2)
    assert around.commands(0) == around.commands(1) == [1]
    around.commit()
    assert await waiting == DONE


async def test_the_same_request_twice_is_one_command() -> None:
    around = Around()
    around.proposer.lead()
    both = [around.submit(command(1)), around.submit(command(1))]
    other = around.submit(command(1, session_id="another"))
    await settle()
    assert around.commands() == [1, 1]
    around.commit()
    assert await asyncio.gather(*both, other) == [DONE] * 3


async def test_one_caller_that_leaves_does_not_end_the_other() -> None:
    around = Around()
    around.proposer.lead()
    gone, stays = around.submit(command(1)), around.submit(command(1))
    await settle()
    gone.cancel()
    await settle()
    around.commit()
    assert await stays == DONE


async def test_more_than_may_be_pending_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_COMMANDS", 2)
    around = Around()
    waiting = [around.submit(command(n)) for n in (1, 2)]
    await settle()
    error = await ended(around.submit(command(3)))
    assert (error.code, error.definite) == ("RESOURCE_EXHAUSTED", True)
    around.proposer.lead()
    await settle()
    around.commit()
    await asyncio.gather(*waiting)
    again = around.submit(command(3))
    await settle()
    around.commit()
    assert await again == DONE


async def test_a_full_batch_that_waits_is_a_crowd_while_batches_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "BATCH_COMMANDS", 2)
    around, room = Around(), list[bool]()
    around.proposer._on_room = lambda: room.append(around.proposer.crowded)
    waiting = [around.submit(command(n)) for n in range(1, 4)]
    await settle()
    assert not around.proposer.crowded, "nobody takes anything"
    around.proposer.lead()
    await settle()
    assert not around.proposer.crowded, "one waits for the next batch"
    waiting += [around.submit(command(n)) for n in (4, 5)]
    await settle()
    assert around.proposer.crowded
    monkeypatch.setattr(room_module, "STALLED_S", 0.0)
    assert not around.proposer.crowded, "the log stands still"
    monkeypatch.setattr(room_module, "STALLED_S", 60.0)
    for _ in range(3):
        around.commit()
        await settle()
    assert room == [False, False, False]
    await asyncio.gather(*waiting)


async def test_more_bytes_than_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_BYTES", 200)
    around = Around()
    waiting = [around.submit(command(n)) for n in (1, 2)]
    await settle()
    error = await ended(around.submit(command(3)))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
    # Those nobody waits for any more take no room.
    for task in waiting:
        task.cancel()
    await settle()
    third = around.submit(command(3))
    await settle()
    assert not third.done()
    third.cancel()


async def test_what_nobody_waits_for_is_not_handed_on_and_does_not_pile_up() -> None:
    around = Around()
    for n in range(1, 1_000):
        task = around.submit(command(n))
        await settle()
        task.cancel()
        await settle()
    assert around.proposer.pending == 0
    assert len(around.proposer._queue) <= module.QUEUE_SLACK + 1
    assert around.proposer._queue_bytes == 0
    last = around.submit(command(1_000))
    around.proposer.lead()
    await settle()
    assert around.commands() == [1_000]
    last.cancel()


async def test_a_command_never_handed_on_has_definitely_no_effect() -> None:
    around = Around()
    error = await ended(around.submit(command(1), 0.0))
    assert (error.code, error.definite) == ("UNAVAILABLE", True)


async def test_a_command_handed_on_and_not_decided_is_of_unknown_outcome() -> None:
    around = Around()
    around.proposer.lead()
    waiting = asyncio.ensure_future(around.proposer.submit(command(1), soon(0.01)))
    error = await ended(waiting)
    assert around.commands() == [1]
    assert (error.code, error.reason, error.definite) == (
        "UNAVAILABLE",
        refusals.OUTCOME_UNKNOWN,
        False,
    )
    around.commit()  # decided too late: no harm


async def test_a_refusal_is_a_result() -> None:
    around = Around()
    around.proposer.lead()
    waiting = around.submit(command(1))
    await settle()
    refused = refusals.not_found("agent", "x")
    around.apply(around.batches[-1], refused)
    assert isinstance(await waiting, Refused)


def forward(number: int, *commands: Command) -> Forward:
    return Forward(number, pack_commands(list(commands), ENCODING))


async def test_foreign_batches_go_into_the_log_and_are_acknowledged() -> None:
    around = Around()
    around.proposer.take("b", forward(1, command(1)), may_lead=True)
    around.proposer.take("c", forward(7, command(2), command(3)), may_lead=True)
    await settle()
    assert around.batches == []  # about to lead: nothing yet
    own = around.submit(command(4))
    await settle()
    around.proposer.lead()
    await settle()
    assert around.commands() == [1, 2, 3, 4]
    assert around.sent == [("b", Forwarded(1, True)), ("c", Forwarded(7, True))]
    own.cancel()


async def test_foreign_batches_are_dropped_by_who_does_not_lead() -> None:
    around = Around()
    around.proposer.take("b", forward(1, command(1)), may_lead=False)
    assert around.sent == [("b", Forwarded(1, False))]
    around.proposer.take("b", forward(2, command(1)), may_lead=True)
    around.proposer.follow("c")
    assert around.sent[-1] == ("b", Forwarded(2, False))
    around.proposer.lead()
    await settle()
    assert around.batches == []


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x03\x90", b"\x92\x01\x91\x01", b"\x01"])
async def test_foreign_batches_that_cannot_be_read_are_dropped(data: bytes) -> None:
    around = Around()
    around.proposer.lead()
    around.proposer.take("b", Forward(5, data), may_lead=True)
    assert around.sent == [("b", Forwarded(5, False))]


async def test_of_each_follower_only_its_last_batch_is_kept() -> None:
    around = Around()
    for number in range(50):
        around.proposer.take("b", forward(number, command(number + 1)), may_lead=True)
    around.proposer.take("c", forward(1, command(99, "other")), may_lead=True)
    around.proposer.lead()
    await settle()
    assert around.commands() == [50, 99]
    assert around.sent == [("b", Forwarded(49, True)), ("c", Forwarded(1, True))]


async def test_what_every_leader_refused_has_definitely_no_effect() -> None:
    around = Around()
    around.proposer.lead()
    waiting = around.submit(command(1), 0.05)
    await settle()
    around.proposed(Outcome.REJECTED)
    around.proposer.follow(None)
    error = await ended(waiting)
    assert (error.code, error.definite) == ("UNAVAILABLE", True)


async def test_another_request_under_a_number_under_way_is_refused() -> None:
    around = Around()
    around.proposer.lead()
    first = around.submit(command(1))
    await settle()
    other = command(1)._replace(body=Heartbeat("another"))
    error = await ended(around.submit(other))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", refusals.NUMBER_REUSED)
    around.commit()
    assert await first == DONE


async def test_a_tick_is_an_empty_batch_of_the_leader() -> None:
    around = Around()
    around.proposer.tick()
    await settle()
    assert around.batches == []
    around.proposer.lead()
    around.proposer.tick()
    await settle()
    assert around.commands() == []
    around.proposed(Outcome.COMMITTED)
    await settle()
    assert len(around.batches) == 1


async def test_a_late_rejection_says_nothing_of_the_batch_that_came_after() -> None:
    """Deposed with a batch in the log, this replica then hands another to the new leader."""
    around = Around()
    around.proposer.lead()
    first = around.submit(command(1))
    await settle()
    around.proposer.follow("b")
    await settle()
    around.proposer.forwarded(Forwarded(around.sent[0][1].number, True))
    later = around.submit(command(2), seconds=0.05)
    await settle()
    around.proposer.forwarded(Forwarded(around.sent[1][1].number, True))
    around.proposed(Outcome.REJECTED, index=0)
    assert not (await ended(later)).definite
    first.cancel()
