"""EntitlementsService: set, list and check policies."""

from __future__ import annotations

from dataclasses import dataclass

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Done, Effect, Policy
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import too_large
from agentkeeper.server.replica import Replica
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
        """All policies whose subject has the prefix, by id."""
        prefix = v.line(request.subject_prefix, "subject_prefix", limits.PATTERN_BYTES, empty=True)
        state = await self.replica.read(caller)
        fitting = [p for p in state.policies.values() if p.subject.startswith(prefix)]
        response = pb.ListPoliciesResponse(
            policies=[convert.policy(p) for p in sorted(fitting, key=lambda p: p.policy_id)]
        )
        if response.ByteSize() > limits.RESPONSE_BYTES:
            raise too_large("narrow it down with subject_prefix")
        return response

    async def check_policy(
        self, request: pb.CheckPolicyRequest, caller: Caller
    ) -> pb.CheckPolicyResponse:
        """Decide whether a subject may do an action on a resource."""
        subject = v.line(request.subject, "subject", limits.PATTERN_BYTES)
        action = v.line(request.action, "action", limits.PATTERN_BYTES)
        resource = v.line(request.resource, "resource", limits.PATTERN_BYTES)
        state = await self.replica.read(caller)
        verdict = state.policy_index.check(subject, action, resource)
        return pb.CheckPolicyResponse(allowed=verdict.allowed, reason=verdict.reason)
