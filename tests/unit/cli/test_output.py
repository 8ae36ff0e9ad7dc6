"""What is printed: stable for programs, harmless for terminals."""

import base64
import contextlib
import io
import json
import unicodedata
from datetime import UTC, datetime, timedelta

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.cli import output
from agentkeeper.cli.output import Column, Output
from agentkeeper.types import (
    AgentCard,
    AgentInfo,
    AgentStatus,
    Capability,
    Election,
    ElectionState,
    Explanation,
    Lease,
    LeaseInfo,
    Policy,
    PolicyEffect,
    Task,
    TaskStatus,
    WatchEvent,
)

THEN = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
STAMP = "2026-01-02T03:04:05.678Z"
LEASE = Lease("k", "a1", 7, THEN, THEN, 60)
LEASE_JSON = {
    "task_id": "k",
    "holder_agent_id": "a1",
    "token": 7,
    "acquired_at": STAMP,
    "expires_at": STAMP,
    "ttl_seconds": 60,
    "reason": "",
}
POLICY = Policy("p", "s", "a", "r", PolicyEffect.DENY)
POLICY_JSON = {"id": "p", "subject": "s", "action": "a", "resource": "r", "effect": "DENY"}
STATE_JSON = {"group": "g", "leader_agent_id": "a1", "term": 3, "elected_at": STAMP}
TASK = Task(
    id="t",
    type="read",
    status=TaskStatus.PENDING,
    input=b"\xff\x00",
    output="ö".encode(),
    required_tools=["x"],
    max_retries=2,
    retry_count=1,
    claimed_by_agent_id="",
    failure_reason="no",
    created_at=THEN,
    claimed_at=None,
    completed_at=None,
)
TASK_JSON = {
    "id": "t",
    "type": "read",
    "status": "PENDING",
    "input": base64.b64encode(b"\xff\x00").decode(),
    "output": base64.b64encode("ö".encode()).decode(),
    "required_tools": ["x"],
    "max_retries": 2,
    "retry_count": 1,
    "claimed_by_agent_id": "",
    "failure_reason": "no",
    "created_at": STAMP,
    "claimed_at": None,
    "completed_at": None,
    "claim_token": 0,
    "priority": 0,
    "idempotency_key": "",
    "expired_claims": 0,
    "ttl_seconds": 0,
}
SHAPES = [
    (
        AgentInfo(
            "a1",
            AgentCard("n", "d", "1", ["x"], {"k": "v"}, [Capability("c", "e")]),
            AgentStatus.ALIVE,
            THEN,
            THEN,
        ),
        {
            "agent_id": "a1",
            "card": {
                "name": "n",
                "description": "d",
                "version": "1",
                "tools": ["x"],
                "metadata": {"k": "v"},
                "capabilities": [{"name": "c", "description": "e"}],
            },
            "status": "ALIVE",
            "registered_at": STAMP,
            "last_heartbeat_at": STAMP,
            "reason": "",
            "ttl_seconds": 0,
        },
    ),
    (
        LeaseInfo(LEASE, 900, ["a2"], 1),
        {"lease": LEASE_JSON, "remaining_ms": 900, "waiting_agent_ids": ["a2"], "waiting": 1},
    ),
    (
        Election(ElectionState("g", "a1", 3, THEN), ["a1", "a2"], 2),
        {"state": STATE_JSON, "candidate_agent_ids": ["a1", "a2"], "candidates": 2},
    ),
    (
        Explanation(False, "denied", "p", [POLICY], 1),
        {
            "allowed": False,
            "reason": "denied",
            "policy_id": "p",
            "matching": [POLICY_JSON],
            "matches": 1,
        },
    ),
    (TASK, TASK_JSON),
    (
        WatchEvent("lease.acquired", 9, THEN, LEASE),
        {
            "topic": "lease.acquired",
            "sequence": 9,
            "timestamp": STAMP,
            "payload": LEASE_JSON,
            "reason": "",
        },
    ),
]


@pytest.mark.parametrize(("thing", "shape"), SHAPES, ids=lambda item: type(item).__name__)
def test_shapes_that_programs_rely_on(thing, shape, capsys):
    Output("json").data(thing)
    assert list(json.loads(capsys.readouterr().out).items()) == list(shape.items())
    Output("yaml").data([thing])
    assert yaml.safe_load(capsys.readouterr().out) == [shape]


def test_data_as_text():
    made = output.plain(TASK, text=True)
    assert (made["input"], made["output"]) == ("\ufffd\x00", "ö")


@given(st.text())
def test_what_programs_are_given_is_harmless_to_a_terminal_and_whole(text):
    kept = io.StringIO()
    with contextlib.redirect_stdout(kept):
        Output("json").data({"x": text})
    written = kept.getvalue()
    assert json.loads(written) == {"x": text}
    assert not any(
        unicodedata.category(c) in {"Cc"} or c in "\u202e\u2066" for c in written[:-1] if c != "\n"
    )


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_characters_that_turn_the_writing_round_are_escaped(form, capsys):
    Output(form, text=True).data({"x": b"a\x7f\xc2\x9b\xe2\x80\xae"})
    written = capsys.readouterr().out
    assert written.isascii()
    assert yaml.safe_load(written) == {"x": "a\x7f\x9b\u202e"}


@given(st.binary())
def test_data_is_whole_in_base64(data):
    assert base64.b64decode(output.plain({"x": data})["x"]) == data


@given(st.text())
def test_nothing_printed_moves_the_cursor(text):
    assert output.printable(text).isprintable()
    assert len(output.printable(text)) == len(text)


@given(st.binary(max_size=200))
def test_a_preview_is_one_short_line(data):
    assert output.preview(data).isprintable()
    assert len(output.preview(data)) <= output.PREVIEW_CHARACTERS + 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (61, "61 s"),
        (100, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds, text):
    assert output.duration(seconds) == text


def test_moments_before_and_after_now():
    now = datetime.now(UTC)
    assert output.ago(now - timedelta(hours=2, minutes=1)) == "2 h 1 min ago"
    assert output.ago(now + timedelta(hours=2, minutes=1)).startswith("in 2 h")
    assert output.ago(None) == "-"


def test_a_table_where_there_is_no_terminal(capsys):
    rows = [{"name": "x" * 200, "status": AgentStatus.DEAD}, {"name": "[red]", "status": None}]
    columns = [Column("NAME", lambda r: r["name"]), Column("STATUS", lambda r: r["status"])]
    Output("table").rows(rows, columns)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["NAME", "STATUS"], ["x" * 200, "DEAD"], ["[red]", "-"]]


def test_columns_are_lined_up_also_under_wide_characters():
    columns = [Column("NAME", lambda r: r[0]), Column("N", lambda r: r[1], right=True)]
    made = [click.unstyle(line) for line in output.lines([("日本", 7), ("a", 1234)], columns)]
    assert made == ["NAME     N", "日本     7", "a     1234"]


def test_words_that_say_a_state_are_coloured():
    columns = [Column("STATUS", lambda row: row)]
    _heading, dead, other = output.lines([AgentStatus.DEAD, "DEADLY"], columns)
    assert (click.unstyle(dead), other) == ("DEAD", "DEADLY")
    assert dead != "DEAD"


def test_a_list_of_none(capsys):
    Output("json").rows([], [])
    assert json.loads(capsys.readouterr().out) == []
