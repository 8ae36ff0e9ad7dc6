"""Faults planted in the state machine and its server: leases, sessions, events, time."""

from __future__ import annotations

import itertools
import sys
import zlib
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from pysyncobj import syncobj

from agentkeeper.core import commands as c
from agentkeeper.core import leases, registry, sessions, snapshot, tasks
from agentkeeper.core.records import Acquired, Result
from agentkeeper.core.snapshot import Snapshot
from agentkeeper.core.state import Index, State
from agentkeeper.server import machine
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.watch import WatchHub

EARLY_MS = 400


# --- leases and tasks ----------------------------------------------------------------------------
def granted_while_held(patch: pytest.MonkeyPatch) -> None:
    """Whoever does not want to wait gets the lease at once, whoever holds it."""
    acquired = leases.acquire

    def acquire(state: State, command: c.AcquireLease, session_id: str, number: int) -> Result:
        result = acquired(state, command, session_id, number)
        if isinstance(result, Acquired) and not result.acquired:
            lease = leases.grant(state, command.task_id, command.agent_id, command.ttl_ms)
            return Acquired(True, lease)
        return result

    patch.setattr(leases, "acquire", acquire)


def granted_to_the_dead(patch: pytest.MonkeyPatch) -> None:
    """An agent that has died keeps its places in line, and is granted what it waited for."""
    patch.setattr(registry, "doomed", lambda state, agent_id: False)
    kept = SimpleNamespace(drop_waiters=lambda *_: None, release_all=leases.release_all)
    patch.setattr(registry, "leases", kept)


def stale_lease_token(patch: pytest.MonkeyPatch) -> None:
    """A lease is renewed and released under any token its holder has had."""
    guarded = leases._guarded

    def guard(state: State, task_id: str, agent_id: str, token: int) -> Any:
        held = state.leases.get(task_id)
        return guarded(state, task_id, agent_id, token if held is None else held.token)

    patch.setattr(leases, "_guarded", guard)


def stale_claim_token(patch: pytest.MonkeyPatch) -> None:
    """A claim that has ended still ends or extends the one that followed it."""
    guarded = tasks._guarded

    def guard(state: State, task_id: str, agent_id: str, token: int) -> Any:
        task = state.tasks.get(task_id)
        if task is not None and task.claimed_by:
            agent_id, token = task.claimed_by, task.claim_token
        return guarded(state, task_id, agent_id, token)

    patch.setattr(tasks, "_guarded", guard)


def token_lost_in_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A restored state gives out tokens from the highest that is held on, not that was given."""
    restored = snapshot.restore

    def restore(data: bytes) -> tuple[State, int]:
        state, index = restored(data)
        state.last_token = max((lease.token for lease in state.leases.values()), default=0)
        return state, index

    patch.setattr(snapshot, "restore", restore)


# --- time ----------------------------------------------------------------------------------------
def expiry_by_own_clock(patch: pytest.MonkeyPatch) -> None:
    """Each replica judges deadlines by its own monotonic clock."""
    offsets: dict[int, tuple[State, float]] = {}

    def expired(state: State, deadline_ms: int) -> bool:
        own_ms = 1000 * syncobj.monotonicTime()
        _, offset_ms = offsets.setdefault(id(state), (state, own_ms - state.time_ms))
        return bool(own_ms - offset_ms >= deadline_ms)

    patch.setattr(State, "expired", expired)


def deadlines_early(patch: pytest.MonkeyPatch) -> None:
    """Everything expires a little before its time."""
    expired = State.expired
    patch.setattr(State, "expired", lambda state, at_ms: expired(state, at_ms - EARLY_MS))


def time_rewound_at_takeover(patch: pytest.MonkeyPatch) -> None:
    """A new leader goes on from its own time, though the state is past it."""
    started, applied = ClusterClock.start, machine.apply

    def apply(state: State, batch: c.Batch) -> Any:
        takes_over = any(isinstance(command.body, c.Takeover) for command in batch.commands)
        if not takes_over:
            state.time_ms = min(state.time_ms, batch.time_ms)
        return applied(state, batch)

    patch.setattr(ClusterClock, "start", lambda clock, at_ms: started(clock, max(0, at_ms - 1000)))
    patch.setattr(machine, "apply", apply)


def time_from_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """The leader stamps what its wall clock shows."""

    def stamp(clock: ClusterClock) -> tuple[int, int]:
        clock.stamped_ms = clock.wall_ms()
        return clock.stamped_ms, clock.stamped_ms

    patch.setattr(ClusterClock, "stamp", stamp)
    patch.setattr(ClusterClock, "now_ms", ClusterClock.wall_ms)


def clock_runs_fast(patch: pytest.MonkeyPatch) -> None:
    """The leader counts a hundredth more than passes."""

    def now_ms(clock: ClusterClock) -> int:
        now_s = clock._monotonic_s()
        if clock._looked_s is not None:
            clock._time_ms += 1000 * (now_s - clock._looked_s) * 1.01
        clock._looked_s = now_s
        return int(clock._time_ms)

    patch.setattr(ClusterClock, "now_ms", now_ms)


# --- sessions ------------------------------------------------------------------------------------
def answers_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A retry runs again."""
    patch.setattr(sessions, "_remembered", lambda *_: None)


def answers_lost_in_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A retry runs again on a replica that was restored."""
    _without_table(patch, "answers")


def sessions_lost_in_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A restored replica knows no sessions."""
    _without_table(patch, "sessions")


def _without_table(patch: pytest.MonkeyPatch, name: str) -> None:
    captured = snapshot.Capture.snapshot

    def capture(self: snapshot.Capture) -> Snapshot:
        whole = captured(self)
        tables = tuple((table, {} if table == name else rows) for table, rows in whole.tables)
        return whole._replace(tables=tables)

    patch.setattr(snapshot.Capture, "snapshot", capture)


# --- events --------------------------------------------------------------------------------------
def sequence_used_again(patch: pytest.MonkeyPatch) -> None:
    """A new leader gives its first event the number of the last one."""
    handlers = sys.modules["agentkeeper.core.apply"]._HANDLERS
    took_over = handlers[c.Takeover]

    def take_over(state: State, command: c.Takeover) -> Result:
        state.last_sequence = max(0, state.last_sequence - 1)
        result: Result = took_over(state, command)
        return result

    patch.setitem(handlers, c.Takeover, take_over)


def event_skipped_on_resume(patch: pytest.MonkeyPatch) -> None:
    """A watch that goes on elsewhere begins one event late."""
    followed = WatchHub.follow

    def follow(
        hub: WatchHub, after: int, accepts: Any, *, progress: bool = False
    ) -> AsyncGenerator[bytes, None]:
        return followed(hub, after + 1 if after else after, accepts, progress=progress)

    patch.setattr(WatchHub, "follow", follow)


# --- all replicas alike --------------------------------------------------------------------------
def order_of_hashes(patch: pytest.MonkeyPatch) -> None:
    """What an agent had ends in the order of hashes, which differs from process to process."""
    seeds = itertools.count()
    made = Index.__init__

    def make(index: Index) -> None:
        made(index)
        index.seed = next(seeds)  # type: ignore[attr-defined]

    def of(index: Index, owner: str) -> list[tuple[str, int]]:
        def by_hash(key: tuple[str, int]) -> int:
            return zlib.crc32(f"{index.seed}{key}".encode())  # type: ignore[attr-defined]

        return sorted(index._ids.get(owner, ()), key=by_hash)

    patch.setattr(Index, "__init__", make)
    patch.setattr(Index, "of", of)
