"""Every command against a cluster of processes, and the exit code of every kind of answer."""

import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest
import yaml

from agentkeeper.launcher import LocalCluster

from .command import PROGRAM, Shell
from .waiting import eventually


@pytest.fixture
def shell(cluster):
    shell = Shell(cluster.endpoints)
    yield shell
    shell.close()


@pytest.fixture
def agent(shell, name):
    """An agent that is kept alive by a process: its id."""
    keeping = shell.start(
        "agent", "register", name("clerk"), "--tool", name("tool"), "--keep-alive", "--ttl", "30"
    )
    eventually(lambda: keeping.lines, "the agent's id")
    yield keeping.lines[0]
    keeping.signal(signal.SIGTERM)
    assert keeping.end() == 128 + signal.SIGTERM


def test_agents(shell, agent, name):
    listed = shell.data("agent", "list", "--name", name("clerk"))
    assert [entry["agent_id"] for entry in listed] == [agent]
    assert listed[0]["status"] == "ALIVE"
    assert shell.data("agent", "get", agent)["card"]["tools"] == [name("tool")]
    found = shell.data("agent", "find", "clerk", "--tool", name("tool"))
    assert [entry["agent_id"] for entry in found] == [agent]
    assert shell.data("agent", "find", "--tool", name("nobody has it"), code=1) == []
    assert agent in shell("agent", "list")
    assert "agentkeeper agent list" in shell("agent", "get", "unknown", code=5)
    other = shell.data("agent", "register", name("brief"))["agent_id"]
    before = shell.data("agent", "get", other)["last_heartbeat_at"]
    assert other in shell("agent", "heartbeat", other, agent)
    assert shell.data("agent", "get", other)["last_heartbeat_at"] > before
    answer = shell("agent", "deregister", "unknown", other, code=5)
    assert "unknown:" in answer
    assert f"deregistered: {other}" in answer
    shell("agent", "heartbeat", other, code=5)
    assert shell.data("agent", "get", other)["status"] == "DEAD"
    dead = shell.data("agent", "list", "--status", "dead", "--name", name("brief"))
    assert [entry["agent_id"] for entry in dead] == [other]
    taken = ("agent", "register", name("clerk"), "--on-name-conflict", "reject")
    shell(*taken, code=1)


def test_an_agent_that_is_kept_alive_leaves_when_told(shell, name):
    keeping = shell.start("agent", "register", name("guest"), "--keep-alive")
    eventually(lambda: keeping.lines, "the agent's id")
    keeping.signal(signal.SIGINT)
    assert keeping.end() == 130
    assert shell.data("agent", "get", keeping.lines[0])["reason"] == "deregistered"


def test_a_command_as_an_agent(shell, name):
    script = f'{PROGRAM} agent get "$AGENTKEEPER_AGENT_ID" -o json; exit 3'
    seen = json.loads(shell("agent", "register", name("x"), "--", "sh", "-c", script, code=3))
    assert seen["card"]["name"] == name("x")
    assert shell.data("agent", "get", seen["agent_id"])["status"] == "DEAD"


def test_leases(shell, agent, name):
    key = name("k/1")
    granted = shell.data("lease", "acquire", key, "--agent-id", agent, "--ttl", "600")
    assert granted["acquired"] is True
    token = str(granted["lease"]["token"])
    mine = ("--agent-id", agent, "--token", token)
    assert [i["lease"]["task_id"] for i in shell.data("lease", "list", key)] == [key]
    assert [i["lease"]["token"] for i in shell.data("lease", "list", "--holder", agent)] == [
        int(token)
    ]
    assert shell.data("lease", "get", key)["lease"]["holder_agent_id"] == agent
    assert shell.data("lease", "verify", key, "--token", token) == {"valid": True}
    assert shell.data("lease", "verify", key, "--token", "999999999", code=1) == {"valid": False}
    assert shell.data("lease", "renew", key, *mine, "--ttl", "700")["ttl_seconds"] == 700
    other = shell.data("agent", "register", name("rival"))["agent_id"]
    refused = shell("lease", "acquire", key, "--agent-id", other, code=1)
    assert "held by another" in refused
    held = shell.data("lease", "acquire", key, "--agent-id", other, "--wait", "0.2", code=1)
    assert held == {"acquired": False, "lease": None}
    shell("lease", "release", key, "--agent-id", other, "--token", token, code=1)
    shell("lease", "release", key, AGENTKEEPER_AGENT_ID=agent, AGENTKEEPER_TOKEN=token)
    shell("lease", "get", key, code=5)
    shell("lease", "renew", key, *mine, code=5)
    assert "agent list" in shell("lease", "acquire", key, "--agent-id", "unknown", code=5)


