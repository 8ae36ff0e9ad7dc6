"""Some create tasks, the others claim them and complete most of them.

Every task has a type of its own, by which it is known even if its creator was never answered. All
tasks of a run need one tool, which only its claimers have.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from agentkeeper import Task, errors
from chaos.clients.site import Site, Stopping

TTLS_S = (2, 3, 4)
CLAIM_TIMEOUT_S = 3.0
DRAIN_TIMEOUT_S = 8.0
"""Of the last claims, longer than any claim: what others have left comes back meanwhile."""
BACKLOG = 10
"""Tasks of one creator that may be waiting to be done."""
OPEN = {"PENDING", "CLAIMED"}


async def create_or_claim(site: Site) -> None:
    """Every third actor of a process creates."""
    if site.number % 3 == 0:
        await _create_all(site)
    try:
        await _claim_all(site)
    except Stopping:
        site.finish()
        while await _claim(site, DRAIN_TIMEOUT_S):
            pass


# ------------------------------------------------------------ creating


async def _create_all(site: Site) -> None:
    waiting: deque[str] = deque()
    while True:
        await site.pace()
        if len(waiting) < BACKLOG:
            waiting += await _create(site)
        if waiting and (len(waiting) == BACKLOG or site.rng.random() < 0.3):
            await site.pace()
            if not await _is_open(site, waiting[0]):
                waiting.popleft()
            else:
                waiting.rotate(-1)


async def _create(site: Site) -> list[str]:
    """Create a task, or try to; where it has an idempotency key perhaps twice, for one task."""
    type, again = site.own_name(), site.rng.random() < 0.2
    args: dict[str, Any] = {
        "max_retries": site.rng.choice((0, 1, 3)),
        "ttl": site.rng.choice(TTLS_S),
        "idempotency_key": type if again or site.rng.random() < 0.3 else "",
    }
    ids: list[str] = []
    for _ in range(2 if again else 1):
        with site.call("create", type, **args) as created:
            task = await site.client.create_task(
                type,
                required_tools=[_tool(site)],
                priority=site.rng.randrange(3),
                **args,
            )
            created.value = {"id": task.id}
            ids = [task.id]
    return ids


async def _is_open(site: Site, id: str) -> bool:
    with site.call("get", id) as got:
        task = await site.client.get_task(id)
        got.value = {
            "status": task.status.value,
            "token": task.claim_token,
            "retry_count": task.retry_count,
        }
    if got.ok:
        return got.value["status"] in OPEN
    return not isinstance(got.error, errors.NotFound)


# ------------------------------------------------------------ claiming


async def _claim_all(site: Site) -> None:
    while True:
        await site.pace()
        await _claim(site, CLAIM_TIMEOUT_S)


async def _claim(site: Site, timeout_s: float) -> bool:
    """Claim a task and deal with it; False if none came."""
    agent = (await site.agent([_tool(site)])).agent_id
    task = None
    with site.call("claim", "", waits=True, agent=agent) as claimed:
        task = await site.client.claim_task(agent, timeout=timeout_s)
        claimed.value = {
            "id": task.id,
            "type": task.type,
            "token": task.claim_token,
            "retry_count": task.retry_count,
            "expired_claims": task.expired_claims,
        }
    if isinstance(claimed.error, errors.NotFound):
        site.forget_agent()
        return True
    if task is not None:
        await _deal_with(site, task, agent)
    return task is not None


async def _deal_with(site: Site, task: Task, agent: str) -> None:
    args: dict[str, Any] = {"agent": agent, "token": task.claim_token}
    what = 1.0 if site.stopping.is_set() else site.rng.random()
    await site.pace()
    if what < 0.1:
        with site.call("fail", task.id, **args):
            await site.client.fail_task(task.id, agent, claim_token=task.claim_token)
        return
    if what < 0.14:  # too late, most likely; if not, it may be completed
        await site.rest(task.ttl_seconds * site.rng.uniform(1.0, 1.5))
    elif what < 0.3:
        with site.call("extend", task.id, **args, ttl=task.ttl_seconds):
            await site.client.extend_task(
                task.id, agent, task.ttl_seconds, claim_token=task.claim_token
            )
        await site.pace()
    with site.call("complete", task.id, **args):
        await site.client.complete_task(task.id, agent, claim_token=task.claim_token)


def _tool(site: Site) -> str:
    return f"{site.spec.mark}-tasks"
