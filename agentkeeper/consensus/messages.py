"""What replicas say to each other, checked as it comes off the wire.

Messages travel as plain dictionaries. `parse` turns one into a typed value, or into None if its
shape is not one we know: whoever sent it, such a message must not disturb the engine.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentkeeper.consensus import limits
from agentkeeper.consensus.entries import Entry


@dataclass(frozen=True, slots=True)
class Append:
    """AppendEntries (Raft paper, figure 2). `prev_index` None is a bare heartbeat."""

    term: int
    round: int
    commit_index: int
    prev_index: int | None
    prev_term: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class AppendReply:
    """Answer to an append. `success` vouches for all below `next_index`; `reset` asks for it."""

    term: int
    round: int
    next_index: int
    success: bool
    reset: bool


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """InstallSnapshot (Raft paper, figure 13): a piece of the snapshot's file."""

    term: int
    round: int
    index: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """How much of the snapshot at `index` has arrived, in bytes."""

    term: int
    round: int
    index: int
    offset: int


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """RequestVote (Raft paper, figure 2); `pre` asks without consequence (thesis 9.6)."""

    term: int
    last_index: int
    last_term: int
    pre: bool


@dataclass(frozen=True, slots=True)
class VoteReply:
    """Answer to a vote request: the voter's own `term`, and the term it was asked about."""

    term: int
    for_term: int
    granted: bool
    pre: bool


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks its successor to stand at once (thesis 3.10)."""

    term: int


@dataclass(frozen=True, slots=True)
class Stay:
    """The leader takes its `TimeoutNow` back: it has given up, and leads on."""

    term: int


class Standing(enum.StrEnum):
    """What a replica is to its cluster."""

    NEW = "new"
    """It has never stored anything and never voted."""
    LEARNER = "learner"
    """It gets the log, but neither votes nor counts."""
    VOTER = "voter"
    """It votes, and what it has stored counts."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """The first message on every link, and again once the replica votes."""

    incarnation: str
    """Drawn when the replica's data folder was made: another one means another, empty disk."""
    standing: Standing
    founders: Mapping[str, str]
    """Incarnation of each replica that the cluster began with, by node id, as far as known."""


@dataclass(frozen=True, slots=True)
class Admit:
    """The leader lets a learner vote once the entry at `index`, and all before, is stored there."""

    term: int
    index: int


@dataclass(frozen=True, slots=True)
class Payload:
    """A message of the daemon's own, opaque here."""

    payload: bytes


Message = (
    Append
    | AppendReply
    | SnapshotChunk
    | SnapshotReply
    | VoteRequest
    | VoteReply
    | TimeoutNow
    | Stay
    | Introduction
    | Admit
    | Payload
)


class _MalformedError(Exception):
    pass


def parse(raw: object) -> Message | None:
    """Give the typed message, or None for anything of unknown shape."""
    if not isinstance(raw, dict):
        return None
    parser = _PARSERS.get(raw.get("type", "")) if isinstance(raw.get("type"), str) else None
    if parser is None:
        return None
    try:
        return parser(raw)
    except _MalformedError:
        return None


def _int(raw: dict[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key, default)
    if type(value) is not int or not 0 <= value < 2**63:
        raise _MalformedError(key)
    return value


def _bool(raw: dict[str, Any], key: str, default: bool | None = None) -> bool:
    value = raw.get(key, default)
    if type(value) is not bool:
        raise _MalformedError(key)
    return value


def _bytes(raw: dict[str, Any], key: str) -> bytes:
    value = raw.get(key)
    if type(value) is not bytes:
        raise _MalformedError(key)
    return value


def _entries(raw: dict[str, Any], prev_index: int, leader_term: int) -> list[Entry]:
    entries = raw.get("entries")
    if not isinstance(entries, list):
        raise _MalformedError("entries")
    checked: list[Entry] = []
    for expected, entry in enumerate(entries, prev_index + 1):
        if not isinstance(entry, (tuple, list)) or len(entry) != 3:
            raise _MalformedError("entries")
        command, index, term = entry
        if type(command) is not bytes or not command:
            raise _MalformedError("entries")
        if type(index) is not int or index != expected:
            raise _MalformedError("entries")
        if type(term) is not int or not 0 <= term <= leader_term:
            raise _MalformedError("entries")
        checked.append((command, index, term))
    return checked


def _append(raw: dict[str, Any]) -> Append:
    term, round_, commit = _int(raw, "term"), _int(raw, "round"), _int(raw, "commit_index")
    if "prevLogIdx" not in raw:
        return Append(term, round_, commit, None, 0, [])
    prev_index = _int(raw, "prevLogIdx")
    prev_term = _int(raw, "prevLogTerm")
    return Append(term, round_, commit, prev_index, prev_term, _entries(raw, prev_index, term))


def _append_reply(raw: dict[str, Any]) -> AppendReply:
    return AppendReply(
        _int(raw, "term"),
        _int(raw, "round"),
        _int(raw, "next_node_idx"),
        _bool(raw, "success"),
        _bool(raw, "reset"),
    )


def _snapshot_chunk(raw: dict[str, Any]) -> SnapshotChunk:
    return SnapshotChunk(
        _int(raw, "term"),
        _int(raw, "round"),
        _int(raw, "index"),
        _int(raw, "offset"),
        _bytes(raw, "data"),
    )


def _snapshot_reply(raw: dict[str, Any]) -> SnapshotReply:
    return SnapshotReply(
        _int(raw, "term"), _int(raw, "round"), _int(raw, "index"), _int(raw, "offset")
    )


def _vote_request(raw: dict[str, Any]) -> VoteRequest:
    return VoteRequest(
        _int(raw, "term"),
        _int(raw, "last_log_index"),
        _int(raw, "last_log_term"),
        _bool(raw, "pre", False),
    )


def _vote_reply(raw: dict[str, Any]) -> VoteReply:
    return VoteReply(
        _int(raw, "term"), _int(raw, "for_term"), _bool(raw, "granted"), _bool(raw, "pre")
    )


def _introduction(raw: dict[str, Any]) -> Introduction:
    founders = raw.get("founders")
    if not isinstance(founders, dict) or len(founders) > limits.MAX_REPLICAS:
        raise _MalformedError("founders")
    for node_id, incarnation in founders.items():
        _checked_name(node_id)
        _checked_name(incarnation)
    try:
        standing = Standing(str(raw.get("standing")))
    except ValueError as error:
        raise _MalformedError("standing") from error
    return Introduction(_checked_name(raw.get("incarnation")), standing, founders)


def _checked_name(value: object) -> str:
    if not isinstance(value, str):
        raise _MalformedError("name")
    if not 0 < len(value.encode(errors="replace")) <= limits.MAX_NAME_BYTES:
        raise _MalformedError("name")
    return value


_PARSERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "append_entries": _append,
    "next_node_idx": _append_reply,
    "install_snapshot": _snapshot_chunk,
    "snapshot_received": _snapshot_reply,
    "request_vote": _vote_request,
    "response_vote": _vote_reply,
    "introduction": _introduction,
    "admit": lambda raw: Admit(_int(raw, "term"), _int(raw, "index")),
    "timeout_now": lambda raw: TimeoutNow(_int(raw, "term")),
    "stay": lambda raw: Stay(_int(raw, "term")),
    "agentkeeper": lambda raw: Payload(_bytes(raw, "payload")),
}
