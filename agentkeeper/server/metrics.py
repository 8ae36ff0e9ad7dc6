"""Prometheus metrics of this replica, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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


class Metrics:
    """Counts calls and renders everything in Prometheus' text format."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._registry = CollectorRegistry()
        self._registry.register(_StateGauges(state))
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
