"""Query strings to requests, and messages to plain JSON."""

import json

import pytest
from multidict import MultiDict

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.convert import timestamp
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.plain import BLOB_CHARS, plain, request_from


def asked(*pairs: tuple[str, str]) -> pb.ListAgentsRequest:
    return request_from(MultiDict(pairs), pb.ListAgentsRequest)


def test_parameters_are_the_fields_of_the_request() -> None:
    request = asked(
        ("statuses", "ALIVE"),
        ("statuses", "DEAD"),
        ("name_prefix", "web-"),
        ("tools", "a,b"),
        ("tools", "c"),
        ("limit", "7"),
    )
    assert request == pb.ListAgentsRequest(
        statuses=[pb.AGENT_STATUS_ALIVE, pb.AGENT_STATUS_DEAD],
        name_prefix="web-",
        tools=["a,b", "c"],
        limit=7,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("statuses", "BUSY"),
        ("statuses", "1"),
        ("limit", "-1"),
        ("limit", "٣"),
        ("limit", str(1 << 32)),
        ("limit", "9" * 5_000),
        ("limit", ""),
        ("colour", "green"),
        ("name_prefix", "\ud800"),
    ],
)
def test_what_cant_be_read_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(CallError) as refusal:
        asked((name, text))
    assert refusal.value.code == "INVALID_ARGUMENT"
    assert refusal.value.field == name


def test_messages_become_json_in_the_words_of_the_api() -> None:
    agent = pb.AgentInfo(
        agent_id="a1",
        card=pb.AgentCard(name="x", metadata={"k": "v"}, tools=["t"]),
        status=pb.AGENT_STATUS_UNREACHABLE,
        registered_at=timestamp(1_700_000_000_250),
    )
    told = plain(agent)
    assert told == {
        "agent_id": "a1",
        "card": {
            "name": "x",
            "description": "",
            "version": "",
            "capabilities": [],
            "tools": ["t"],
            "metadata": {"k": "v"},
        },
        "status": "UNREACHABLE",
        "registered_at": "2023-11-14T22:13:20.250Z",
        "last_heartbeat_at": None,
        "reason": "",
        "ttl_seconds": 0,
    }
    assert json.loads(json.dumps(told)) == told


def test_tokens_are_numbers_and_what_is_not_known_is_null() -> None:
    lease = plain(pb.Lease(token=pb.FencingToken(value=2**53 - 1)))
    assert lease["token"] == 2**53 - 1
    assert plain(pb.Replica(node_id="b"))["match_index"] is None
    assert plain(pb.Replica(match_index=0))["match_index"] == 0
    assert plain(pb.Replica(vitals=pb.Vitals(role=pb.REPLICA_ROLE_LEADER)))["vitals"]["role"] == (
        "LEADER"
    )


def test_values_that_are_newer_than_this_build_are_unknown() -> None:
    assert plain(pb.AgentInfo(status=77))["status"] == "UNKNOWN"  # type: ignore[arg-type]


def test_bytes_are_shown_as_far_as_a_person_reads() -> None:
    task = plain(pb.Task(input=b"\xff\x00<b>", output=b"x" * 1_000_000))
    assert task["input"] == {"size_bytes": 5, "text": "�\x00<b>"}
    assert task["output"] == {"size_bytes": 1_000_000, "text": "x" * BLOB_CHARS}
