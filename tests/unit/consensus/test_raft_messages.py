"""Whatever comes off the wire, only well-formed messages get through."""

from __future__ import annotations

from typing import Any

import pytest

from agentkeeper.consensus.messages import (
    Admit,
    Append,
    Introduction,
    Payload,
    SnapshotChunk,
    Standing,
    parse,
)

APPEND: dict[str, Any] = {
    "type": "append_entries",
    "term": 3,
    "round": 7,
    "commit_index": 4,
    "prevLogIdx": 5,
    "prevLogTerm": 2,
    "entries": [(b"\x00x", 6, 3)],
}

CHUNK: dict[str, Any] = {
    "type": "install_snapshot",
    "term": 3,
    "round": 7,
    "index": 4,
    "offset": 0,
    "data": b"x",
}
INTRODUCTION: dict[str, Any] = {
    "type": "introduction",
    "incarnation": "of a",
    "standing": "voter",
    "founders": {"a": "of a"},
}


def test_known_messages_are_typed() -> None:
    assert parse(APPEND) == Append(3, 7, 4, 5, 2, [(b"\x00x", 6, 3)])
    assert parse({"type": "agentkeeper", "payload": b"hi"}) == Payload(b"hi")
    assert parse({"type": "admit", "term": 3, "index": 9}) == Admit(3, 9)
    assert parse(CHUNK) == SnapshotChunk(3, 7, 4, 0, b"x")
    assert parse(INTRODUCTION) == Introduction("of a", Standing.VOTER, {"a": "of a"})


def test_a_bare_heartbeat_says_nothing_about_the_log() -> None:
    bare = {key: value for key, value in APPEND.items() if key != "prevLogIdx"}
    assert parse(bare) == Append(3, 7, 4, None, 0, [])


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"bytes",
        ["status"],
        {},
        {"type": []},
        {"type": "apply_command", "command": b"x"},
        APPEND | {"term": "3"},
        APPEND | {"term": -1},
        APPEND | {"term": True},
        APPEND | {"entries": None},
        APPEND | {"entries": [(b"x", 8, 3)]},
        APPEND | {"entries": [("text", 6, 3)]},
        APPEND | {"entries": [(b"", 6, 3)]},
        APPEND | {"entries": [(b"x", 6)]},
        APPEND | {"entries": [(b"x", 6.0, 3)]},
        APPEND | {"entries": [(b"x", 6, -1)]},
        APPEND | {"entries": [(b"x", 6, 4)]},
        {"type": "agentkeeper", "payload": "text"},
        {"type": "response_vote", "term": 1, "for_term": 1, "granted": 1, "pre": False},
        {"type": "admit", "term": 1},
        CHUNK | {"data": "text"},
        CHUNK | {"offset": -1},
        INTRODUCTION | {"incarnation": ""},
        INTRODUCTION | {"incarnation": "x" * 65},
        INTRODUCTION | {"incarnation": b"x"},
        INTRODUCTION | {"incarnation": "\u00e4" * 33},
        INTRODUCTION | {"founders": {"\u20ac" * 22: "x"}},
        INTRODUCTION | {"standing": "leader"},
        INTRODUCTION | {"standing": None},
        INTRODUCTION | {"founders": [("a", "of a")]},
        INTRODUCTION | {"founders": {"a": 1}},
        INTRODUCTION | {"founders": {1: "of a"}},
        INTRODUCTION | {"founders": {str(number): "x" for number in range(17)}},
    ],
)
def test_everything_else_is_ignored(raw: object) -> None:
    assert parse(raw) is None
