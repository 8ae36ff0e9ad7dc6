"""`agent find`: what it prints, and what it says beside that."""

import json
from datetime import UTC, datetime

import pytest
import yaml
from click.testing import CliRunner

from agentkeeper.cli.agents import how_found
from agentkeeper.cli.exits import Code
from agentkeeper.cli.main import main
from agentkeeper.types import AgentCard, AgentStatus, FindMode, FoundAgent, FoundAgents

THEN = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
STAMP = "2026-01-02T03:04:05.678Z"
WAITING = "2 agents still wait for their vectors, and are ranked by their words."


def agent(name, score):
    card = AgentCard(name, "Reads", "1.0", ["pdf"])
    return FoundAgent(
        f"id-{name}", card, AgentStatus.ALIVE, THEN, THEN, ttl_seconds=30, score=score
    )


AGENTS = [agent("reader", 0.678), agent("baker", 0.0)]


@pytest.fixture
def find(monkeypatch):
    """Runs the command against a cluster that finds what it is told to."""
    asked = []

    def run(found, *args):
        class Client:
            def __init__(self, **options):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def find(self, *wanted):
                asked.append(wanted)
                return found

        monkeypatch.setattr("agentkeeper.client.AgentKeeperClient", Client)
        result = CliRunner().invoke(main, ["agent", "find", *args])
        result.asked = asked[-1]
        return result

    return run


def test_the_words_are_one_query(find):
    result = find(FoundAgents(), "read", "a receipt", "--tool", "pdf", "--limit", "3")
    assert result.asked == ("read a receipt", ["pdf"], 3)
    assert result.exit_code == Code.NO
    assert result.stderr == ""


@pytest.mark.parametrize("mode", [FindMode.SEMANTIC, FindMode.LEXICAL])
def test_a_table_has_the_scores(find, mode):
    result = find(FoundAgents(AGENTS, mode, 2), "x")
    heading, *rows = (line.split() for line in result.stdout.splitlines())
    assert heading[:4] == ["AGENT", "ID", "NAME", "SCORE"]
    assert [row[:3] for row in rows] == [
        ["id-reader", "reader", "0.68"],
        ["id-baker", "baker", "0.00"],
    ]
    assert result.stderr.startswith("Ranked by ")
    assert result.stderr.endswith(WAITING + "\n")


@pytest.mark.parametrize("mode", [FindMode.UNRANKED, FindMode.UNKNOWN])
def test_a_table_has_none_where_there_are_none(find, mode):
    result = find(FoundAgents(AGENTS, mode), "x")
    assert "SCORE" not in result.stdout
    assert len(result.stdout.splitlines()) == 3
    assert ("In order of registration" in result.stderr) is (mode is FindMode.UNRANKED)


def test_what_programs_read_is_the_array_that_it_always_was(find):
    found = FoundAgents(AGENTS, FindMode.SEMANTIC, 2)
    result = find(found, "x", "-o", "json")
    first = json.loads(result.stdout)[0]
    assert list(first.items()) == [
        ("agent_id", "id-reader"),
        (
            "card",
            {
                "name": "reader",
                "description": "Reads",
                "version": "1.0",
                "tools": ["pdf"],
                "metadata": {},
                "capabilities": [],
            },
        ),
        ("status", "ALIVE"),
        ("registered_at", STAMP),
        ("last_heartbeat_at", STAMP),
        ("reason", ""),
        ("ttl_seconds", 30),
        ("score", 0.678),
    ]
    assert result.stderr == f"Ranked by meaning. {WAITING}\n"
    assert yaml.safe_load(find(found, "x", "-o", "yaml").stdout) == json.loads(result.stdout)
    assert json.loads(find(FoundAgents(), "-o", "json").stdout) == []


@pytest.mark.parametrize(
    ("mode", "pending", "said"),
    [
        (FindMode.SEMANTIC, 0, "Ranked by meaning."),
        (
            FindMode.SEMANTIC,
            1,
            "Ranked by meaning. 1 agent still waits for its vector, and is ranked by its words.",
        ),
        (
            FindMode.LEXICAL,
            1_234,
            "Ranked by words: the replica has no model, or it did not answer in time."
            " 1,234 agents still wait for their vectors, and are ranked by their words.",
        ),
        (FindMode.UNRANKED, 5, "In order of registration: there was no query."),
        (FindMode.UNKNOWN, 0, ""),
    ],
)
def test_how_they_were_found(mode, pending, said):
    assert how_found(FoundAgents(AGENTS, mode, pending)) == said
