"""Real daemons with the real model: agents found by meaning, whatever befalls their workers."""

import os
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.core import limits
from agentkeeper.launcher import LocalCluster, Node
from agentkeeper.search.model.locate import locate

from .waiting import eventually
from .wire import INVALID_ARGUMENT, Wire, refused

LEXICAL, SEMANTIC = pb.FIND_MODE_LEXICAL, pb.FIND_MODE_SEMANTIC
MODEL = locate().model
LOADING_S = 180.0
"""A model is loaded in seconds, but three at once on a busy machine take their time."""

needs_model = pytest.mark.skipif(MODEL is None, reason="there is no model on this machine")

CARDS = {
    "ledger-9": ("Extracts totals and dates from photographed expenses and files them", "ocr"),
    "orbit-4": ("Plans delivery routes for a fleet of lorries", "maps"),
    "quill-2": ("Writes and edits articles for the company's blog", "text"),
    "sieve-7": ("Sorts incoming mail and flags what is unwanted advertising", "mail"),
}
RECEIPT = "someone who can make sense of a crumpled till receipt"


@pytest.fixture(scope="module")
def thinking() -> Iterator[LocalCluster]:
    """Three replicas with a model and some agents, all of which have their vectors."""
    assert MODEL is not None
    with LocalCluster(replicas=3, env={"AGENTKEEPER_MODEL": str(MODEL.directory)}) as cluster:
        for name, (description, tool) in CARDS.items():
            register(cluster.leader(), name, description, tool)
        for node in cluster.nodes.values():
            await_vectors(node, len(CARDS))
        yield cluster


@pytest.fixture
def node(thinking: LocalCluster) -> Node:
    return thinking.followers()[0]


def register(node: Node, name: str, description: str, *tools: str) -> str:
    card = pb.AgentCard(name=name, version="1", description=description, tools=tools)
    request = pb.RegisterRequest(card=card, ttl_seconds=3_600)
    return asked(node, lambda wire: wire.call(methods.REGISTER, request).agent_id)


def find(node: Node, query: str, *tools: str, limit: int = 0) -> pb.FindResponse:
    request = pb.FindRequest(query=query, tools=tools, limit=limit)
    return asked(node, lambda wire: wire.call(methods.FIND, request))


def asked(node: Node, call: Callable[[Wire], object]) -> object:
    wire = Wire(node.endpoint)
    try:
        return call(wire)
    finally:
        wire.close()


def names(found: pb.FindResponse) -> list[str]:
    return [agent.card.name for agent in found.agents]


