"""Many want few leases: they hold them for a while, write to the store, and some stand still.

Renewals and releases are calls of their own, by the lease's handle or, as an orchestrator would,
without it. Where a handle says LeaseLost, the cluster may have done what was asked for, too late
for the handle to count on it: then the outcome is unknown. For the same reason the SDK itself may
have given back what an acquisition of unknown outcome was granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentkeeper import AsyncLeaseHandle, errors
from chaos.clients.site import Site

TTLS_S = (2, 2, 3, 4, 6, 10)
WAITS_S = (0.0, 0.0, 0.0, 0.5, 2.0)
EXCLUSIVE = 0.2
KEPT = 0.1
"""The share of leases that the SDK renews by itself."""
BY_HANDLE = 0.5
LONGEST_LEFT_S = 4
"""Leases that last longer are released: nobody else could have them meanwhile."""
STEPS = 6
"""What is done with a lease at most, before it is given up in one way or another."""


@dataclass
class _Hold:
    """A lease that an actor was granted."""

    handle: AsyncLeaseHandle
    key: str
    agent: str
    token: int
    ttl: int
    by_handle: bool


async def contend(site: Site) -> None:
    """Acquire leases and give them up again."""
    while True:
        await site.pace()
        kept = site.rng.random() < KEPT
        hold = await _acquire(site, keep_alive=kept)
        if hold is None:
            if site.rng.random() < 0.3:
                await _get(site, site.shared_name())
        elif kept:
            await _hold_kept(site, hold)
        else:
            await _hold(site, hold)


async def _hold(site: Site, hold: _Hold) -> None:
    for _ in range(site.rng.randrange(STEPS)):
        await site.pace()
        step = site.rng.random()
        if step < 0.4:
            if not await _renew(site, hold):
                return
        elif step < 0.7:
            await _write(site, hold)
        elif step < 0.85:
            await _verify(site, hold)
        else:
            await _get(site, hold.key)
    await site.pace()
    end = site.rng.random()
    if end < 0.7 or hold.ttl > LONGEST_LEFT_S:
        await _release(site, hold)
    elif end < 0.85:
        await _oversleep(site, hold)
    # Else it runs out, or is acquired again before.


async def _oversleep(site: Site, hold: _Hold) -> None:
    """Stand still for longer than the lease lasts, and go on as if nothing had been."""
    await site.rest(hold.ttl * site.rng.uniform(1.0, 1.6))
    hold.by_handle = False  # the handle knows better
    await site.store.write(hold.key, hold.token)
    for step in site.rng.sample((_renew, _release, _verify), 2):
        await step(site, hold)
        await site.pace()


async def _hold_kept(site: Site, hold: _Hold) -> None:
    """Let the SDK renew a lease, perhaps for longer than it would last without."""
    for _ in range(STEPS):
        await site.rest(hold.ttl / 4)
        await _write(site, hold)
    await _release(site, hold)


async def _acquire(site: Site, *, keep_alive: bool) -> _Hold | None:
    agent = (await site.agent()).agent_id
    key, wait = site.shared_name(), site.rng.choice(WAITS_S)
    ttl = min(TTLS_S) if keep_alive else site.rng.choice(TTLS_S)
    exclusive = site.rng.random() < EXCLUSIVE
    args: dict[str, Any] = {"agent": agent, "ttl": ttl, "wait": wait}
    args |= {"exclusive": exclusive, "keep_alive": keep_alive}
    handle = None
    with site.call("acquire", key, waits=wait > 0, **args) as acquired:
        handle = await site.client.acquire_lease(
            key, agent, ttl, wait=wait, exclusive=exclusive, keep_alive=keep_alive
        )
        acquired.value = None if handle is None else {"token": handle.token}
    if isinstance(acquired.error, errors.NotFound):
        site.forget_agent()
    if handle is None:
        return None
    by_handle = keep_alive or site.rng.random() < BY_HANDLE
    return _Hold(handle, key, agent, handle.token, ttl, by_handle)


async def _renew(site: Site, hold: _Hold) -> bool:
    ttl = site.rng.choice(TTLS_S)
    args: dict[str, Any] = {"agent": hold.agent, "token": hold.token, "ttl": ttl}
    with site.call("renew", hold.key, **args) as renewed:
        if hold.by_handle:
            lease = await hold.handle.renew(ttl)
        else:
            lease = await site.client.renew_lease(hold.key, hold.agent, hold.token, ttl)
        hold.ttl = ttl
        renewed.value = {"token": lease.token}
    return renewed.ok


async def _release(site: Site, hold: _Hold) -> None:
    args: dict[str, Any] = {"agent": hold.agent, "token": hold.token}
    with site.call("release", hold.key, **args):
        if hold.by_handle:
            await hold.handle.release()
        else:
            await site.client.release_lease(hold.key, hold.agent, hold.token)


async def _write(site: Site, hold: _Hold) -> None:
    """Write to the store; what renews by its handle looks at that before, as one should."""
    if hold.by_handle:
        try:
            hold.handle.check()
        except errors.LeaseLost:
            return
    await site.store.write(hold.key, hold.token)


async def _verify(site: Site, hold: _Hold) -> None:
    with site.call("verify", hold.key, token=hold.token) as verified:
        valid = await site.client.verify_token(hold.key, hold.token)
        verified.value = {"valid": valid}


async def _get(site: Site, key: str) -> None:
    with site.call("get", key) as got:
        lease = (await site.client.get_lease(key)).lease
        got.value = {"holder": lease.holder_agent_id, "token": lease.token}
