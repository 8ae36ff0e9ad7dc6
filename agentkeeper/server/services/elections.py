"""ElectionService: campaign, resign, watch who leads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits, present
from agentkeeper.core.codec import pack
from agentkeeper.core.records import Done, Election, Event
from agentkeeper.core.refusals import not_found
from agentkeeper.core.state import State
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import refused
from agentkeeper.server.replica import Replica
from agentkeeper.server.services import pages
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
            Unary("GetElection", pb.GetElectionRequest, self.get_election),
            Unary("ListElections", pb.ListElectionsRequest, self.list_elections),
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
        election = _now(self.replica.state, group)
        changes = self.replica.hub.follow(
            after,
            lambda event: event.topic == CHANGED and event.subject == group,
            progress=request.progress,
        )
        if election is None or request.HasField("after_sequence"):
            return Subscription(changes, after)
        return Subscription(_with_present_state(election, changes), None)

    async def get_election(
        self, request: pb.GetElectionRequest, caller: Caller
    ) -> pb.GetElectionResponse:
        """Tell who leads a group and who else would."""
        group = _group(request)
        election = present.election(await self.replica.read(caller), group)
        if election is None:
            raise refused(not_found("election group", group))
        return pb.GetElectionResponse(election=_with_candidates(election))

    async def list_elections(
        self, request: pb.ListElectionsRequest, caller: Caller
    ) -> pb.ListElectionsResponse:
        """Groups by name, a page at a time."""
        prefix = v.line(request.group_prefix, "group_prefix", limits.NAME_BYTES, empty=True)
        limit = pages.limit_of(request.limit)
        after = pages.key_in(request.page_token, prefix, limits.NAME_BYTES)
        state = await self.replica.read(caller)

        def show(group: str) -> pb.Election | None:
            election = present.election(state, group)
            return None if election is None else _with_candidates(election)

        found = state.elections.sorted_keys.beginning_with(prefix, after)
        response = pb.ListElectionsResponse()
        last = await pages.fill(response.elections, found, show, limit, self.replica.turns)
        response.next_page_token = last or ""
        return response


def _now(state: State, group: str) -> Election | None:
    """The election as a watch begins with it: whose death is due does not lead.

    Who comes next is told by the event of that only: it is sure by then, and so is the new term.
    """
    election, stored = present.election(state, group), state.elections.get(group)
    if election is None or stored is None or election.term == stored.term:
        return election
    return stored._replace(candidates=())


async def _with_present_state(
    election: Election, changes: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    first = Event(
        sequence=election.changed_sequence,
        topic=CHANGED,
        subject=election.group,
        reason="",
        wall_ms=election.elected_wall_ms,
        payload=pack(election),
    )
    async with contextlib.aclosing(changes):
        yield convert.event(first).SerializeToString()
        async for change in changes:
            yield change


def _with_candidates(election: Election) -> pb.Election:
    return pb.Election(
        state=convert.election(election),
        candidate_agent_ids=election.candidates[: limits.NAMED_IN_ANSWERS],
        candidates=len(election.candidates),
    )


class _HasGroup(Protocol):
    group: str


def _group(request: _HasGroup) -> str:
    return v.line(request.group, "group", limits.NAME_BYTES)
