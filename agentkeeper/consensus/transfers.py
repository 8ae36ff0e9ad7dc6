"""Leadership handed over on request, and the answers to those who asked, on the engine's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pysyncobj.node import Node

from agentkeeper.consensus.port import Transfer
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.requests import call

OnEnded = Callable[[Transfer], None]


class Transfers:
    """Transfers that were asked for, one after the other; who asks for the same shares its end."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._asked: dict[str | None, list[OnEnded]] = {}
        """Who waits, by whom they want to lead, in the order of their coming."""
        self._begun = False
        """Whether the first of them is under way."""

    def begin(self, raft: HardenedRaft | None, to: str | None, on_ended: OnEnded | None) -> None:
        """Let `raft` hand leadership over; None stands for a replica that has ended."""
        on_ended = on_ended or _ignore
        refusal = self._refusal(raft, to)
        if raft is None or refusal is not None:
            call(on_ended, refusal or Transfer.NOT_LEADING)
        else:
            self._asked.setdefault(to, []).append(on_ended)
            self._begin_first(raft)

    def answer(self, raft: HardenedRaft | None) -> None:
        """Tell how the transfer under way has ended, once it has, and begin the next."""
        if not self._asked:
            return
        if raft is None or not raft.leads:
            self._begun = False
            while self._asked:
                self._tell_first(Transfer.DONE)
        elif not raft.transferring:
            if self._begun:
                self._begun = False
                self._tell_first(raft.transfer_failure)
            self._begin_first(raft)

    def _begin_first(self, raft: HardenedRaft) -> None:
        # The replica may be at one of its own, as its disk is full.
        if self._asked and not raft.transferring:
            to = next(iter(self._asked))
            raft.begin_transfer(None if to is None else self._nodes[to])
            self._begun = True

    def _tell_first(self, ended: Transfer) -> None:
        for on_ended in self._asked.pop(next(iter(self._asked))):
            call(on_ended, ended)

    def _refusal(self, raft: HardenedRaft | None, to: str | None) -> Transfer | None:
        """Why leadership can't be handed over; None if it can be tried."""
        if raft is None or not raft.leads:
            return Transfer.NOT_LEADING
        if not raft.others:
            return Transfer.ALONE
        if to is None:
            return None
        node = self._nodes.get(to)
        if node not in raft.others:
            return Transfer.UNKNOWN
        if node not in raft.linked:
            return Transfer.NOT_CONNECTED
        return None if raft.counts(node) else Transfer.NO_VOTE


def _ignore(_: Transfer) -> None:
    pass