def metric(node: Node, name: str) -> float:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{node.metrics_addr}/metrics", timeout=10) as response:
        text = response.read().decode()
    found = re.search(rf"^agentkeeper_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found.group(1))


def await_vectors(node: Node, count: int) -> None:
    eventually(lambda: metric(node, "search_vectors") >= count, f"vectors at {node}", LOADING_S)


def worker_of(node: Node) -> int:
    """The process id of the one process that a daemon has started."""
    tasks = Path(f"/proc/{node.pid}/task").glob("*/children")
    (worker,) = {int(pid) for children in tasks for pid in children.read_text().split()}
    return worker


def by_meaning(node: Node, query: str) -> pb.FindResponse:
    """Search until the machine was quick enough to do it by meaning."""

    def look() -> pb.FindResponse | None:
        found = find(node, query)
        return found if found.mode == SEMANTIC else None

    return eventually(look, f"{query!r} by meaning at {node}", LOADING_S)


@needs_model
def test_every_replica_finds_by_meaning(thinking: LocalCluster) -> None:
    for node in thinking.nodes.values():
        found = by_meaning(node, RECEIPT)
        assert names(found)[0] == "ledger-9"
        assert (len(found.scores), found.pending) == (len(found.agents), 0)
        assert list(found.scores) == sorted(found.scores, reverse=True)
        assert names(by_meaning(node, "ask orbit-4 about it"))[0] == "orbit-4"
        assert names(find(node, RECEIPT, "maps")) == ["orbit-4"], "tools decide who is found at all"
        assert len(find(node, RECEIPT, limit=2).agents) == 2


@needs_model
def test_an_agent_is_found_by_meaning_at_once(thinking: LocalCluster) -> None:
    """At the first search after its registration, if the machine is quick enough for that."""
    leader, *others = thinking.nodes.values()
    tries = iter(range(1_000))

    def first_search() -> bool:
        number = next(tries)
        name = f"gallop-{number}"
        agent_id = register(leader, name, "Looks after horses in their stable")
        found = find(others[number % 2], "feeding ponies")
        done = found.mode == SEMANTIC and found.pending == 0
        assert name in names(found)
        assert not done or names(found)[0] == name
        gone = pb.DeregisterRequest(agent_id=agent_id)
        asked(leader, lambda wire: wire.call(methods.DEREGISTER, gone))
        return done

    eventually(first_search, "by meaning", LOADING_S)


@needs_model
def test_a_worker_that_is_killed_is_replaced_and_searches_go_on(node: Node) -> None:
    before = metric(node, "search_worker_restarts_total")
    vectors = metric(node, "search_vectors")
    os.kill(worker_of(node), signal.SIGKILL)
    found = find(node, "fleet of lorries")
    assert (names(found)[0], found.mode) == ("orbit-4", LEXICAL)
    found = by_meaning(node, "who drives goods around town")
    assert names(found)[0] == "orbit-4"
    assert metric(node, "search_worker_restarts_total") == before + 1
    assert metric(node, "search_vectors") == vectors, "what was known is not made again"
    assert metric(node, "search_worker_up") == 1
    assert metric(node, "search_worker_memory_bytes") > 1e6
    assert node.running


@needs_model
def test_a_worker_that_stands_still_is_replaced_too(node: Node) -> None:
    by_meaning(node, "anything")
    before = metric(node, "search_worker_restarts_total")
    stopped = worker_of(node)
    os.kill(stopped, signal.SIGSTOP)
    found = find(node, "photographed expenses")
    assert (names(found)[0], found.mode) == ("ledger-9", LEXICAL)
    found = by_meaning(node, "reading a bill from a restaurant")
    assert names(found)[0] == "ledger-9"
    assert metric(node, "search_worker_restarts_total") == before + 1
    assert worker_of(node) != stopped


@needs_model
def test_a_restart_embeds_nothing_anew(thinking: LocalCluster, node: Node) -> None:
    vectors = metric(node, "search_vectors")
    worker = worker_of(node)
    assert node.terminate() == 0
    assert not Path(f"/proc/{worker}").exists(), "nothing is left behind"
    node.start()
    thinking.wait_ready()
    await_vectors(node, int(vectors))
    assert metric(node, 'search_embeddings_total{source="model"}') == 0
    assert metric(node, 'search_embeddings_total{source="cache"}') >= vectors
    assert names(by_meaning(node, RECEIPT))[0] == "ledger-9"


@pytest.mark.parametrize("setting", ["empty folder", "none"])
def test_without_a_model_words_decide_and_one_warning_says_so(setting: str, tmp_path: Path) -> None:
    model = "none" if setting == "none" else str(tmp_path)
    with LocalCluster(replicas=1, env={"AGENTKEEPER_MODEL": model}) as cluster:
        (node,) = cluster.nodes.values()
        for name, (description, tool) in CARDS.items():
            register(node, name, description, tool)
        found = find(node, "flags advertising")
        assert (names(found)[0], found.mode, found.pending) == ("sieve-7", LEXICAL, 0)
        assert (len(found.agents), found.scores[0] > 0, found.scores[-1]) == (4, True, 0)
        assert metric(node, "search_model") == 0
        warnings = [line for line in node.log_path.read_text().splitlines() if "no model" in line]
    if setting == "none":
        assert not warnings, "it is as was asked for"
    else:
        (warning,) = warnings
        assert str(tmp_path) in warning
        assert "agentkeeper model install" in warning


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with LocalCluster(replicas=1, data_dir=tmp_path / "data", env={}) as cluster:
        (node,) = cluster.nodes.values()
        node.terminate()
        node.command += ["--model", str(folder)]
        node.start()
        eventually(lambda: not node.running, "the end")
        assert node.exit_code == 2
        assert f"--model: there is no folder {folder}" in node.log_tail()


def test_a_query_and_a_limit_have_bounds(cluster: LocalCluster) -> None:
    node = cluster.leader()
    longest = "ö" * (limits.QUERY_BYTES // 2)
    assert find(node, longest, limit=limits.FIND_LIMIT_MAX).mode in (LEXICAL, SEMANTIC)
    for query, limit in ((longest + "x", 1), ("x", limits.FIND_LIMIT_MAX + 1)):
        with refused(INVALID_ARGUMENT, reason="bad_field"):
            find(node, query, limit=limit)
