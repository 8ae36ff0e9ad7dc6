"""What this replica tells those who watch it: counts and durations, in Prometheus' text format.

What it is for: rates, latencies and fill levels, each in few and bounded time series. What it is
not: a way to find out about one agent, lease or task, which the API and the dashboard show.
"""

from agentkeeper.server.metrics.calls import CallCounts
from agentkeeper.server.metrics.exposition import Metrics
from agentkeeper.server.metrics.live import LiveFigures

__all__ = ["CallCounts", "LiveFigures", "Metrics"]