def test_elections(shell, agent, name):
    group = name("g")
    watching = shell.start("election", "observe", group, "-o", "json")
    assert shell.data("election", "campaign", group, "--agent-id", agent)["term"] == 1
    other = shell.data("agent", "register", name("rival"))["agent_id"]
    shell("election", "campaign", group, "--agent-id", other, code=1)
    known = shell.data("election", "get", group)
    assert known["candidate_agent_ids"] == [agent, other]
    assert [e["state"]["group"] for e in shell.data("election", "list", group)] == [group]
    shell("election", "resign", group, "--agent-id", agent)
    assert json.loads(watching.line(other))["term"] == 2
    assert agent in watching.line(agent)
    watching.signal(signal.SIGINT)
    assert watching.end() == 130
    assert shell.data("election", "observe", group, "--once")["leader_agent_id"] == other
    shell("election", "get", name("none"), code=5)


def test_policies(shell, name, tmp_path):
    who, policy_id = name("reader"), name("p")
    shell("policy", "set", policy_id, f"{who}*", "read", "docs/*", "allow")
    question = (f"{who}-1", "read", "docs/a")
    assert shell.data("policy", "check", *question)["allowed"] is True
    shell("policy", "check", who, "write", "docs/a", code=1)
    assert shell.data("policy", "explain", *question)["policy_id"] == policy_id
    assert "no matching policy" in shell("policy", "explain", who, "write", "x", code=1)
    assert shell.data("policy", "get", policy_id)["effect"] == "ALLOW"
    assert [p["id"] for p in shell.data("policy", "list", who)] == [policy_id]
    shell("policy", "get", name("none"), code=5)
    shell("policy", "delete", policy_id)
    shell("policy", "delete", policy_id, code=5)


def test_policies_of_files(name, tmp_path):
    # A cluster of its own: --prune deletes what is not in the file, other tests' too.
    with LocalCluster(1) as alone:
        shell = Shell(alone.endpoints)
        file, tests = tmp_path / "policies.yaml", tmp_path / "tests.json"
        one = {"id": "a", "subject": "x", "action": "*", "resource": "*", "effect": "ALLOW"}
        two = {**one, "id": "b", "subject": "y"}
        file.write_text(yaml.safe_dump({"policies": [one, two]}))
        planned = shell.data("policy", "load", str(file), "--dry-run")
        assert (planned["applied"], len(planned["changes"])) == (False, 2)
        assert shell.data("policy", "list") == []
        shell("policy", "load", str(file))
        assert shell.data("policy", "load", str(file))["changes"] == []
        file.write_text(yaml.safe_dump([{**one, "effect": "DENY"}]))
        assert "- b: ALLOW" in shell("policy", "load", str(file), "--prune", "--dry-run")
        shell("policy", "load", str(file), "--prune")
        assert [(p["id"], p["effect"]) for p in shell.data("policy", "list")] == [("a", "DENY")]
        case = {"subject": "x", "action": "do", "resource": "it", "expect": "DENY", "policy": "a"}
        tests.write_text(json.dumps([case]))
        shell("policy", "test", str(tests))
        tests.write_text(json.dumps([{**case, "expect": "ALLOW"}]))
        assert shell.data("policy", "test", str(tests), code=1)["passed"] is False


