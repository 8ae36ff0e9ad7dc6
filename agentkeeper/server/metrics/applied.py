"""What the log did to the state, counted as entries are applied: the same on every replica.

What was in the log at the start is applied again, and not counted: it happened before. A replica
that gets a snapshot in place of entries has not seen what they did, and counts on from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, get_args

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.consensus.observation import COUNTS, Observation
from agentkeeper.core.commands import Body
from agentkeeper.core.records import Refused, Waiting
from agentkeeper.server.machine import Applied
from agentkeeper.server.metrics.families import Labels, Reading, counter, counters, histogram

_RARE: Final = (
    ("agent.died", "timed_out"),
    ("agent.died", "deregistered"),
    ("agent.died", "superseded"),
    ("lease.acquired", ""),
    ("lease.renewed", ""),
    ("lease.released", ""),
    ("lease.expired", ""),
    ("leader.changed", ""),
    ("task.created", ""),
    ("task.claimed", ""),
    ("task.completed", ""),
    ("task.requeued", "failed"),
    ("task.dead", "failed"),
    ("task.dead", "claim_expired"),
)
"""Told from 0 on: a series that begins with 1 shows no rise."""
_NOT_DONE: Final[dict[type[Any], str]] = {Refused: "refused", Waiting: "waiting"}


class AppliedCounts:
    """`applied` is called with every entry; `observation` knows which of them are old."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._commands: Counter[type[Any]] = Counter(dict.fromkeys(get_args(Body), 0))
        self._not_done: Counter[tuple[type[Any], type[Any]]] = Counter()
        self._events: Counter[Labels] = Counter(dict.fromkeys(_RARE, 0))
        self._sizes = Distribution(COUNTS)
        self._entries = 0
        self.commands = 0
        """Commands applied."""
        self.events = 0
        """Events they made."""

    def applied(self, applied: Applied) -> None:
        """Count what an entry did. Kept short: it is on the way of every write."""
        if applied.index <= self._observation.opened_index:
            return
        commands = applied.batch.commands
        self._entries += 1
        if commands:
            self.commands += len(commands)
            self._sizes.add(len(commands))
            self._commands.update([type(command.body) for command in commands])
            for command, result in zip(commands, applied.results, strict=True):
                if type(result) in _NOT_DONE:
                    self._not_done[type(command.body), type(result)] += 1
        if applied.events:
            self.events += len(applied.events)
            self._events.update([(event.topic, event.reason) for event in applied.events])

    def read(self) -> Iterator[Reading]:
        """See `Source.read`."""
        yield counter("agentkeeper_entries", "Log entries applied", self._entries)
        yield histogram(
            "agentkeeper_entry_commands",
            "Commands in one log entry, those without any left out",
            self._sizes.counted(),
        )
        commands: Counter[Labels] = Counter()
        for body, count in self._commands.items():
            commands[body.__name__, "done"] = count
        for (body, result), count in self._not_done.items():
            commands[body.__name__, "done"] -= count
            commands[body.__name__, _NOT_DONE[result]] = count
        yield counters(
            "agentkeeper_commands",
            "Commands applied, by result",
            ("command", "result"),
            commands,
        )
        yield counters(
            "agentkeeper_events", "Events, by topic and reason", ("topic", "reason"), self._events
        )
