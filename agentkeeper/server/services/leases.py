"""LeaseService: acquire, wait in line, renew, release, verify."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits, present
from agentkeeper.core.records import Acquired, Done, Lease, Waiting
from agentkeeper.core.refusals import not_found
from agentkeeper.core.state import State
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError, outcome_unknown, refused
from agentkeeper.server.replica import Replica, shutting_down
from agentkeeper.server.services import pages
from agentkeeper.server.services.fields import agent_id_of, answer, task_id_of
from agentkeeper.server.services.method import Method, Unary


@dataclass(frozen=True, slots=True)
class LeaseService:
    """Handlers of agentkeeper.v1.LeaseService."""

    replica: Replica

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("AcquireLease", pb.AcquireLeaseRequest, self.acquire_lease, _waits),
            Unary("RenewLease", pb.RenewLeaseRequest, self.renew_lease),
            Unary("ReleaseLease", pb.ReleaseLeaseRequest, self.release_lease),
            Unary("VerifyToken", pb.VerifyTokenRequest, self.verify_token),
            Unary("GetLease", pb.GetLeaseRequest, self.get_lease),
            Unary("ListLeases", pb.ListLeasesRequest, self.list_leases),
        ]

    async def acquire_lease(
        self, request: pb.AcquireLeaseRequest, caller: Caller
    ) -> pb.AcquireLeaseResponse:
        """Acquire a lease, at once or after waiting in line."""
        body = c.AcquireLease(
            task_id=task_id_of(request),
            agent_id=agent_id_of(request),
            ttl_ms=v.ttl_ms(request.ttl_seconds, limits.LEASE_TTL_MS_DEFAULT),
            wait_ms=v.number(request.wait_ms, "wait_ms", 0, limits.WAIT_MS_MAX),
            exclusive=request.exclusive,
        )
        if body.wait_ms:
            async with self.replica.session_of(caller) as known_caller:
                acquired = await self._in_line(body, known_caller, caller)
        else:
            result = await self.replica.submit(body, caller)
            acquired = None if isinstance(result, Waiting) else answer(Acquired, result)
        if acquired is not None:
            return pb.AcquireLeaseResponse(
                acquired=acquired.acquired, lease=convert.lease(acquired.lease)
            )
        held = present.lease(self.replica.state, body.task_id)
        others = None if held is None else convert.lease(held._replace(token=0))
        return pb.AcquireLeaseResponse(acquired=False, lease=others)

    async def renew_lease(
        self, request: pb.RenewLeaseRequest, caller: Caller
    ) -> pb.RenewLeaseResponse:
        """Renew a held lease."""
        ttl_ms = v.ttl_ms(request.ttl_seconds, 0)
        body = c.RenewLease(task_id_of(request), agent_id_of(request), _token(request), ttl_ms)
        lease = answer(Lease, await self.replica.submit(body, caller))
        return pb.RenewLeaseResponse(lease=convert.lease(lease))

    async def release_lease(
        self, request: pb.ReleaseLeaseRequest, caller: Caller
    ) -> pb.ReleaseLeaseResponse:
        """Release a held lease."""
        body = c.ReleaseLease(task_id_of(request), agent_id_of(request), _token(request))
        answer(Done, await self.replica.submit(body, caller))
        return pb.ReleaseLeaseResponse()

    async def verify_token(
        self, request: pb.VerifyTokenRequest, caller: Caller
    ) -> pb.VerifyTokenResponse:
        """Tell whether a token is that of the lease as it is now held."""
        task_id, token = task_id_of(request), _token(request)
        state = await self.replica.read(caller)
        held = present.lease(state, task_id)
        return pb.VerifyTokenResponse(valid=held is not None and held.token == token)

    async def get_lease(self, request: pb.GetLeaseRequest, caller: Caller) -> pb.GetLeaseResponse:
        """Tell who holds a lease and who waits for it."""
        task_id = task_id_of(request)
        state = await self.replica.read(caller)
        held = present.lease(state, task_id)
        if held is None:
            raise refused(not_found("lease", task_id))
        line = present.line(state, task_id)
        info = _info(state, held, len(line))
        info.waiting_agent_ids.extend(line[: limits.NAMED_IN_ANSWERS])
        return pb.GetLeaseResponse(lease=info)

    async def list_leases(
        self, request: pb.ListLeasesRequest, caller: Caller
    ) -> pb.ListLeasesResponse:
        """Held leases by task id, a page at a time."""
        prefix = v.line(request.task_id_prefix, "task_id_prefix", limits.TASK_ID_BYTES, empty=True)
        holder = v.line(
            request.holder_agent_id, "holder_agent_id", limits.AGENT_ID_BYTES, empty=True
        )
        limit = pages.limit_of(request.limit)
        after = pages.key_in(request.page_token, prefix, limits.TASK_ID_BYTES)
        state = await self.replica.read(caller)
        if holder:
            of_holder = state.leases_by_agent.of(holder)
            found = iter([k for k, _ in of_holder if k.startswith(prefix) and k > after])
        else:
            found = state.leases.sorted_keys.beginning_with(prefix, after)

        def show(task_id: str) -> pb.LeaseInfo | None:
            held = present.lease(state, task_id)
            if held is None or (holder and held.holder != holder):
                return None
            return _info(state, held, len(present.line(state, task_id)))

        response = pb.ListLeasesResponse()
        last = await pages.fill(response.leases, found, show, limit, self.replica.turns)
        response.next_page_token = last or ""
        return response

    async def _in_line(
        self, body: c.AcquireLease, caller: Caller, asked: Caller
    ) -> Acquired | None:
        """Wait for a grant and confirm it; None when the wait was in vain.

        `caller` is `asked`, with a session in any case.
        """
        key, attempt = (caller.session_id, caller.number), self.replica.draw_attempt()
        deadline_s = asyncio.get_running_loop().time() + body.wait_ms / 1000
        with (
            self.replica.notices.about(body.task_id, body.agent_id) as news,
            self.replica.alarm(deadline_s, news),
        ):
            while True:
                result = await self.replica.submit_or_withdraw(body, caller, attempt)
                if not isinstance(result, Waiting):
                    return answer(Acquired, result)
                try:
                    granted = await self._granted(key, news, deadline_s)
                except asyncio.CancelledError:
                    self.replica.owe_withdrawal(key, attempt)
                    raise
                if granted:
                    continue
                if self.replica.closing.is_set() and asked.session_id:
                    # Not withdrawn: asked again elsewhere, it still has its place in line.
                    raise outcome_unknown("this replica is shutting down; the request is in line")
                # Before the answer: whoever was refused must not be granted it after all.
                await self._withdraw(key, attempt)
                if self.replica.closing.is_set():
                    raise shutting_down()
                return None

    async def _granted(self, key: tuple[str, int], news: asyncio.Event, deadline_s: float) -> bool:
        """Wait until the request has left its line; False when its time is over first, or that
        of this replica.
        """
        loop = asyncio.get_running_loop()
        while key in self.replica.state.waiters:
            if loop.time() >= deadline_s or self.replica.closing.is_set():
                return False
            news.clear()
            await news.wait()
        return True

    async def _withdraw(self, key: tuple[str, int], attempt: int) -> None:
        try:
            await self.replica.withdraw(key, attempt)
        except (CallError, asyncio.CancelledError) as error:
            self.replica.owe_withdrawal(key, attempt)
            if isinstance(error, CallError):
                raise outcome_unknown("the request may be in line still") from None
            raise


def _info(state: State, held: Lease, waiting: int) -> pb.LeaseInfo:
    remaining_ms = present.remaining_ms(state, held)
    return pb.LeaseInfo(lease=convert.lease(held), remaining_ms=remaining_ms, waiting=waiting)


def _waits(request: pb.AcquireLeaseRequest) -> bool:
    return request.wait_ms > 0


def _token(request: pb.RenewLeaseRequest | pb.ReleaseLeaseRequest | pb.VerifyTokenRequest) -> int:
    """The token of the lease, which is never 0."""
    return v.number(request.token.value, "token.value", 1, limits.COUNTER_MAX)
