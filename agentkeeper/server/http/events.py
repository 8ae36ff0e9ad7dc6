"""Events as the dashboard shows them: one line each, filtered by topic and by what they name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from multidict import MultiMapping

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import codec, limits
from agentkeeper.core import records as r
from agentkeeper.core.refusals import not_found
from agentkeeper.core.state import State
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.errors import bad_field, refused
from agentkeeper.server.http.plain import DIGITS, Json, plain
from agentkeeper.server.replica import Replica

PAGE: Final = 100
PAGE_MAX: Final = 500
SCAN_SLICE: Final = 500
"""Events looked at before others get a turn."""
ROWS_KEPT: Final = 1_024


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events somebody wants: of any of these topics, whose subject has this text."""

    topics: tuple[str, ...]
    contains: str

    PARAMETERS: ClassVar = frozenset({"topics", "contains"})

    @classmethod
    def of(cls, query: MultiMapping[str]) -> Filter:
        """As `topics`, given once each, and `contains` say. Raises `CallError`."""
        given = query.getall("topics", [])
        topics = v.lines(given, "topics", limits.TOPICS, limits.TOPIC_BYTES, empty=True)
        contains = v.line(query.get("contains", ""), "contains", limits.TASK_ID_BYTES, empty=True)
        return cls(() if "" in topics else topics, contains)

    def accepts(self, event: r.Event) -> bool:
        """Whether this one is wanted."""
        return (not self.topics or event.topic.startswith(self.topics)) and (
            not self.contains or self.contains in event.subject
        )


class Rows:
    """Events as rows; what several readers want is made once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Json] = OrderedDict()

    def of(self, event: r.Event) -> Json:
        """The row of an event."""
        row = self._kept.get(event.sequence)
        if row is None:
            row = self._kept[event.sequence] = _row(event)
            if len(self._kept) > ROWS_KEPT:
                self._kept.popitem(last=False)
        return row

    def clear(self) -> None:
        """Forget all, as after a restore."""
        self._kept.clear()


async def page(replica: Replica, wanted: Filter, query: MultiMapping[str]) -> Json:
    """A page of the kept events, newest first, before the sequence number `before` if given."""
    only(query, Filter.PARAMETERS | {"limit", "before"})
    state = replica.state
    limit = number(query, "limit") or PAGE
    if limit > PAGE_MAX:
        raise bad_field("limit", f"must be from 1 to {PAGE_MAX}")
    last = state.last_sequence
    before = number(query, "before") or last + 1
    sequence = min(before - 1, last)
    rows: list[Json] = []
    looked_at = 0
    while sequence >= state.first_sequence and len(rows) < limit:
        event = state.events.get(sequence)
        if event is not None and wanted.accepts(event):
            rows.append(_row(event))
        sequence -= 1
        looked_at += 1
        if looked_at % SCAN_SLICE == 0 or len(rows) % 16 == 15:
            await replica.turns.take()
    return {
        "events": rows,
        "last_sequence": last,
        "first_sequence": state.first_sequence,
        "next_before": sequence + 1 if sequence >= state.first_sequence else 0,
    }


def whole(state: State, query: MultiMapping[str]) -> Json:
    """One event with all that it carries. Raises `CallError`."""
    only(query, {"sequence"})
    sequence = number(query, "sequence")
    event = state.events.get(sequence)
    if event is None:
        raise refused(not_found("event", str(sequence)))
    message = convert.event(event)
    row = plain(message)
    payload = getattr(pb, message.payload.TypeName().rpartition(".")[2])()
    message.payload.Unpack(payload)
    row.update(_row(event), payload=plain(payload))
    return {"event": row}


def only(query: MultiMapping[str], known: Collection[str]) -> None:
    """Raise `CallError` for a parameter that is not among the known."""
    for name in query:
        if name not in known:
            raise bad_field(name[:80], "there is no such parameter")


def number(query: MultiMapping[str], name: str) -> int:
    """A parameter that is a whole number, 0 where it is absent. Raises `CallError`."""
    return whole_number(query.get(name, "0"), name)


def whole_number(text: str, name: str) -> int:
    """What a parameter or header says. Raises `CallError`."""
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise bad_field(name, "must be a whole number")
    return v.number(int(text), name, 0, limits.COUNTER_MAX)


def _row(event: r.Event) -> Json:
    kind = event.topic.partition(".")[0]
    occurred_at = convert.timestamp(event.wall_ms)
    return {
        "sequence_number": event.sequence,
        "topic": event.topic,
        "subject": event.subject,
        "reason": event.reason,
        "occurred_at": "" if occurred_at is None else occurred_at.ToJsonString(),
        "detail": _detail(kind, codec.unpack(event.payload)),
    }


def _detail(kind: str, row: Any) -> Json:
    """What a line says of the record beside its id, in the words of the API."""
    if kind == "agent":
        agent = codec.thaw(r.Agent, row)
        return {"name": agent.card.name, "reason": agent.reason}
    if kind == "lease":
        lease = codec.thaw(r.Lease, row)
        return {"holder_agent_id": lease.holder, "token": lease.token}
    if kind == "leader":
        election = codec.thaw(r.Election, row)
        return {"leader_agent_id": election.leader, "term": election.term}
    if kind == "task":
        task = codec.thaw(r.Task, row)
        return {"type": task.type, "claimed_by_agent_id": task.claimed_by}
    policy = codec.thaw(r.Policy, row)
    effect = "DENY" if policy.effect == r.Effect.DENY else "ALLOW"
    return {
        "effect": effect,
        "subject": policy.subject,
        "action": policy.action,
        "resource": policy.resource,
    }
