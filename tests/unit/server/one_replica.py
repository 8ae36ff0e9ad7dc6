"""A replica whose log commits at once, for as long as a test lets it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from agentkeeper.consensus.port import Outcome
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.commands import Register
from agentkeeper.core.state import State
from agentkeeper.server.caller import Caller
from agentkeeper.server.claims import ClaimWaiters
from agentkeeper.server.machine import Applied, Machine
from agentkeeper.server.own_session import OwnSession
from agentkeeper.server.proposer import Proposer
from agentkeeper.server.replica import Notices, Replica
from agentkeeper.server.turns import Turns

from .helpers import CARD, failing


class OneReplica:
    """`commits` says whether what is proposed gets into the log; `lead` has the rest follow."""

    def __init__(self) -> None:
        self.machine = Machine(on_failure=failing)
        self.commits = True
        self.withheld: list[tuple[bytes, Callable[[Outcome], None]]] = []
        self.ids = 0
        nothing: Any = SimpleNamespace()
        proposer = Proposer(
            self._propose,
            lambda node_id, message: False,
            lambda: (1_000, 1_000),
            encoding=lambda: ENCODING,
        )
        self.proposer = proposer
        turns = Turns()
        self.replica = Replica(
            node_id="a",
            machine=self.machine,
            proposer=proposer,
            reads=nothing,
            hub=nothing,
            claims=ClaimWaiters(self.machine, turns),
            own_session=OwnSession("a", proposer, self._draw_id),
            index=nothing,
            notices=Notices(),
            draw_id=self._draw_id,
            draw_attempt=self._draw_attempt,
            leader_known=lambda: True,
            closing=asyncio.Event(),
            background={},
            turns=turns,
        )
        self.machine.on_applied += [proposer.applied, self._observe]
        proposer.lead()

    @property
    def state(self) -> State:
        return self.machine.state

    async def register(self, *agent_ids: str) -> None:
        for agent_id in agent_ids:
            await self.replica.submit(Register(agent_id, CARD, 3_600_000, 0), Caller())

    def clients_sessions(self) -> list[str]:
        """Sessions that are open, but for the replica's own."""
        sessions = self.state.sessions.values()
        return [s.session_id for s in sessions if not s.identity.startswith("replica:")]

    def commit(self) -> None:
        """Let what was withheld, and all that comes, get into the log."""
        self.commits = True
        withheld, self.withheld = self.withheld, []
        for payload, ended in withheld:
            self._propose(payload, ended)

    def _propose(self, payload: bytes, ended: Callable[[Outcome], None]) -> None:
        if not self.commits:
            self.withheld.append((payload, ended))
            return

        def committed() -> None:
            self.machine.deliver(self.machine.applied_index + 1, 1, payload)
            ended(Outcome.COMMITTED)

        asyncio.get_running_loop().call_soon(committed)

    def _observe(self, applied: Applied) -> None:
        for event in applied.events:
            if event.topic.startswith("lease."):
                self.replica.notices.tell(event.subject)

    def _draw_id(self) -> str:
        self.ids += 1
        return f"id-{self.ids}"

    def _draw_attempt(self) -> int:
        self.ids += 1
        return self.ids
