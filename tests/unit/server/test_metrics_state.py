"""Metrics of the state, the engine and the process: every number by what was done."""

import asyncio
import gc
import os
import time
from pathlib import Path

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.consensus.port import Outcome, PeerStatus, Role
from agentkeeper.core import limits
from agentkeeper.core.commands import (
    AcquireLease,
    CreateTask,
    Deregister,
    Register,
    ReleaseLease,
    RenewLease,
)
from agentkeeper.core.records import Acquired
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from agentkeeper.server.metrics.pauses import LOOK_S, Pauses

from . import watched_stack
from .helpers import CARD
from .watched_stack import Watched, grown

watched = watched_stack.watched


async def test_commands_and_events_as_they_are_applied(watched: Watched) -> None:
    commands, events = await watched.read("commands_total"), await watched.read("events_total")
    replica, caller = watched.stack.replica, Caller()
    await replica.submit(Register("a", CARD, 60_000, 0), caller)
    acquired = await replica.submit(AcquireLease("l", "a", 60_000, 0, False), caller)
    assert isinstance(acquired, Acquired)
    token = acquired.lease.token
    await replica.submit(RenewLease("l", "a", token, 0), caller)
    with pytest.raises(CallError):
        await replica.submit(RenewLease("l", "a", token + 1, 0), caller)
    await replica.submit(ReleaseLease("l", "a", token), caller)
    await replica.submit(Deregister("a"), caller)
    risen = await grown(watched, "commands_total", commands)
    assert {key: risen[key] for key in risen if "Lease" in key[0][1]} == {
        (("command", "AcquireLease"), ("result", "done")): 1,
        (("command", "RenewLease"), ("result", "done")): 1,
        (("command", "RenewLease"), ("result", "refused")): 1,
        (("command", "ReleaseLease"), ("result", "done")): 1,
    }
    assert await grown(watched, "events_total", events) == {
        (("reason", ""), ("topic", "agent.registered")): 1,
        (("reason", ""), ("topic", "lease.acquired")): 1,
        (("reason", ""), ("topic", "lease.renewed")): 1,
        (("reason", ""), ("topic", "lease.released")): 1,
        (("reason", "deregistered"), ("topic", "agent.died")): 1,
    }
    entries = await watched.value("entry_commands_count")
    assert await watched.value("entry_commands_sum") >= entries > 0


async def test_what_there_is(watched: Watched) -> None:
    replica, caller = watched.stack.replica, Caller()
    for agent_id in "ab":
        await replica.submit(Register(agent_id, CARD, 60_000, 0), caller)
    await replica.submit(Deregister("b"), caller)
    await replica.submit(AcquireLease("l", "a", 60_000, 0, False), caller)
    await replica.submit(CreateTask("t", "x", b"input", (), 0, 60_000, 0, ""), caller)
    assert await watched.value("agents_alive") == 1
    assert await watched.value("leases_active") == 1
    assert await watched.read("agents") == {
        (("state", "ALIVE"),): 1,
        (("state", "UNREACHABLE"),): 0,
        (("state", "DEAD"),): 1,
    }
    assert await watched.value("tasks", state="PENDING") == 1
    assert await watched.value("policies") == 0
    assert await watched.value("task_oldest_pending_seconds") == 0
    watched.wall_ms += 90_000
    assert await watched.value("task_oldest_pending_seconds") == 90
    assert watched.metrics.summary() == (1, 1)
    used = await watched.read("limit_used_ratio")
    for (_, name), (_, of) in used:
        assert hasattr(limits, name.upper()), name
        assert of in ("cluster", "replica")
    full = {name: used[("limit", name), ("of", "cluster")] for name in ("agents", "task_bytes")}
    assert full == {"agents": 1 / limits.AGENTS, "task_bytes": 5 / limits.TASK_BYTES}


async def test_how_far_watchers_are_behind(watched: Watched) -> None:
    replica, caller = watched.stack.replica, Caller()
    slow = replica.hub.follow(0, lambda event: True)
    quick = replica.hub.follow(0, lambda event: True)
    for agent_id in "abc":
        await replica.submit(Register(agent_id, CARD, 60_000, 0), caller)
    await anext(slow)
    for _ in range(3):
        await anext(quick)
    assert await watched.value("watch_behind_events") == 2
    assert await watched.value("watch_behind_events_max") == 2
    await slow.aclose()
    assert await watched.value("watch_behind_events_max") == 0


