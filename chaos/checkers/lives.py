"""Since when an agent may have been silent, and since when it may have been DEAD."""

from __future__ import annotations

from collections import defaultdict

from chaos.history import FOREVER_NS, History, Outcome

NS = 1_000_000_000
SLACK = 0.001
"""The part of a span by which two clocks may differ in it."""


def span_ns(seconds: float) -> int:
    """A ttl, as short as a clock that runs at another rate may make it."""
    return int(seconds * NS * (1 - SLACK))


class Lives:
    """What the history allows for agents.

    The SDK keeps an agent alive until it is deregistered or its process is killed, ends or is
    paused. The last heartbeat may be up to one ttl old by then, and two ttl after it the agent is
    DEAD.
    """

    def __init__(self, history: History) -> None:
        self.clients: dict[str, str] = {}
        """The process that registered an agent."""
        self.ttls_s: dict[str, float] = {}
        self._deregistered: dict[str, int] = {}
        self._pauses: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        """By client, the times in which it does nothing."""
        last_ns: defaultdict[str, int] = defaultdict(int)
        for operation in history.operations:
            end_ns = operation.end_ns if operation.end_ns != FOREVER_NS else operation.start_ns
            last_ns[operation.client] = max(last_ns[operation.client], end_ns)
            if operation.call == "register" and operation.outcome is Outcome.OK:
                agent = operation.value["agent"]
                self.clients[agent] = operation.client
                self.ttls_s[agent] = float(operation.args.get("ttl") or 0)
            elif operation.call == "deregister" and operation.outcome is not Outcome.REFUSED:
                known = self._deregistered.get(operation.key, FOREVER_NS)
                self._deregistered[operation.key] = min(known, operation.start_ns)
        for seen in history.seen:
            last_ns[seen.client] = max(last_ns[seen.client], seen.at_ns)
        for fault in history.client_faults:
            end_ns = FOREVER_NS if fault.kind == "killed" else fault.end_ns
            self._pauses[fault.client].append((fault.start_ns, end_ns))
        for client, at_ns in last_ns.items():
            self._pauses[client].append((at_ns, FOREVER_NS))

    def silent_from(self, agent: str, client: str = "") -> int:
        """From when on it may be UNREACHABLE, or not there at all."""
        client = self.clients.get(agent, client)
        pauses = self._pauses.get(client, ())
        return min([self.deregistered_from(agent), *(start_ns for start_ns, _ in pauses)])

    def timed_out_from(self, agent: str, client: str = "") -> int:
        """From when on it may be DEAD without having been deregistered.

        `client` is the process that keeps it alive, if that can't be known from the history.
        """
        ttl_ns = span_ns(self.ttls_s.get(agent, 0))
        client = self.clients.get(agent, client)
        deaths = (
            start_ns + ttl_ns
            for start_ns, end_ns in self._pauses.get(client, ())
            if end_ns - start_ns >= ttl_ns
        )
        return min(deaths, default=FOREVER_NS)

    def deregistered_from(self, agent: str) -> int:
        """From when on it may have been deregistered, or without heartbeats as that was tried."""
        return self._deregistered.get(agent, FOREVER_NS)

    def dead_from(self, agent: str, client: str = "") -> int:
        """From when on it may be DEAD."""
        return min(self.deregistered_from(agent), self.timed_out_from(agent, client))


def may_have_effect(outcome: Outcome) -> bool:
    """Whether a write with that outcome may have taken effect."""
    return outcome in (Outcome.OK, Outcome.UNKNOWN, Outcome.BROKEN)