def test_tasks(shell, agent, name, tmp_path):
    tool, kind = ("--tool", name("tool")), name("read")
    (tmp_path / "input").write_bytes(b"\x00\xff")
    first = shell("task", "create", kind, f"@{tmp_path / 'input'}", *tool).strip()
    second = shell("task", "create", kind, "-", *tool, "--max-retries", "1", text="words").strip()
    listed = shell.data("task", "list", "--type", kind)
    assert [(t["id"], t["status"]) for t in listed] == [(first, "PENDING"), (second, "PENDING")]
    claimed = shell.data("task", "claim", "--agent-id", agent)
    assert (claimed["id"], claimed["input"]) == (first, "AP8=")
    mine = ("--agent-id", agent, "--token", str(claimed["claim_token"]))
    shell("task", "extend", first, *mine, "--ttl", "90")
    stale = ("--agent-id", agent, "--token", "999999999")
    shell("task", "complete", first, "x", *stale, code=1)
    shell("task", "complete", first, "done", *mine)
    assert shell("task", "get", first, "--raw", "output") == "done"
    assert shell.data("task", "get", first, "--text")["output"] == "done"
    for _attempt in range(2):
        claimed = shell.data("task", "claim", "--agent-id", agent, "--text")
        assert (claimed["id"], claimed["input"]) == (second, "words")
        shell("task", "fail", second, "can't", AGENTKEEPER_AGENT_ID=agent)
    # On a busy machine the answer that there is none may be late, and the outcome unknown (4).
    nothing = ("task", "claim", "--agent-id", agent, "--wait", "1")
    eventually(lambda: shell.start(*nothing).end() == 1, "the answer that there is no task")
    dead = shell.data("task", "list", "--status", "DEAD", "--type", kind)
    assert [(t["id"], t["failure_reason"]) for t in dead] == [(second, "can't")]
    shell("task", "requeue", "--all-dead", "--type", kind)
    assert shell.data("task", "get", second)["status"] == "PENDING"
    shell("task", "requeue", second, code=1)
    shell("task", "get", "unknown", code=5)


def test_a_worker_of_commands(shell, name):
    tool, kind = ("--tool", name("saw")), name("cut")
    script = (
        'read it; test "$it" != bad || { echo dull >&2; exit 3; }; '
        'test "$it" != huge || { head -c 2000000 /dev/zero; exit 0; }; '
        'test "$it" != leaves || { sleep 600 & echo leaves; exit 0; }; '
        'echo "$it by $AGENTKEEPER_TASK"'
    )
    worker = shell.start("task", "work", *tool, "--", "sh", "-c", script)
    good = shell("task", "create", kind, "good\n", *tool).strip()
    bad = shell("task", "create", kind, "bad\n", *tool).strip()
    huge = shell("task", "create", kind, "huge\n", *tool).strip()
    behind = shell("task", "create", kind, "leaves\n", *tool).strip()

    def finished():
        tasks = shell.data("task", "list", "--type", kind, "--text")
        return all(t["status"] in {"COMPLETED", "DEAD"} for t in tasks) and {
            t["id"]: t for t in tasks
        }

    tasks = eventually(finished, "both tasks done")
    assert (tasks[good]["status"], tasks[good]["output"]) == ("COMPLETED", f"good by {good}\n")
    assert tasks[bad]["status"] == "DEAD"
    assert "exit code 3: dull" in tasks[bad]["failure_reason"]
    assert "bytes, more than" in tasks[huge]["failure_reason"]
    assert tasks[behind]["output"] == "leaves\n"
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_watch(shell, name, tmp_path):
    shell("snapshot", "save", str(tmp_path / "now"))
    after = shell.data("snapshot", "verify", str(tmp_path / "now"))["last_sequence"]
    shell("policy", "set", name("first"), "s", "a", "r", "ALLOW")
    live = shell.start("watch", "policy.", "--after", str(after), "-o", "json")
    live.line(name("first"))
    shell("policy", "set", name("w"), "s", "a", "r", "DENY")
    event = json.loads(live.line(name("w")))
    assert (event["topic"], event["payload"]["effect"]) == ("policy.set", "DENY")
    live.signal(signal.SIGTERM)
    assert live.end() == 128 + signal.SIGTERM
    again = shell("watch", "policy.set", "--after", str(after), "--count", "2")
    assert name("w") in again
    assert str(event["sequence"]) in again


def test_a_snapshot_becomes_a_new_cluster(shell, name, tmp_path):
    file = tmp_path / "snapshot"
    shell("policy", "set", name("kept"), name("s"), "a", "r", "ALLOW")
    made = shell.data("snapshot", "save", str(file))
    assert made["size_bytes"] == file.stat().st_size
    assert "--force" in shell("snapshot", "save", str(file), code=2)
    made = shell.data("snapshot", "save", str(file), "--force")
    assert shell.data("snapshot", "verify", str(file))["log_index"] == made["log_index"]
    damaged = tmp_path / "damaged"
    damaged.write_bytes(file.read_bytes()[:-7])
    assert "Error" in shell("snapshot", "verify", str(damaged), code=1)
    data = tmp_path / "data"
    data.mkdir()
    shell("snapshot", "restore", str(file), "--data-dir", str(data / "a"))
    assert "not empty" in shell(
        "snapshot", "restore", str(file), "--data-dir", str(data / "a"), code=1
    )
    with LocalCluster(1, data) as restored:
        other = Shell(restored.endpoints)
        assert [p["id"] for p in other.data("policy", "list", name("s"))] == [name("kept")]
    assert "/nowhere" in shell("snapshot", "save", "/nowhere/at/all", code=1)


