"""ElectionService: campaign, resign, watch who leads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.codec import pack
from agentkeeper.core.records import Done, Election, Event
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.replica import Replica
from agentkeeper.server.services.fields import agent_id_of, answer
from agentkeeper.server.services.method import Method, Stream, Subscription, Unary
from agentkeeper.server.services.registry import watch_from

CHANGED = "leader.changed"


@dataclass(frozen=True, slots=True)
class ElectionService:
    """Handlers of agentkeeper.v1.ElectionService."""

    replica: Replica

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("Campaign", pb.CampaignRequest, self.campaign),
            Unary("Resign", pb.ResignRequest, self.resign),
            Stream("WatchElection", pb.WatchElectionRequest, self.watch_election),
        ]

    async def campaign(self, request: pb.CampaignRequest, caller: Caller) -> pb.CampaignResponse:
        """Join the candidates and tell who leads."""
        body = c.Campaign(_group(request), agent_id_of(request))
        election = answer(Election, await self.replica.submit(body, caller))
        return pb.CampaignResponse(state=convert.election(election))

    async def resign(self, request: pb.ResignRequest, caller: Caller) -> pb.ResignResponse:
        """Leave the candidates."""
        body = c.Resign(_group(request), agent_id_of(request))
        answer(Done, await self.replica.submit(body, caller))
        return pb.ResignResponse()

    async def watch_election(
        self, request: pb.WatchElectionRequest, caller: Caller
    ) -> Subscription:
        """Tell the present state, unless resuming, then every change."""
        group = _group(request)
        after = await watch_from(self.replica, request, caller)
        election = self.replica.state.elections.get(group)
        changes = self.replica.hub.follow(
            after,
            lambda event: event.topic == CHANGED and event.subject == group,
            progress=request.progress,
        )
        if election is None or request.HasField("after_sequence"):
            return Subscription(changes, after)
        return Subscription(_with_present_state(election, changes), None)


async def _with_present_state(
    election: Election, changes: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    present = Event(
        sequence=election.changed_sequence,
        topic=CHANGED,
        subject=election.group,
        reason="",
        wall_ms=election.elected_wall_ms,
        payload=pack(election),
    )
    async with contextlib.aclosing(changes):
        yield convert.event(present).SerializeToString()
        async for change in changes:
            yield change


def _group(request: pb.CampaignRequest | pb.ResignRequest | pb.WatchElectionRequest) -> str:
    return v.line(request.group, "group", limits.NAME_BYTES)
