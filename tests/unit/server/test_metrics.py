"""Metrics of calls, and how all of them become text."""

import asyncio
import threading
import time
from typing import Any

import pytest
from prometheus_client.core import HistogramMetricFamily

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.core.commands import (
    CreateTask,
    Register,
)
from agentkeeper.server import dispatch
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError, overloaded
from agentkeeper.server.metrics import families
from agentkeeper.server.metrics.calls import CALL_S

from . import watched_stack
from .helpers import CARD, settle
from .watched_stack import Watched

watched = watched_stack.watched


async def test_calls_by_method_status_and_reason(watched: Watched) -> None:
    await watched.call("CheckPolicy", pb.CheckPolicyRequest(subject="a", action="b", resource="c"))
    for agent_id in ("x", ""):
        with pytest.raises(CallError):
            await watched.call("Heartbeat", pb.HeartbeatRequest(agent_id=agent_id))
    assert await watched.value("rpc_total", method="Heartbeat") == 2
    handled = await watched.read("rpc_handled_total")
    assert handled == {
        (("code", "OK"), ("method", "CheckPolicy")): 1,
        (("code", "NOT_FOUND"), ("method", "Heartbeat")): 1,
        (("code", "INVALID_ARGUMENT"), ("method", "Heartbeat")): 1,
    }
    assert await watched.read("rpc_duration_seconds_count") == handled
    assert await watched.read("rpc_errors_total") == {
        (("reason", "not_found"),): 1,
        (("reason", "bad_field"),): 1,
        (("reason", "overloaded"),): 0,
        (("reason", "slow_watcher"),): 0,
    }
    assert await watched.value("policy_checks_total", verdict="denied") == 1


async def test_calls_that_wait_are_counted_and_not_timed(watched: Watched) -> None:
    await watched.stack.replica.submit(Register("a", CARD, 60_000, 0), Caller())
    claim = asyncio.ensure_future(
        watched.call("ClaimTask", pb.ClaimTaskRequest(agent_id="a", wait_ms=60_000))
    )
    await settle()
    waiting = {"limit": "waiting_calls", "of": "replica"}
    assert await watched.value("limit_used_ratio", **waiting) == 1 / limits.WAITING_CALLS
    assert await watched.value("claim_waiters") == 1
    claim.cancel()
    await settle()
    assert await watched.value("rpc_handled_total", method="ClaimTask", code="CANCELLED") == 1
    assert set((await watched.read("rpc_errors_total")).values()) == {0}, "that is no error"
    assert await watched.read("rpc_duration_seconds_count") == {}
    assert await watched.value("limit_used_ratio", **waiting) == 0


async def test_a_call_broken_off_as_its_time_is_up_ran_out_of_time(watched: Watched) -> None:
    await watched.stack.replica.submit(Register("a", CARD, 60_000, 0), Caller())
    request = pb.ClaimTaskRequest(agent_id="a", wait_ms=60_000).SerializeToString()
    for deadline_s in (watched.loop.time() + 3_600, watched.loop.time()):
        caller = Caller(deadline_s=deadline_s)
        answering = watched.dispatcher.answer("ClaimTask", request, caller)
        call = asyncio.ensure_future(answering)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    assert await watched.read("rpc_handled_total") == {
        (("code", "CANCELLED"), ("method", "ClaimTask")): 1,
        (("code", "DEADLINE_EXCEEDED"), ("method", "ClaimTask")): 1,
    }
    assert await watched.value("rpc_errors_total", reason="deadline_exceeded") == 1


@pytest.mark.parametrize(("took_s", "ran_out"), [(100, True), (10, False)])
async def test_a_deadline_that_was_rounded_up_is_reached_a_little_early(
    took_s: float, ran_out: bool
) -> None:
    caller = Caller(deadline_s=asyncio.get_running_loop().time() + 1)
    assert dispatch._ran_out(caller, time.perf_counter() - took_s) is ran_out


async def test_a_call_refused_before_it_was_dispatched_is_counted(watched: Watched) -> None:
    assert await watched.value("rpc_errors_total", reason="overloaded") == 0
    watched.dispatcher.count("Find", overloaded("too many"))
    watched.dispatcher.count("<b>nonsense</b>", overloaded("too many"))
    assert await watched.read("rpc_total") == {(("method", "Find"),): 1}
    assert await watched.value("rpc_handled_total", method="Find", code="RESOURCE_EXHAUSTED") == 1
    assert await watched.value("rpc_errors_total", reason="overloaded") == 1
    assert watched.calls.failures == 1


async def test_watches_count_when_they_end(watched: Watched) -> None:
    events, _ = await watched.dispatcher.subscribe("Watch", b"", Caller())
    assert await watched.read("rpc_handled_total") == {}
    following = asyncio.ensure_future(anext(events))
    await settle()
    assert await watched.value("watchers") == 1
    following.cancel()
    await settle()
    assert await watched.value("watchers") == 0
    assert await watched.value("rpc_handled_total", method="Watch", code="CANCELLED") == 1
    assert set((await watched.read("rpc_errors_total")).values()) == {0}
    assert await watched.read("rpc_duration_seconds_count") == {}


async def test_text_is_written_beside_the_loop_whatever_was_called(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [m.name for of in watched.stack.services().values() for m in of]
    for method in methods:
        for code in ("OK", "UNAVAILABLE", "NOT_FOUND", "INTERNAL"):
            watched.calls.ended(method, code, "" if code == "OK" else "some", 0.001, None)
    loops_thread = threading.get_ident()
    families_made = 0

    class Family(HistogramMetricFamily):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nonlocal families_made
            families_made += 1
            assert threading.get_ident() != loops_thread
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(families, "HistogramMetricFamily", Family)
    assert len(methods) > 30
    buckets = len(CALL_S) + 1
    assert len(await watched.read("rpc_duration_seconds_bucket")) == len(methods) * 4 * buckets
    assert families_made >= 10


async def test_who_asks_meanwhile_gets_the_same_text(watched: Watched) -> None:
    first = asyncio.ensure_future(watched.metrics.render())
    others = [asyncio.ensure_future(watched.metrics.render()) for _ in range(9)]
    await asyncio.sleep(0)
    first.cancel()  # that one goes away hurts no other
    texts = await asyncio.gather(*others)
    assert all(text is texts[0] for text in texts)
    assert await watched.metrics.render() is not texts[0]


async def test_what_the_log_held_at_the_start_is_not_counted_again(watched: Watched) -> None:
    replica, caller = watched.stack.replica, Caller()
    await replica.submit(CreateTask("t", "x", b"input", (), 0, 60_000, 0, ""), caller)
    before = await watched.value("entries_total")
    index = watched.engine.status().last_log_index
    watched.observation.opened_index = index + 1
    await replica.submit(Register("a", CARD, 60_000, 0), caller)
    assert watched.engine.status().last_log_index == index + 1
    assert await watched.value("entries_total") == before
    assert (("reason", ""), ("topic", "agent.registered")) not in await watched.read("events_total")
    await replica.submit(Register("b", CARD, 60_000, 0), caller)
    assert await watched.value("entries_total") == before + 1
    assert await watched.value("events_total", topic="agent.registered", reason="") == 1
