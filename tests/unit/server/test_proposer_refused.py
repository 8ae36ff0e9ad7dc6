"""What a leader took from a follower and its log then refused, as while leadership moves."""

import pytest

from agentkeeper.consensus.port import Outcome
from agentkeeper.core import refusals
from agentkeeper.core.codec import unpack_commands
from agentkeeper.server import proposer as module
from agentkeeper.server.messages import Forwarded

from .helpers import Around, command, settle, until
from .test_proposer import ended, forward


async def test_whose_batch_the_log_refused_is_told_after_all() -> None:
    """As while leadership moves: the leader itself leads on, but has not kept what it took."""
    leader = Around()
    leader.proposer.lead()
    for number in (1, 2):
        leader.proposer.take("b", forward(number, command(number)), may_lead=True)
        await settle()
        leader.proposed(Outcome.REJECTED if number == 1 else Outcome.UNKNOWN)
        await until(lambda: not leader.proposer._busy)
    assert leader.sent == [
        ("b", Forwarded(1, True)),
        ("b", Forwarded(1, False)),
        ("b", Forwarded(2, True)),
    ]


async def test_what_the_leader_gives_back_has_no_effect_and_is_sent_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REFUSED_S", 0.0)
    around = Around()
    around.proposer.follow("b")
    first = around.submit(command(1))
    await settle()
    number = around.sent[0][1].number
    around.proposer.forwarded(Forwarded(number, True))
    second = around.submit(command(2))
    await settle()
    for _ in range(2):  # that it comes twice changes nothing
        around.proposer.forwarded(Forwarded(number, False))
    assert (await ended(around.submit(command(1), 0.0))).reason != refusals.OUTCOME_UNKNOWN
    assert (await ended(around.submit(command(2), 0.0))).reason == refusals.OUTCOME_UNKNOWN
    around.proposer.forwarded(Forwarded(around.sent[1][1].number, True))
    while len(around.sent) == 2:
        around.proposer.sweep()
        await settle()
    assert [c.number for c in unpack_commands(around.sent[2][1].commands)] == [1]
    first.cancel()
    second.cancel()


async def test_what_a_former_leader_gives_back_is_not_counted_against_the_present() -> None:
    around = Around()
    around.proposer.follow("b")
    waiting = around.submit(command(1))
    await settle()
    former = around.sent[0][1].number
    around.proposer.follow("c")
    await settle()
    around.proposer.forwarded(Forwarded(former, False))
    error = await ended(around.submit(command(1), 0.0))
    assert error.reason == refusals.OUTCOME_UNKNOWN, "c may have it in its log"
    waiting.cancel()
