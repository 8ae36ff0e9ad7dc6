"""Leases with fencing tokens, and the line of those who wait for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper.core import limits, refusals, registry, sessions
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import DONE, WAITING, Acquired, Lease, Refused, Result, Waiter
from agentkeeper.core.state import waiter_key

if TYPE_CHECKING:
    from agentkeeper.core.commands import AcquireLease, ReleaseLease, RenewLease
    from agentkeeper.core.state import State

HOLDER_DIED = "holder_died"
UNCONFIRMED = "unconfirmed"


def acquire(state: State, command: AcquireLease, session_id: str, number: int) -> Result:
    """Grant the lease, tell who holds it, or put the request in line.

    A request that waited asks again, under the same number, once it sees its grant: that confirms
    the grant and starts the ttl. One whose grant nobody confirms in time is passed over.
    """
    if registry.settled(state, command.agent_id) is None:
        return refusals.not_found("agent", command.agent_id)
    held = settled(state, command.task_id)
    if held is not None and held.grant == (session_id, number):
        return Acquired(True, _prolong(state, held, held.ttl_ms))
    if (session_id, number) in state.waiters:
        return WAITING
    if held is None:
        if len(state.leases) >= limits.LEASES:
            return refusals.limit("leases", limits.LEASES)
        if state.leases_by_agent.count(command.agent_id) >= limits.LEASES_EACH:
            return refusals.limit("leases of this agent", limits.LEASES_EACH)
        return Acquired(True, grant(state, command.task_id, command.agent_id, command.ttl_ms))
    if held.holder == command.agent_id and held.grant is None and not command.exclusive:
        # The holder may take it anew: whoever assigned the work acquired on the agent's behalf.
        _drop(state, held)
        return Acquired(True, grant(state, command.task_id, command.agent_id, command.ttl_ms))
    if command.wait_ms == 0:
        return Acquired(False, held._replace(token=0))
    return _wait(state, command, session_id, number)


def renew(state: State, command: RenewLease) -> Result:
    """Give the lease a new deadline, if holder and token are the present ones."""
    held = _guarded(state, command.task_id, command.agent_id, command.token)
    if isinstance(held, Refused):
        return held
    lease = _prolong(state, held, command.ttl_ms or held.ttl_ms)
    state.emit("lease.renewed", lease.task_id, lease)
    return lease


def release(state: State, command: ReleaseLease) -> Result:
    """Free the lease, if holder and token are the present ones."""
    held = _guarded(state, command.task_id, command.agent_id, command.token)
    if isinstance(held, Refused):
        return held
    free(state, held, "lease.released", "")
    return DONE


def settled(state: State, task_id: str) -> Lease | None:
    """The lease as it is held now, with whatever is due of it done first."""
    lease = state.leases.get(task_id)
    while lease is not None and state.expired(lease.deadline_ms):
        expire(state, lease)
        lease = state.leases.get(task_id)
    if lease is not None and registry.settled(state, lease.holder) is None:
        # The holder's death was due: it has released the lease, perhaps to the next in line.
        return settled(state, task_id)
    return lease


def expire(state: State, lease: Lease) -> None:
    """End a lease whose time is over."""
    reason = UNCONFIRMED if lease.grant is not None else ""
    free(state, lease, "lease.expired", reason)


def free(state: State, lease: Lease, topic: str, reason: str) -> None:
    """Take a lease from its holder, tell why, and grant it to the next in line."""
    _drop(state, lease)
    state.emit(topic, lease.task_id, lease, reason)
    _grant_next(state, lease.task_id)


def grant(
    state: State,
    task_id: str,
    agent_id: str,
    ttl_ms: int,
    waiting: tuple[str, int] | None = None,
) -> Lease:
    """Give a free lease to an agent under a new token."""
    span_ms = ttl_ms if waiting is None else limits.GRANT_CONFIRM_MS
    lease = Lease(
        task_id=task_id,
        holder=agent_id,
        token=state.next_token(),
        ttl_ms=ttl_ms,
        acquired_wall_ms=state.wall_ms,
        expires_wall_ms=state.wall_ms + span_ms,
        deadline_ms=state.time_ms + span_ms,
        grant=waiting,
    )
    state.leases.put(task_id, lease)
    state.derive_lease(lease)
    state.emit("lease.acquired", task_id, lease)
    return lease


def release_all(state: State, agent_id: str) -> None:
    """Free the leases of an agent that has died."""
    for task_id, _ in state.leases_by_agent.of(agent_id):
        lease = state.leases.get(task_id)
        if lease is not None and lease.holder == agent_id:
            free(state, lease, "lease.released", HOLDER_DIED)


def drop_waiters(state: State, keys: list[tuple[str, int]]) -> None:
    """Take requests out of their lines."""
    for key in keys:
        waiter = state.waiters.get(key)
        if waiter is not None:
            _leave_line(state, waiter)


def withdraw(state: State, key: tuple[str, int]) -> None:
    """Take a request out of its line, or pass on the lease granted to it and not confirmed."""
    drop_waiters(state, [key])
    lease = state.leases.get(state.grants.get(key, ""))
    if lease is not None:
        free(state, lease, "lease.released", UNCONFIRMED)


def give_back(state: State, granted: Lease) -> None:
    """Free a lease whose answer could not be delivered, if it is still the present one."""
    lease = state.leases.get(granted.task_id)
    if lease is not None and lease.token == granted.token:
        free(state, lease, "lease.released", UNCONFIRMED)


def _guarded(state: State, task_id: str, agent_id: str, token: int) -> Lease | Refused:
    """The lease, if `agent_id` holds it under `token`."""
    if registry.settled(state, agent_id) is None:
        return refusals.not_found("agent", agent_id)
    held = settled(state, task_id)
    if held is None:
        return refusals.not_found("lease", task_id)
    if held.holder != agent_id or held.token != token:
        return refusals.stale_token(task_id)
    return held


def _prolong(state: State, held: Lease, ttl_ms: int) -> Lease:
    lease = held._replace(
        ttl_ms=ttl_ms,
        expires_wall_ms=state.wall_ms + ttl_ms,
        deadline_ms=state.time_ms + ttl_ms,
        grant=None,
    )
    if held.grant is not None:
        state.grants.pop(held.grant, None)
    state.leases.put(lease.task_id, lease)
    state.deadlines.set(Kind.LEASE, lease.task_id, lease.deadline_ms)
    return lease


def _drop(state: State, lease: Lease) -> None:
    state.leases.drop(lease.task_id)
    state.deadlines.clear(Kind.LEASE, lease.task_id)
    state.leases_by_agent.discard(lease.holder, lease.task_id)
    if lease.grant is not None:
        state.grants.pop(lease.grant, None)


def _wait(state: State, command: AcquireLease, session_id: str, number: int) -> Result:
    if len(state.waiters) >= limits.LEASE_WAITERS:
        return refusals.limit("requests waiting for leases", limits.LEASE_WAITERS)
    if len(state.lines.get(command.task_id, ())) >= limits.LEASE_WAITERS_EACH:
        return refusals.limit("requests waiting for this lease", limits.LEASE_WAITERS_EACH)
    waiter = Waiter(
        task_id=command.task_id,
        place=state.next_order(),
        agent_id=command.agent_id,
        ttl_ms=command.ttl_ms,
        session_id=session_id,
        number=number,
        deadline_ms=state.time_ms + command.wait_ms + limits.WAITER_SLACK_MS,
    )
    sessions.keep_until(state, session_id, waiter.deadline_ms)
    state.waiters.put((session_id, number), waiter)
    state.derive_waiter(waiter)
    return WAITING


def _grant_next(state: State, task_id: str) -> None:
    """Grant a lease that has just become free to whoever has waited longest and still lives."""
    while task_id not in state.leases and task_id in state.lines:
        waiter = next(iter(state.lines[task_id].values()))
        _leave_line(state, waiter)
        # One that is about to die is passed over, not ended here: its death frees other leases,
        # and a chain of those would be as deep as there are agents.
        if state.expired(waiter.deadline_ms) or registry.doomed(state, waiter.agent_id):
            continue
        if state.leases_by_agent.count(waiter.agent_id) >= limits.LEASES_EACH:
            continue
        key = (waiter.session_id, waiter.number)
        grant(state, task_id, waiter.agent_id, waiter.ttl_ms, key)


def _leave_line(state: State, waiter: Waiter) -> None:
    state.waiters.drop((waiter.session_id, waiter.number))
    state.deadlines.clear(Kind.WAITER, waiter_key(waiter))
    state.waiters_by_agent.discard(waiter.agent_id, waiter.session_id, waiter.number)
    state.waiters_by_session.discard(waiter.session_id, waiter.session_id, waiter.number)
    line = state.lines[waiter.task_id]
    del line[waiter.place]
    if not line:
        del state.lines[waiter.task_id]
