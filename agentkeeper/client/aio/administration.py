"""The calls of operators: lists, changes by hand, the cluster itself."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from agentkeeper.client.aio.concurrency import run
from agentkeeper.client.aio.face import AsyncFace
from agentkeeper.types import (
    AgentInfo,
    AgentStatus,
    Election,
    Explanation,
    LeaderMoved,
    Lease,
    LeaseInfo,
    Policy,
    SnapshotSaved,
    Summary,
    Task,
    TaskStatus,
)


class AsyncAdministration(AsyncFace):
    """Lists are as long as there are entries unless a `limit` is given, and ask page by page:
    what changes meanwhile may be in them or not, all else is in them once.
    """

    # ------------------------------------------------------------ lists

    async def list_agents(
        self,
        statuses: Sequence[AgentStatus | str] | None = None,
        name_prefix: str = "",
        tools: Sequence[str] | None = None,
        limit: int | None = None,
        *,
        timeout: float | None = None,
    ) -> list[AgentInfo]:
        """Return agents in order of registration: ALIVE and UNREACHABLE ones, or of `statuses`.

        Only those whose name begins with `name_prefix` and that have all of `tools`; all of them,
        page by page, or the first `limit`.
        """
        return await run(
            self._runner,
            self._core.queries.list_agents(
                statuses, name_prefix, tools, limit, self._limit(timeout)
            ),
        )

    async def list_leases(
        self,
        prefix: str = "",
        holder_agent_id: str = "",
        limit: int | None = None,
        *,
        timeout: float | None = None,
    ) -> list[LeaseInfo]:
        """Return the held leases whose task id begins with `prefix`, by task id.

        All of them, or only those of one holder; page by page, or the first `limit`. Who waits for
        each is left out: `get_lease` tells.
        """
        return await run(
            self._runner,
            self._core.queries.list_leases(prefix, holder_agent_id, limit, self._limit(timeout)),
        )

    async def list_elections(
        self, prefix: str = "", limit: int | None = None, *, timeout: float | None = None
    ) -> list[Election]:
        """Return the election groups whose name begins with `prefix`, by name.

        All of them, page by page, or the first `limit`.
        """
        return await run(
            self._runner,
            self._core.queries.list_elections(prefix, limit, self._limit(timeout)),
        )

    async def list_policies(
        self, subject_prefix: str = "", *, timeout: float | None = None
    ) -> list[Policy]:
        """Return the policies whose subject begins with `subject_prefix`, by id."""
        return await run(
            self._runner, self._core.queries.list_policies(subject_prefix, self._limit(timeout))
        )

    async def list_tasks(
        self,
        status: TaskStatus | str | None = None,
        *,
        type: str = "",
        claimed_by: str = "",
        limit: int | None = None,
        timeout: float | None = None,
    ) -> list[Task]:
        """Return tasks by age: all, or those of one status, of one type, claimed by one agent.

        All of them, page by page, or the first `limit`.
        """
        return await run(
            self._runner,
            self._core.queries.list_tasks(status, type, claimed_by, limit, self._limit(timeout)),
        )

    # ------------------------------------------------------------ one of them

    async def get_lease(self, task_id: str, *, timeout: float | None = None) -> LeaseInfo:
        """Return who holds the lease on `task_id`, and who waits for it.

        Raises NotFound when nobody holds it.
        """
        return await run(self._runner, self._core.queries.get_lease(task_id, self._limit(timeout)))

    async def get_election(self, group: str, *, timeout: float | None = None) -> Election:
        """Return a group with its candidates.

        Raises NotFound for one in which nobody has campaigned lately.
        """
        return await run(self._runner, self._core.queries.get_election(group, self._limit(timeout)))

    async def explain_policy(
        self, subject: str, action: str, resource: str, *, timeout: float | None = None
    ) -> Explanation:
        """Ask what `check_policy` asks, and which policies match."""
        return await run(
            self._runner,
            self._core.queries.explain_policy(subject, action, resource, self._limit(timeout)),
        )

    async def summary(self, *, timeout: float | None = None) -> Summary:
        """Return how much of everything there is."""
        return await run(self._runner, self._core.queries.summary(self._limit(timeout)))

    # ------------------------------------------------------------ by hand

    async def heartbeat(self, agent_id: str, *, timeout: float | None = None) -> None:
        """Keep any agent ALIVE for its ttl from now; its own handle does so by itself.

        Raises NotFound if it is unknown or DEAD.
        """
        await run(self._runner, self._core.heartbeat(agent_id, self._limit(timeout)))

    async def deregister(self, agent_id: str, *, timeout: float | None = None) -> None:
        """End any agent, as its own handle's `deregister` would. Raises NotFound."""
        await run(self._runner, self._core.deregister(agent_id, self._limit(timeout)))

    async def renew_lease(
        self,
        task_id: str,
        agent_id: str,
        token: int,
        ttl: int | None = None,
        *,
        timeout: float | None = None,
    ) -> Lease:
        """Extend a lease without its handle, by `ttl` seconds or by its last ttl.

        Raises NotFound when nobody holds it, StaleToken for another's lease or an old token.
        """
        return await run(
            self._runner,
            self._core.renew_lease(task_id, agent_id, token, ttl, self._limit(timeout)),
        )

    async def release_lease(
        self, task_id: str, agent_id: str, token: int, *, timeout: float | None = None
    ) -> None:
        """Give a lease back without its handle. Raises as `renew_lease` does."""
        await run(
            self._runner, self._core.release_lease(task_id, agent_id, token, self._limit(timeout))
        )

    # ------------------------------------------------------------ the cluster

    async def move_leader(self, to: str = "", *, timeout: float | None = None) -> LeaderMoved:
        """Have the replica with the node id `to` lead, or whichever other one is furthest.

        Returns once it leads. Raises Refused for a replica that can't take over or did not in time:
        then the former leader goes on. Raises OutcomeUnknown when the answer was lost: without `to`
        it is not asked again, which would move the leader once more.
        """
        return await run(self._runner, self._core.cluster.move_leader(to, self._limit(timeout)))

    async def save_snapshot(
        self, path: str | os.PathLike[str], *, stale: bool = False, timeout: float | None = None
    ) -> SnapshotSaved:
        """Write the whole state, as it is now, to a file, while everything goes on.

        Nothing is at `path` before the file is whole, checked and durable; what was there before
        is replaced then. Begins anew at another replica if one is lost on the way, and waits where
        replicas have too many to send. `timeout` bounds it all; without one it may take as long as
        there is progress. Raises OSError where the file can't be written.

        With `stale` it is the state of any replica as it has it, which may be behind: also of one
        that has lost all others, and can't tell.
        """
        limit_s = math.inf if timeout is None else timeout
        return await run(
            self._runner,
            self._core.cluster.save_snapshot(path, limit_s, self._timeout, stale=stale),
        )
