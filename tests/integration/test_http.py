"""The dashboard's HTTP side over real processes: what it answers, and what it refuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster, Node
from agentkeeper.server.http.api import ROUTES
from agentkeeper.server.http.guard import CONNECTIONS, POLICY
from agentkeeper.server.http.live import STREAMS

from .waiting import eventually

Name = Callable[[str], str]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A replica of its own: these tests use up its connections."""
    with LocalCluster(replicas=1) as alone:
        yield alone.nodes["a"]


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[AgentKeeperClient]:
    with cluster.client() as client:
        yield client


def get(
    node: Node, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection(node.metrics_addr, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()


def ask(node: Node, path: str, **query: Any) -> dict[str, Any]:
    status, _, text = get(node, f"/api/{path}?{urllib.parse.urlencode(query, doseq=True)}")
    assert status == 200, text
    answer: dict[str, Any] = json.loads(text)
    return answer


class Stream:
    """One reader of /api/live."""

    def __init__(self, node: Node, query: str = "", **headers: str) -> None:
        self.connection = http.client.HTTPConnection(node.metrics_addr, timeout=10)
        self.connection.request("GET", f"/api/live?{query}", headers=headers)
        self.response = self.connection.getresponse()

    def next(self, kind: str) -> tuple[str, Any]:
        """The next message of a kind: its id and data."""
        return self.next_of(kind)[1:]

    def next_of(self, *kinds: str) -> tuple[str, str, Any]:
        """The next message of some kinds: its kind, id and data."""
        while True:
            fields: dict[str, str] = {}
            while line := self.response.readline().decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
            if fields.get("event") in kinds:
                return fields["event"], fields.get("id", ""), json.loads(fields["data"])

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@pytest.fixture
def stream() -> Iterator[Callable[..., Stream]]:
    with contextlib.ExitStack() as opened:

        def follow(node: Node, query: str = "", **headers: str) -> Stream:
            stream = Stream(node, query, **headers)
            opened.callback(stream.close)
            return stream

        yield follow


def test_every_section_shows_what_the_sdk_did_on_any_replica(
    cluster: LocalCluster, client: AgentKeeperClient, name: Name
) -> None:
    here = cluster.followers()[0]
    reader = name("reader")
    with client.register(reader, "Reads invoices", "1.0.0", ["pdf"]) as agent:
        work, group, policy = name("work/&?#"), name("group"), name("policy")
        lease = client.acquire_lease(work, agent.agent_id)
        assert lease is not None
        client.campaign(group, agent.agent_id)
        client.set_policy(policy, agent.agent_id, "read", "*", "DENY")
        task = client.create_task(
            name("type"), b"input", required_tools=[name("tool")], max_retries=2
        )

        def shown() -> bool:
            return get(here, f"/api/task?task_id={task.id}")[0] == 200

        eventually(shown, "the task at a follower")
        found = ask(here, "agents", name_prefix=reader)["agents"]
        assert [a["agent_id"] for a in found] == [agent.agent_id]
        assert found[0]["status"] == "ALIVE"
        assert ask(here, "agent", agent_id=agent.agent_id)["holds"]["leases"]["first"] == [work]
        assert ask(here, "find", query=reader)["agents"][0]["agent_id"] == agent.agent_id
        held = ask(here, "leases", task_id_prefix=work)
        assert held["leases"][0]["lease"]["token"] == lease.token
        assert held["names"] == {agent.agent_id: reader}
        assert ask(here, "lease", task_id=work)["lease"]["lease"]["task_id"] == work
        election = ask(here, "election", group=group)["election"]
        assert election["candidate_agent_ids"] == [agent.agent_id]
        assert ask(here, "elections", group_prefix=group)["elections"][0]["candidates"] == 1
        listed = ask(here, "policies", subject_prefix=agent.agent_id)["policies"]
        assert [p["id"] for p in listed] == [policy]
        explained = ask(here, "policies/check", subject=agent.agent_id, action="read", resource="x")
        assert (explained["allowed"], explained["policy_id"]) == (False, policy)
        queued = ask(here, "tasks", status="PENDING", type=task.type)["tasks"]
        assert [t["id"] for t in queued] == [task.id]
        assert ask(here, "task", task_id=task.id)["task"]["input"]["text"] == "input"
        topics = [e["topic"] for e in ask(here, "events", contains=agent.agent_id)["events"]]
        assert topics == ["agent.registered"]
        assert ask(here, "summary")["agents_alive"] >= 1
        assert len(ask(here, "cluster")["replicas"]) == 3


def test_pages_follow_each_other_and_answers_say_how_far_the_state_had_come(
    cluster: LocalCluster, client: AgentKeeperClient, name: Name
) -> None:
    prefix = name("lot")
    agents = [client.register(f"{prefix}-{i:02}", "", "1") for i in range(7)]
    here = cluster.leader()
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = {"page_token": token} if token else {}
        answer = ask(here, "agents", name_prefix=prefix, limit=3, **page)
        assert answer["as_of"]["applied_index"] > 0
        assert answer["as_of"]["node_id"] == here.name
        seen += [a["agent_id"] for a in answer["agents"]]
        token = answer["next_page_token"]
    assert not token
    assert seen == [a.agent_id for a in agents]
    for agent in agents:
        agent.deregister()


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("agents?limit=201", 400, "limit"),
        ("agents?statuses=BUSY", 400, "statuses"),
        ("agents?colour=red", 400, "colour"),
        ("agents?page_token=%00", 400, "page_token"),
        ("agent?agent_id=nobody", 404, ""),
        ("agent?agent_id=%FF%ED%A0%80", 404, ""),
        ("lease?task_id=", 400, "task_id"),
        ("policies/check?subject=a&action=b", 400, "resource"),
        ("events?limit=-1", 400, "limit"),
        ("events?topics=%0A", 400, "topics[0]"),
        ("event?sequence=999999999", 404, ""),
        ("event?sequence=1&colour=red", 400, "colour"),
        ("events?colour=red", 400, "colour"),
        ("live?colour=red", 400, "colour"),
        ("live?since=never", 400, "since"),
        ("nothing", 404, ""),
    ],
)
def test_what_cant_be_answered_is_refused_as_json(
    cluster: LocalCluster, path: str, status: int, field: str
) -> None:
    got, headers, text = get(cluster.leader(), f"/api/{path}")
    assert got == status, text
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(text)["error"]["field"] == field


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(cluster: LocalCluster, method: str) -> None:
    for path in ("/", "/api/live", *(f"/api/{route.path}" for route in ROUTES)):
        status, headers, text = get(cluster.leader(), path, method)
        assert status == 405
        assert "GET" in headers["Allow"]
        assert path == "/" or json.loads(text)["error"]["message"] == "Method Not Allowed"


