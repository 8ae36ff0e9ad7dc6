"""What makes a daemon wrong, by the plant's name: done in its process, before it starts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.replication import Replication
from agentkeeper.consensus.voting import Voting
from agentkeeper.core import commands as c
from agentkeeper.core import leases, sessions, snapshot
from agentkeeper.core.records import Acquired, Result
from agentkeeper.core.state import State
from agentkeeper.server import node
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.watch import WatchHub
from chaos.plants.stock import StockEngine

EVERY = 50


def _put(owner: object, name: str, value: object) -> None:
    """Put `value` in the place of what must be there: a plant that changes nothing is no plant."""
    getattr(owner, name)
    setattr(owner, name, value)


def stock_pysyncobj() -> None:
    """Another engine behind the port; see `chaos.plants.stock`."""
    _put(node, "RaftEngine", StockEngine)


def wall_clock() -> None:
    """Batches are stamped with the wall clock's time, and deadlines looked for by it."""

    def stamp(clock: ClusterClock) -> tuple[int, int]:
        clock.stamped_ms = clock.wall_ms()
        return clock.stamped_ms, clock.stamped_ms

    _put(ClusterClock, "stamp", stamp)
    _put(ClusterClock, "now_ms", ClusterClock.wall_ms)


def reads_without_a_majority() -> None:
    """All peers count as heard, and every round of reads as confirmed when it is begun."""
    decided = Voting.decide_on_standing

    def decide(raft: Voting) -> None:
        for peer in raft.last_response_s:
            raft.last_response_s[peer] = now_s()
        decided(raft)

    _put(Voting, "decide_on_standing", decide)
    _put(Replication, "confirmed_round", lambda raft: raft.round)


def answers_not_kept() -> None:
    """No command has been answered before."""
    _put(sessions, "_remembered", lambda *_: None)


def granted_while_held() -> None:
    """Replicas agree on which ones: those refused with a state's sequence that `EVERY` divides."""
    acquired = leases.acquire

    def acquire(state: State, command: c.AcquireLease, session_id: str, number: int) -> Result:
        result = acquired(state, command, session_id, number)
        refused = isinstance(result, Acquired) and not result.acquired
        if refused and state.last_sequence % EVERY == 0:
            lease = leases.grant(state, command.task_id, command.agent_id, command.ttl_ms)
            return Acquired(True, lease)
        return result

    _put(leases, "acquire", acquire)


def stale_tokens() -> None:
    """Holder and token that are compared are the lease's own."""
    guarded = leases._guarded

    def guard(state: State, task_id: str, agent_id: str, token: int) -> Any:
        held = leases.settled(state, task_id)
        if held is not None:
            agent_id, token = held.holder, held.token
        return guarded(state, task_id, agent_id, token)

    _put(leases, "_guarded", guard)


def event_skipped() -> None:
    """Where a watch resumes is taken for the first event it wants."""
    followed = WatchHub.follow

    def follow(
        hub: WatchHub, after: int, accepts: Any, *, progress: bool = False
    ) -> AsyncGenerator[bytes, None]:
        return followed(hub, after + 1 if after else after, accepts, progress=progress)

    _put(WatchHub, "follow", follow)


def token_not_in_snapshots() -> None:
    """The counter is made up again from the leases that there are."""
    restored = snapshot.restore

    def restore(data: bytes) -> tuple[State, int]:
        state, index = restored(data)
        held = itertools.chain((lease.token for lease in state.leases.values()), (0,))
        state.last_token = max(held)
        return state, index

    _put(snapshot, "restore", restore)


_PATCHES: tuple[Callable[[], None], ...] = (
    stock_pysyncobj,
    wall_clock,
    reads_without_a_majority,
    answers_not_kept,
    granted_while_held,
    stale_tokens,
    event_skipped,
    token_not_in_snapshots,
)

PATCHES = {patch.__name__.replace("_", "-"): patch for patch in _PATCHES}
"""By the plant's name."""