def test_the_cluster(shell, cluster):
    status = shell.data("cluster", "status")
    assert status["serving"] is True
    assert sorted(r["role"] for r in status["replicas"]) == ["follower", "follower", "leader"]
    one = shell.data("cluster", "status", "--endpoints", cluster.endpoints[0])
    assert {r["replica"] for r in one["replicas"]} == set(cluster.nodes)
    assert shell.data("cluster", "health")["healthy"] is True
    versions = shell.data("version")
    assert {r["version"] for r in versions["replicas"]} == {versions["client"]}
    target = next(r["replica"] for r in status["replicas"] if r["role"] == "follower")
    moved = shell.data("cluster", "move-leader", target)
    assert moved["leader_node_id"] == target
    assert cluster.leader().name == target
    shell("cluster", "move-leader", "nobody", code=1)


def test_health_where_one_endpoint_is_nobody(shell, cluster):
    endpoints = f"{cluster.endpoints[0]},127.0.0.1:1"
    answer = shell.data("cluster", "health", "--endpoints", endpoints, "--timeout", "1", code=1)
    assert [row["healthy"] for row in answer["endpoints"]] == [True, False]


def test_perf(shell):
    answer = shell.data("check", "perf", "--duration", "1")
    assert answer["failures"] == 0
    assert answer["writes"] > 0
    assert answer["p50_ms"] <= answer["p99_ms"] <= answer["max_ms"]


def test_top(shell, name):
    frame = shell("top", "--once", COLUMNS="80")
    for word in ("leader", "follower", "ready", "ALIVE", "PENDING", "leases"):
        assert word in frame
    assert len(frame.splitlines()) <= 24


def test_top_on_a_terminal_leaves_when_q_is_pressed(shell):
    pid, terminal = pty.fork()
    if pid == 0:
        env = {**os.environ, **shell.env, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
        os.execve(PROGRAM, [PROGRAM, "top", "--interval", "0.2"], env)
    seen = b""
    deadline = time.monotonic() + 30
    while b"PENDING" not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
    assert b"PENDING" in seen
    os.write(terminal, b"xq")  # in one piece, as fast typing is
    while True:  # what it still prints must be read, or it can't leave
        try:
            if not os.read(terminal, 65536):
                break
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)


def test_who_takes_only_the_first_line(shell, name):
    for number in range(3):
        shell("policy", "set", name(f"line-{number}"), name("s"), "a", "r", "ALLOW")
    piped = f"{PROGRAM} policy list {name('s')} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", piped],
        env={**os.environ, **shell.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split()[0] == "POLICY"
    assert "Traceback" not in done.stderr
    watched = f"{PROGRAM} watch --after 0 -o json | head -1"
    done = subprocess.run(
        ["bash", "-c", watched],
        env={**os.environ, **shell.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["sequence"] >= 1
    assert "Traceback" not in done.stderr


def test_no_colours_without_a_terminal(shell):
    assert "\x1b" not in shell("cluster", "status")


def complete_in_bash(shell, typed):
    """What a real bash offers after TAB."""
    words = typed.split(" ")
    script = f"""
        source <({PROGRAM} completion bash)
        COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}
        _agentkeeper_completion {PROGRAM}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, **shell.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def test_completion_offers_nothing_that_a_shell_would_run(shell, name):
    prefix = name("evil")
    good, bad = f"{prefix}.good", f"{prefix};touch pwned"
    for policy_id in (good, bad, f"{prefix}$(id)", f"{prefix} x", f"{prefix}\u202e"):
        shell("policy", "set", policy_id, prefix, "a", "r", "DENY")
    assert complete_in_bash(shell, f"agentkeeper policy get {prefix}") == [good]


def test_ids_are_completed(shell, agent):
    env = {"_AGENTKEEPER_COMPLETE": "zsh_complete", "COMP_CWORD": "3"}
    offered = shell(COMP_WORDS=f"agentkeeper agent get {agent[:4]}", **env)
    assert agent in offered.split()