async def test_what_the_engine_tells(watched: Watched) -> None:
    watched.changes = {
        "role": Role.LEADER,
        "term": 7,
        "last_log_index": 120,
        "commit_index": 110,
        "first_log_index": 21,
        "peers": {
            "b": PeerStatus(True, 100),
            "cut off": PeerStatus(False, 100),
            "just linked": PeerStatus(True, 0),
            "of a follower": PeerStatus(True, None),
        },
        "trouble": "",
    }
    watched.observation.proposal_ended(Outcome.COMMITTED, 10, watched.observation.clock())
    assert await watched.value("raft_is_leader") == 1
    assert await watched.value("raft_term") == 7
    assert await watched.value("raft_log_entries") == 100
    assert await watched.value("raft_trouble") == 0
    connected = await watched.read("raft_peer_connected")
    assert (connected[(("peer", "b"),)], connected[(("peer", "cut off"),)]) == (1, 0)
    assert await watched.read("raft_peer_lag_entries") == {(("peer", "b"),): 20}
    assert await watched.value("raft_proposals_total", outcome="committed") == 1
    assert await watched.value("raft_commit_duration_seconds_count") == 1
    assert await watched.read("raft_snapshot_index") == {}
    watched.observation.snapshot_stored(90, 5_000)
    assert await watched.value("raft_snapshot_index") == 90
    assert await watched.value("raft_snapshot_bytes") == 5_000
    live = watched.metrics.live()
    assert (live.uncommitted_entries, live.unapplied_entries) == (
        10,
        110 - watched.stack.machine.applied_index,
    )


async def test_what_was_refused_on_the_links(watched: Watched) -> None:
    watched.changes = {"refused": {"forged": 3, "silent": 1}}
    assert await watched.read("raft_refused_total") == {
        (("reason", "forged"),): 3,
        (("reason", "silent"),): 1,
    }


async def test_a_snapshot_is_as_old_as_its_file(watched: Watched, tmp_path: Path) -> None:
    assert await watched.read("raft_snapshot_age_seconds") == {}
    file = tmp_path / "snapshot"
    file.touch()
    os.utime(file, (time.time() - 5_000, time.time() - 5_000))
    assert 5_000 <= await watched.value("raft_snapshot_age_seconds") < 6_000
    file.unlink()


async def test_a_replica_that_is_not_ready(watched: Watched) -> None:
    assert await watched.value("ready") == 1
    watched.stack.refuse_calls()
    assert await watched.value("ready") == 0


async def test_the_disk_is_told_of_while_there_is_one(watched: Watched, tmp_path: Path) -> None:
    assert 0 < await watched.value("disk_free_bytes") <= await watched.value("disk_size_bytes")
    os.rmdir(tmp_path)
    assert await watched.read("disk_free_bytes") == {}


async def test_live_figures_are_those_of_the_last_samples(watched: Watched) -> None:
    metrics = watched.metrics
    assert metrics.live().calls_per_s == 0
    for _ in range(10):
        await watched.call(
            "CheckPolicy", pb.CheckPolicyRequest(subject="a", action="b", resource="c")
        )
    with pytest.raises(CallError):
        await watched.call("Heartbeat", pb.HeartbeatRequest(agent_id="nobody"))
    metrics._live.sample()
    live = metrics.live()
    assert live.span_s > 0
    assert live.calls_per_s * live.span_s == pytest.approx(11)
    assert live.failures_per_s == 0, "what the caller did wrong is no failure"
    assert live.commands_per_s > 0
    assert live.call_p50_ms is not None
    assert live.call_p99_ms is not None
    assert 0 < live.call_p50_ms <= live.call_p99_ms
    assert live.commit_p99_ms is None
    for _ in range(10):
        metrics._live.sample()
    assert metrics.live().calls_per_s == 0, "long ago"
    assert metrics.live().call_p50_ms is None


async def test_the_loop_and_the_collector_are_looked_at_until_it_stops() -> None:
    pauses = Pauses()
    pauses.start()
    try:
        time.sleep(2 * LOOK_S)  # noqa: ASYNC251  # the loop is to stand still
        await asyncio.sleep(0.01)
        gc.collect()
        assert pauses.worst_s() >= LOOK_S / 2
        assert pauses.worst_s() == 0.0, "each is told of once"
        found = {family.name: family for family in (make() for make in pauses.read())}
        most = found["agentkeeper_event_loop_lag_max_seconds"].samples[0].value
        assert most >= LOOK_S / 2
        collected = found["agentkeeper_gc_pause_duration_seconds"].samples
        assert next(s.value for s in collected if s.name.endswith("_count")) >= 1
    finally:
        pauses.stop()
        pauses.stop()
    assert pauses._on_collection not in gc.callbacks


async def test_it_takes_samples_from_start_to_stop(watched: Watched) -> None:
    assert watched.metrics.live().span_s == 0
    watched.metrics.start()
    assert watched.metrics.live().span_s > 0
    watched.metrics.stop()
    watched.metrics.stop()
    assert watched.metrics._timer is not None
    assert watched.metrics._timer.cancelled()