@pytest.mark.parametrize("ident", ["9" * 5_000, "-1", "x", "٣".encode().decode("latin-1")])
def test_a_place_in_the_events_that_nobody_was_told_is_refused(
    cluster: LocalCluster, ident: str
) -> None:
    header = {"Last-Event-ID": ident}
    status, _, text = get(cluster.leader(), "/api/live?events=1", **header)
    assert status == 400
    assert json.loads(text)["error"]["field"] == "Last-Event-ID"


def test_every_page_forbids_what_it_does_not_need(cluster: LocalCluster) -> None:
    here = cluster.leader()
    for path in ("/", "/static/app.js", "/static/style.css", "/api/summary", "/nowhere"):
        _, headers, _ = get(here, path)
        assert headers["Content-Security-Policy"] == POLICY, path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert "Access-Control-Allow-Origin" not in headers, path
    assert "unsafe" not in POLICY


def test_files_are_asked_for_again_and_sent_only_when_they_changed(cluster: LocalCluster) -> None:
    here = cluster.leader()
    _, headers, script = get(here, "/static/app.js")
    assert headers["Content-Type"].startswith("text/javascript")
    again = get(here, "/static/app.js", **{"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, "")
    assert script
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/static/nothing.js"):
        assert get(here, path)[0] == 404, path


def test_without_a_script_the_front_page_has_the_figures(
    cluster: LocalCluster, client: AgentKeeperClient, name: Name
) -> None:
    with client.register(name("one"), "", "1"):
        _, _, page = get(cluster.leader(), "/")
        plain = page.partition("<noscript>")[2].partition("</noscript>")[0]
        assert "Agents alive: " in plain
        assert "Leases active: " in plain
        assert "{" not in plain
    assert "<style" not in page
    assert "style=" not in page


def test_a_site_that_calls_itself_like_this_replica_gets_nothing(cluster: LocalCluster) -> None:
    here = cluster.leader()
    for path in ("/", "/api/summary", "/api/live", "/static/app.js"):
        status, _, text = get(here, path, Host="evil.example:9090")
        assert (status, "agents" in text) == (421, False), path
    for path in ("/healthz", "/metrics"):
        assert get(here, path, Host="keeper.corp.example")[0] == 200
    for host in ("localhost", "agentkeeper-1:9090", "[::1]:9090", here.endpoint):
        assert get(here, "/api/summary", Host=host)[0] == 200, host


def test_a_stream_begins_with_the_history_and_beats_every_second(
    cluster: LocalCluster, stream: Callable[..., Stream]
) -> None:
    live = stream(cluster.followers()[0])
    assert live.response.headers["Content-Type"] == "text/event-stream"
    assert "points" in live.next("history")[1]
    pulses = [live.next("pulse")[1] for _ in range(3)]
    assert len({p["as_of"]["wall_ms"] for p in pulses}) == 3
    assert pulses[-1]["cluster"]["leader_node_id"] == cluster.leader().name
    assert {"calls_per_s", "call_p99_ms", "unapplied_entries"} <= set(pulses[-1]["point"])


def test_a_stream_tells_the_events_that_were_asked_for_and_resumes(
    cluster: LocalCluster,
    client: AgentKeeperClient,
    name: Name,
    stream: Callable[..., Stream],
) -> None:
    here = cluster.followers()[0]
    kept, other = name("kept"), name("other")
    query = f"events=1&topics=policy.&contains={kept}"
    live = stream(here, query)
    live.next("history")
    live.next("pulse")
    for policy in (kept, other):
        client.set_policy(policy, "s", "a", "r", "ALLOW")
    ident, batch = live.next("events")
    assert [(e["topic"], e["subject"]) for e in batch["events"]] == [("policy.set", kept)]
    live.close()
    client.delete_policy(kept)
    client.delete_policy(other)
    _, batch = stream(here, query, **{"Last-Event-ID": ident}).next("events")
    assert [(e["topic"], e["subject"]) for e in batch["events"]] == [("policy.deleted", kept)]
    assert (batch["left_out"], batch["missed"]) == (0, 0)


def ports_of_peers(pid: int) -> set[int]:
    """Asked by a process of its own: PySyncObj replaces socket.inet_ntop, which psutil needs."""
    code = (
        "import psutil, sys; links = psutil.Process(int(sys.argv[1])).net_connections('tcp');"
        "print(*(link.raddr.port for link in links if link.raddr))"
    )
    command = [sys.executable, "-c", code, str(pid)]
    asked = subprocess.run(command, check=True, capture_output=True, text=True)
    return {int(port) for port in asked.stdout.split()}


def test_a_page_that_takes_nothing_is_cut(node: Node) -> None:
    host, _, port = node.metrics_addr.rpartition(":")
    with socket.socket() as reader, AgentKeeperClient(endpoints=[node.endpoint]) as client:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        reader.connect((host, int(port)))
        reader.sendall(b"GET /api/live?events=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        port = reader.getsockname()[1]

        def cut() -> bool:
            for i in range(50):
                client.set_policy("p" * 200 + str(i), "s" * 500, "a" * 500, "r" * 500, "ALLOW")
            return port not in ports_of_peers(node.pid)

        assert not cut()
        eventually(cut, "the stream being cut", patience_s=60)
        assert client.check_policy("s" * 500, "a" * 500, "r" * 500).allowed


def test_more_pages_than_there_is_room_for_are_told_so(
    node: Node, stream: Callable[..., Stream]
) -> None:
    streams = [stream(node) for _ in range(STREAMS)]
    for one in streams:
        one.next("history")
    _, end = stream(node).next("end")
    assert end["full"]
    assert str(STREAMS) in end["reason"]
    assert get(node, "/healthz")[0] == 200
    for one in streams:
        one.close()

    def has_room() -> bool:
        return stream(node).next_of("history", "end")[0] == "history"

    eventually(has_room, "room for one more")


def test_a_page_that_comes_back_is_sent_only_the_points_that_it_has_not(
    cluster: LocalCluster, stream: Callable[..., Stream]
) -> None:
    live = stream(cluster.leader())
    live.next("pulse")
    wall_ms = live.next("pulse")[1]["point"]["wall_ms"]
    all_points = stream(cluster.leader()).next("history")[1]["points"]
    later = stream(cluster.leader(), f"since={wall_ms}").next("history")[1]["points"]
    assert later == [p for p in all_points if p["wall_ms"] > wall_ms] + later[len(all_points) :]
    assert all(p["wall_ms"] > wall_ms for p in later)
    assert len(all_points) > len(later)


def test_silent_connections_take_nobodys_place(node: Node) -> None:
    host, _, port = node.metrics_addr.rpartition(":")
    with contextlib.ExitStack() as opened:
        silent = [
            opened.enter_context(socket.create_connection((host, int(port)), timeout=5))
            for _ in range(CONNECTIONS + 8)
        ]
        assert get(node, "/healthz")[0] == 200
        with contextlib.suppress(ConnectionError):  # reset, or closed without an answer
            silent[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert not silent[0].recv(1)
        silent[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert silent[-1].recv(12) == b"HTTP/1.1 200"


def test_headers_beyond_any_measure_are_refused(node: Node) -> None:
    assert get(node, "/" + "x" * 100_000)[0] in (400, 414)
    assert get(node, "/healthz")[0] == 200
