"""Prometheus metrics of this replica, in a registry of its own."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from agentkeeper.core import limits
from agentkeeper.core.state import State


class _StateGauges(Collector):
    """Gauges read from the state when somebody asks."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the gauges."""
        state = self._state()
        yield GaugeMetricFamily(
            "agentkeeper_agents_alive",
            "Agents currently ALIVE or UNREACHABLE",
            value=state.live_agents(),
        )
        yield GaugeMetricFamily(
            "agentkeeper_leases_active", "Leases currently held", value=len(state.leases)
        )


class _Refusals(Collector):
    """What the engine has dropped on the links between replicas, read when somebody asks."""

    def __init__(self, refused: Callable[[], Mapping[str, int]]) -> None:
        self._refused = refused

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the counts, those of too many reasons together."""
        tally: Tally[str] = Tally()
        for number, (reason, count) in enumerate(sorted(self._refused().items())):
            tally[reason if number < limits.REFUSAL_REASONS else "other"] += count
        family = CounterMetricFamily(
            "agentkeeper_raft_refused",
            "Connections and messages of replicas that were refused, by reason",
            labels=["reason"],
        )
        for reason, count in tally.items():
            family.add_metric([reason], count)
        yield family


class Metrics:
    """Counts calls and renders everything in Prometheus' text format.

    `state` and `refused`, what the engine has dropped by reason, are read when somebody asks.
    """

    def __init__(
        self, state: Callable[[], State], refused: Callable[[], Mapping[str, int]]
    ) -> None:
        self._state = state
        self._registry = CollectorRegistry()
        self._registry.register(_StateGauges(state))
        self._registry.register(_Refusals(refused))
        self._calls = Counter(
            "agentkeeper_rpc",
            "gRPC calls served, by method",
            ["method"],
            registry=self._registry,
        )

    def count_call(self, method: str) -> None:
        """Count a call."""
        self._calls.labels(method).inc()

    def summary(self) -> tuple[int, int]:
        """Agents alive and leases active."""
        state = self._state()
        return state.live_agents(), len(state.leases)

    def render(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self._registry)
