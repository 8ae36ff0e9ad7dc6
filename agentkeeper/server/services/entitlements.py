"""EntitlementsService: set, list and check policies."""

from __future__ import annotations

from dataclasses import dataclass

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits, policies
from agentkeeper.core.records import Done, Effect, Policy
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.replica import Replica
from agentkeeper.server.services import pages
from agentkeeper.server.services.fields import answer
from agentkeeper.server.services.method import Method, Unary


@dataclass(frozen=True, slots=True)
class EntitlementsService:
    """Handlers of agentkeeper.v1.EntitlementsService."""

    replica: Replica

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("SetPolicy", pb.SetPolicyRequest, self.set_policy),
            Unary("DeletePolicy", pb.DeletePolicyRequest, self.delete_policy),
            Unary("ListPolicies", pb.ListPoliciesRequest, self.list_policies),
            Unary("CheckPolicy", pb.CheckPolicyRequest, self.check_policy),
            Unary("ExplainPolicy", pb.ExplainPolicyRequest, self.explain_policy),
        ]

    async def set_policy(
        self, request: pb.SetPolicyRequest, caller: Caller
    ) -> pb.SetPolicyResponse:
        """Create or replace a policy."""
        given = request.policy
        policy = Policy(
            policy_id=v.line(given.id, "policy.id", limits.NAME_BYTES),
            subject=v.line(given.subject, "policy.subject", limits.PATTERN_BYTES),
            action=v.line(given.action, "policy.action", limits.PATTERN_BYTES),
            resource=v.line(given.resource, "policy.resource", limits.PATTERN_BYTES),
            effect=v.choice(given.effect, "policy.effect", Effect),
        )
        stored = answer(Policy, await self.replica.submit(c.SetPolicy(policy), caller))
        return pb.SetPolicyResponse(policy=convert.policy(stored))

    async def delete_policy(
        self, request: pb.DeletePolicyRequest, caller: Caller
    ) -> pb.DeletePolicyResponse:
        """Delete a policy."""
        policy_id = v.line(request.id, "id", limits.NAME_BYTES)
        answer(Done, await self.replica.submit(c.DeletePolicy(policy_id), caller))
        return pb.DeletePolicyResponse()

    async def list_policies(
        self, request: pb.ListPoliciesRequest, caller: Caller
    ) -> pb.ListPoliciesResponse:
        """All policies whose subject has the prefix, by id, or a page of them."""
        prefix = v.line(request.subject_prefix, "subject_prefix", limits.PATTERN_BYTES, empty=True)
        limit = v.number(request.limit, "limit", 0, limits.LIST_LIMIT_MAX)
        after = pages.key_in(request.page_token, "", limits.NAME_BYTES)
        state = await self.replica.read(caller)

        def show(policy_id: str) -> pb.Policy | None:
            policy = state.policies.get(policy_id)
            if policy is None or not policy.subject.startswith(prefix):
                return None
            return convert.policy(policy)

        found = state.policies.sorted_keys.beginning_with("", after)
        response = pb.ListPoliciesResponse()
        last = await pages.fill(response.policies, found, show, limit, self.replica.turns)
        response.next_page_token = last or ""
        return response

    async def check_policy(
        self, request: pb.CheckPolicyRequest, caller: Caller
    ) -> pb.CheckPolicyResponse:
        """Decide whether a subject may do an action on a resource."""
        question = _question(request)
        state = await self.replica.read(caller)
        verdict = state.policy_index.check(*question)
        return pb.CheckPolicyResponse(allowed=verdict.allowed, reason=verdict.reason)

    async def explain_policy(
        self, request: pb.ExplainPolicyRequest, caller: Caller
    ) -> pb.ExplainPolicyResponse:
        """Decide, and tell which policies match."""
        question = _question(request)
        state = await self.replica.read(caller)
        matching = []
        for looked_at, policy in enumerate(tuple(state.policy_index.about(question[0]))):
            if looked_at % pages.SLICE == 0:
                await self.replica.turns.take()
            if policies.fits(policy, *question):
                matching.append(policy)
        verdict, matching = policies.explained(matching)
        return pb.ExplainPolicyResponse(
            allowed=verdict.allowed,
            reason=verdict.reason,
            policy_id=verdict.policy_id,
            matching=[convert.policy(p) for p in matching[: limits.NAMED_IN_ANSWERS]],
            matches=len(matching),
        )


def _question(request: pb.CheckPolicyRequest | pb.ExplainPolicyRequest) -> tuple[str, str, str]:
    """Subject, action and resource."""
    return (
        v.line(request.subject, "subject", limits.PATTERN_BYTES),
        v.line(request.action, "action", limits.PATTERN_BYTES),
        v.line(request.resource, "resource", limits.PATTERN_BYTES),
    )
