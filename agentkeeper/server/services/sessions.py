"""SessionService: sessions in which retries take effect once."""

from __future__ import annotations

from dataclasses import dataclass

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Refused, Session
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import refused
from agentkeeper.server.replica import Replica
from agentkeeper.server.services.method import Method, Unary


@dataclass(frozen=True, slots=True)
class SessionService:
    """Handlers of agentkeeper.v1.SessionService."""

    replica: Replica

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("OpenSession", pb.OpenSessionRequest, self.open_session),
            Unary("CloseSession", pb.CloseSessionRequest, self.close_session),
        ]

    async def open_session(
        self, request: pb.OpenSessionRequest, caller: Caller
    ) -> pb.OpenSessionResponse:
        """Open a session; one whose answer is lost just expires."""
        body = c.OpenSession(
            session_id=self.replica.draw_id(),
            ttl_ms=v.ttl_ms(request.ttl_seconds, limits.SESSION_TTL_MS_DEFAULT),
            window=limits.SESSION_WINDOW,
        )
        command = c.Command(caller.identity, "", 0, 0, body)
        session = await self.replica.proposer.submit(command, self.replica.deadline_s(caller))
        if isinstance(session, Refused):
            raise refused(session)
        assert isinstance(session, Session)
        return pb.OpenSessionResponse(
            session_id=session.session_id,
            ttl_seconds=session.ttl_ms // 1000,
            window=session.window,
        )

    async def close_session(
        self, request: pb.CloseSessionRequest, caller: Caller
    ) -> pb.CloseSessionResponse:
        """Forget a session."""
        session_id = v.line(request.session_id, "session_id", limits.SESSION_ID_BYTES)
        await self.replica.submit(c.CloseSession(session_id), Caller(caller.identity))
        return pb.CloseSessionResponse()
