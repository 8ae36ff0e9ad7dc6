"""Calls that this replica was asked, counted where they are answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.server.errors import OVERLOADED
from agentkeeper.server.metrics.families import Labels, Reading, counters, histograms

CALL_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
FINE_S: Final = tuple(0.00005 * 1.25**step for step in range(60))
"""Bounds of all calls together, close enough for percentiles of few seconds: 50 µs to 26 s."""
FAULTS: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS"})
"""Codes of calls that failed through no fault of the caller's; so do those that are refused as
overloaded."""

_ALARMING: Final = (OVERLOADED, "slow_watcher")
"""Reasons told from 0 on: a series that begins with 1 shows no rise."""
_POLICY_CHECKS: Final = frozenset({"CheckPolicy", "ExplainPolicy"})


class CallCounts:
    """Labels are names of the daemon's own, never what a caller has sent."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._took_s: dict[tuple[str, str], Distribution] = {}
        self._reasons: Counter[str] = Counter(dict.fromkeys(_ALARMING, 0))
        self._policy_checks = {"allowed": 0, "denied": 0}
        self._token_checks = {"valid": 0, "invalid": 0}
        self.call_s = Distribution(FINE_S)
        """All calls that did not wait."""
        self.count = 0
        """All calls that have ended."""
        self.failures = 0
        """Those with one of `FAULTS`, or refused as overloaded."""

    def begun(self, method: str) -> None:
        """Count a call that came in."""
        self._begun[method] += 1

    def ended(
        self, method: str, code: str, reason: str, took_s: float | None, answer: Message | None
    ) -> None:
        """Count a call that has ended; see `Surroundings.ended`."""
        self.count += 1
        self._ended[method, code] += 1
        if took_s is not None:
            self.call_s.add(took_s)
            taken = self._took_s.get((method, code))
            if taken is None:
                taken = self._took_s[method, code] = Distribution(CALL_S)
            taken.add(took_s)
        if answer is not None:
            self._look_at(method, answer)
            return
        if code in FAULTS or reason == OVERLOADED:
            self.failures += 1
        if reason:
            self._reasons[reason] += 1

    def _look_at(self, method: str, answer: Any) -> None:
        """Count a refusal that is an answer and no error."""
        if method in _POLICY_CHECKS:
            self._policy_checks["allowed" if answer.allowed else "denied"] += 1
        elif method == "VerifyToken":
            self._token_checks["valid" if answer.valid else "invalid"] += 1

    def read(self) -> Iterator[Reading]:
        """See `Source.read`."""
        yield counters("agentkeeper_rpc", "Calls received", ("method",), _labelled(self._begun))
        yield counters(
            "agentkeeper_rpc_handled", "Calls ended, by status", ("method", "code"), self._ended
        )
        yield histograms(
            "agentkeeper_rpc_duration_seconds",
            "How long calls took that did not wait for a lease or a task, by status; no watches",
            ("method", "code"),
            [(labels, took.counted()) for labels, took in self._took_s.items()],
        )
        yield counters(
            "agentkeeper_rpc_errors",
            "Calls that ended as an error and were not cancelled, by reason",
            ("reason",),
            _labelled(self._reasons),
        )
        yield counters(
            "agentkeeper_policy_checks",
            "Policy checks answered here, by verdict",
            ("verdict",),
            _labelled(self._policy_checks),
        )
        yield counters(
            "agentkeeper_token_checks",
            "Fencing tokens verified here, by verdict",
            ("verdict",),
            _labelled(self._token_checks),
        )


def _labelled(counts: dict[str, int]) -> dict[Labels, float]:
    return {(key,): count for key, count in counts.items()}
