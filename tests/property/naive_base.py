"""What all parts of the naive model share.

The model states in the plainest way what the state machine promises: lists that are searched from
the start, everything derived again whenever it is asked for. It shares the record types with the
product (so that answers can be compared), and none of its indexes, heaps or bookkeeping.
"""

from agentkeeper.core import limits
from agentkeeper.core.codec import pack
from agentkeeper.core.records import Event, Refused


def find(rows, **wanted):
    """The first row with these fields, or None."""
    for row in rows:
        if all(getattr(row, name) == value for name, value in wanted.items()):
            return row
    return None


def swap(rows, old, new):
    """Put `new` where `old` is."""
    rows[rows.index(old)] = new
    return new


def refuse(code, reason):
    """A refusal; its wording is free, so the model has none."""
    return Refused(code, reason, "")


def full():
    return refuse("RESOURCE_EXHAUSTED", "limit")


def missing():
    return refuse("NOT_FOUND", "not_found")


class Base:
    """Clock, counters and the history of events."""

    def __init__(self):
        self.time = self.wall = self.grace_from = self.grace_until = 0
        self.tokens = self.orders = self.term_floor = 0
        self.version = 1
        self.agents, self.leases, self.waiters, self.groups = [], [], [], []
        self.policies, self.tasks, self.inputs, self.outputs = [], [], [], []
        self.sessions, self.answers, self.replicas = [], [], []
        self.history = []
        self.fresh = []

    def is_due(self, deadline):
        return self.time >= self.falls_due(deadline)

    def falls_due(self, deadline):
        """A grace spares what had not expired when it began."""
        return deadline if deadline <= self.grace_from else max(deadline, self.grace_until)

    def token(self):
        self.tokens += 1
        return self.tokens

    def order(self):
        self.orders += 1
        return self.orders

    def emit(self, topic, subject, record, reason=""):
        sequence = len(self.history) + 1
        event = Event(sequence, topic, subject, reason, self.wall, pack(record))
        self.history.append(event)
        self.fresh.append(event)

    def kept_events(self):
        """The newest events that fit both bounds."""
        kept, size = [], 0
        for event in reversed(self.history):
            size += len(event.payload)
            if len(kept) == limits.EVENTS or size > limits.EVENT_BYTES:
                break
            kept.append(event)
        return kept[::-1]
