"""Histories made by hand: times in seconds, calls in a line each."""

from __future__ import annotations

from typing import Any

from chaos.checkers import Verdict, check_all
from chaos.history import (
    FOREVER_NS,
    ClientFault,
    Final,
    History,
    Operation,
    Outcome,
    Seen,
    Write,
)

NS = 1_000_000_000
NEVER = FOREVER_NS / NS
"""The end of a call whose outcome is unknown."""


def ns(seconds: float) -> int:
    return FOREVER_NS if seconds == NEVER else int(seconds * NS)


class Script:
    """A history in the making. A call's client is called like its agent unless said."""

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.history = History([])

    def call(
        self,
        start_s: float,
        end_s: float,
        call: str,
        key: str,
        value: Any = None,
        *,
        error: str = "",
        outcome: Outcome | None = None,
        client: str = "",
        workload: str = "",
        **args: Any,
    ) -> Operation:
        """One that ends NEVER is of unknown outcome, one with an error was refused."""
        if outcome is None:
            outcome = Outcome.UNKNOWN if end_s == NEVER else Outcome.OK
            outcome = Outcome.REFUSED if error else outcome
        client = client or args.get("agent", "c")
        operation = Operation(
            client=client,
            actor="actor",
            workload=workload or self.workload,
            call=call,
            key=key,
            args=args,
            start_ns=ns(start_s),
            end_ns=ns(end_s),
            outcome=outcome,
            value=value,
            error=error,
        )
        self.history.operations.append(operation)
        self.history.operations.sort(key=lambda o: o.start_ns)
        return operation

    def register(self, agent: str, at_s: float = 0.0, *, ttl: int = 6, **args: Any) -> None:
        """The client of that name registers the agent of that name."""
        args = {"tools": [], "client": agent} | args
        self.call(at_s, at_s + 0.1, "register", f"named-{agent}", {"agent": agent}, ttl=ttl, **args)

    def alive(self, until_s: float, *clients: str) -> None:
        """Let these processes last: their last calls end then."""
        for client in clients:
            outcome = Outcome.UNAVAILABLE
            self.call(until_s, until_s, "idle", "", client=client, workload="-", outcome=outcome)

    def saw(
        self, at_s: float, sequence: int, topic: str, watcher: str = "w", **payload: Any
    ) -> None:
        self.history.seen.append(Seen("c", watcher, ns(at_s), sequence, topic, payload))

    def write(self, key: str, token: int, client: str, *, accepted: bool = True) -> None:
        self.history.writes.append(Write(0, client, key, token, accepted))

    def fault(self, client: str, kind: str, start_s: float, end_s: float = NEVER) -> None:
        self.history.client_faults.append(ClientFault(client, kind, ns(start_s), ns(end_s)))

    def final(self, at_s: float, **rows: list[dict[str, Any]]) -> Final:
        self.history.final = Final({"r0": "d", "r1": "d"}, 9, at_ns=ns(at_s), **rows)
        return self.history.final

    def verdict(self, name: str) -> Verdict:
        return {verdict.name: verdict for verdict in check_all(self.history)}[name]

    def broken(self) -> set[str]:
        """The names of the checks that found something."""
        return {verdict.name for verdict in check_all(self.history) if not verdict.holds}
