"""Commands run under a lease or a leadership: exclusive, signalled, and stopped when it is lost."""

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .command import PROGRAM, Shell
from .conftest import freeze
from .waiting import eventually

SHOW = "echo $AGENTKEEPER_TASK $AGENTKEEPER_TOKEN $AGENTKEEPER_AGENT_ID"
STAY = ("sh", "-c", "echo ran; exec sleep 600")
LEADS = ("sh", "-c", "echo leads $AGENTKEEPER_TERM as $AGENTKEEPER_AGENT_ID; exec sleep 600")


@pytest.fixture
def shell(cluster):
    shell = Shell(cluster.endpoints)
    yield shell
    shell.close()


@pytest.fixture
def rough_shell(rough):
    shell = Shell(rough.endpoints)
    yield shell
    shell.close()


def alive(pid):
    """Whether a process runs, zombies not counted."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_command_has_the_lease_while_it_runs_and_its_code_is_returned(shell, name):
    key = name("lock")
    script = f"{SHOW}; {PROGRAM} lease get {key} -o json; exit 7"
    printed = shell("lock", key, "--", "sh", "-c", script, code=7)
    task, token, agent_id = printed.splitlines()[0].split()
    assert task == key
    assert f'"token": {token}' in printed
    assert f'"holder_agent_id": "{agent_id}"' in printed
    shell("lease", "get", key, code=5)
    assert shell.data("agent", "get", agent_id)["reason"] == "deregistered"
    later = shell("lock", key, "--", "sh", "-c", SHOW).split()
    assert int(later[1]) > int(token)


def test_one_at_a_time(shell, name):
    key = name("lock")
    first = shell.start("lock", key, "--", *STAY)
    first.line("ran")
    assert f"{key} is held by another" in shell("lock", key, "--wait", "0", "--", "true", code=1)
    second = shell.start("lock", key, "--", "echo", "second")
    eventually(lambda: shell.data("lease", "get", key)["waiting"] == 1, "one that waits")
    assert second.lines == []
    first.signal(signal.SIGTERM)
    assert first.end() == 128 + signal.SIGTERM
    assert second.end() == 0
    assert second.lines == ["second"]


def test_an_agent_of_ones_own(shell, name):
    script = f"{PROGRAM} lock {name('k')} --agent-id \"$AGENTKEEPER_AGENT_ID\" -- sh -c '{SHOW}'"
    printed = shell(
        "agent", "register", name("x"), "--", "sh", "-c", f"echo $AGENTKEEPER_AGENT_ID; {script}"
    )
    mine, _task, _token, holder = printed.split()
    assert holder == mine


def test_one_agent_holds_a_lock_once(shell, name):
    key = name("k")
    keeping = shell.start("agent", "register", name("x"), "--keep-alive", "--ttl", "30")
    eventually(lambda: keeping.lines, "the agent's id")
    mine = ("--agent-id", keeping.lines[0])
    first = shell.start("lock", key, *mine, "--", *STAY)
    first.line("ran")
    assert "held by another" in shell("lock", key, *mine, "--wait", "0", "--", "true", code=1)
    second = shell.start("lock", key, *mine, "--", "echo", "second")
    second_waits = ("lease", "get", key)
    eventually(lambda: shell.data(*second_waits)["waiting"] == 1, "one that waits")
    first.signal(signal.SIGTERM)
    assert first.end() == 128 + signal.SIGTERM
    assert second.end() == 0
    assert second.lines == ["second"]


@pytest.mark.parametrize(
    ("command", "code"),
    [(("no-such-command",), 127), ((__file__,), 126), (("sh", "-c", "kill -9 $$"), 137)],
)
def test_codes_as_of_a_shell(shell, name, command, code):
    shell("lock", name("k"), "--", *command, code=code)


def test_signals_reach_the_command_which_decides(shell, name):
    script = 'trap "echo told; exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    run = shell.start("lock", name("k"), "--", "sh", "-c", script)
    run.line("ready")
    run.signal(signal.SIGTERM)
    assert run.end() == 9
    assert run.lines == ["ready", "told"]


def test_interrupted_while_it_waits_it_leaves_nothing(shell, name):
    key = name("k")
    first = shell.start("lock", key, "--", *STAY)
    first.line("ran")
    waiting = shell.start("lock", key, "--", "echo", "never")
    eventually(lambda: shell.data("lease", "get", key)["waiting"] == 1, "one that waits")
    waiting.signal(signal.SIGINT)
    assert waiting.end() == 130
    assert waiting.lines == []
    assert shell.data("lease", "get", key)["waiting"] == 0


def test_a_holder_that_is_killed_takes_its_command_with_it(shell, name):
    key = name("k")
    first = shell.start("lock", key, "--ttl", "2", "--", "sh", "-c", "echo $$; exec sleep 600")
    eventually(lambda: first.lines, "the command's pid")
    first.signal(signal.SIGKILL)
    eventually(lambda: not alive(first.lines[0]), "the command gone")
    assert "next" in shell("lock", key, "--", "echo", "next")


def test_a_holder_that_was_paused_stops_its_command(shell, name):
    key = name("k")
    script = 'trap "" TERM; echo $$; sleep 600 & echo $!; wait; while :; do sleep 0.05; done'
    first = shell.start("lock", key, "--ttl", "2", "--grace", "0.2", "--", "sh", "-c", script)
    eventually(lambda: len(first.lines) == 2, "pids of the command and of what it has started")
    first.signal(signal.SIGSTOP)
    assert "next" in shell("lock", key, "--", "echo", "next")
    first.signal(signal.SIGCONT)
    assert first.end() == 6
    assert "was lost" in first.complaints
    assert not any(alive(pid) for pid in first.lines)


def test_a_lease_that_is_taken_away_stops_the_command(shell, name):
    key = name("k")
    run = shell.start("lock", key, "--ttl", "2", "--", "sh", "-c", f"{SHOW}; exec sleep 600")
    task, token, holder = run.line(key).split()
    shell("lease", "release", task, "--agent-id", holder, "--token", token)
    assert run.end() == 6


def test_the_lock_outlives_a_leader_that_is_killed(rough_shell, rough, name):
    key = name("k")
    run = rough_shell.start("lock", key, "--ttl", "8", "--", *STAY)
    run.line("ran")
    before = rough_shell.data("lease", "get", key)["lease"]["token"]
    rough.leader().kill()
    rough.leader()
    renewed = rough_shell.data("lease", "get", key)["lease"]
    eventually(
        lambda: (
            rough_shell.data("lease", "get", key)["lease"]["expires_at"] > renewed["expires_at"]
        ),
        "a renewal at the new leader",
    )
    assert rough_shell.data("lease", "get", key)["lease"]["token"] == before
    run.signal(signal.SIGINT)
    assert run.end() == 128 + signal.SIGINT


def test_the_command_is_stopped_when_no_replica_can_be_reached(rough_shell, rough, name):
    run = rough_shell.start("lock", name("k"), "--ttl", "2", "--", *STAY)
    run.line("ran")
    for node in rough.nodes.values():
        freeze(node)
    run.complaint("was lost")
    assert run.end() == 6


@pytest.mark.parametrize("what", ["lock", "elect"])
def test_the_commands_own_code_is_returned_also_where_nobody_can_be_told(
    rough_shell, rough, name, what
):
    run = rough_shell.start(
        what, name("k"), "--", "sh", "-c", "echo ran; read line; exit 7", stdin=subprocess.PIPE
    )
    run.line("ran")
    for node in rough.nodes.values():
        freeze(node)
    run.process.stdin.write("go\n")
    run.process.stdin.flush()
    assert run.end() == 7


def test_nobody_answers(rough_shell, rough, name):
    for node in rough.nodes.values():
        freeze(node)
    question = ("policy", "check", name("s"), "a", "r", "--timeout", "1")
    assert "no answer from" in rough_shell(*question, code=3)


def test_without_a_majority(rough_shell, rough, name):
    followers = rough.followers()
    for node in followers:
        node.kill()
    answer = rough_shell("policy", "check", name("s"), "a", "r", "--timeout", "3", code=3)
    assert "agentkeeper cluster status" in answer
    assert rough_shell.data("cluster", "status", code=1)["serving"] is False
    assert "no leader" in rough_shell("top", "--once")


def test_one_leads_and_the_next_takes_over(shell, name):
    group = name("g")
    first = shell.start("elect", group, "--", *LEADS)
    first.line("leads 1")
    second = shell.start("elect", group, "--", *LEADS)
    eventually(lambda: shell.data("election", "get", group)["candidates"] == 2, "both candidates")
    assert second.lines == []
    first.signal(signal.SIGTERM)
    assert first.end() == 128 + signal.SIGTERM
    second.line("leads 2")
    second.signal(signal.SIGTERM)
    assert second.end() == 128 + signal.SIGTERM


def test_a_leader_that_is_killed_is_followed_by_the_next(shell, name):
    group = name("g")
    first = shell.start("elect", group, "--ttl", "2", "--", "sh", "-c", "echo $$; exec sleep 600")
    eventually(lambda: first.lines, "the command's pid")
    second = shell.start("elect", group, "--ttl", "2", "--", *LEADS)
    first.signal(signal.SIGKILL)
    second.line("leads 2")
    assert not alive(first.lines[0])


@pytest.mark.parametrize("forever", [False, True])
def test_leadership_that_is_lost(shell, name, forever):
    group = name("g")
    options = ["--forever"] if forever else []
    run = shell.start("elect", group, *options, "--", *LEADS)
    agent_id = run.line("leads 1").split()[-1]
    shell("election", "resign", group, "--agent-id", agent_id)
    run.complaint("was lost")
    if forever:
        run.line("leads 2")
        run.signal(signal.SIGTERM)
    assert run.end() == (128 + signal.SIGTERM if forever else 6)


# It starts no processes: one that is stopped between fork and exec would hold up its parent, which
# then can't stop, so nobody could be told.
STAY_AT_TERMINAL = 'trap "echo interrupted; exit 5" INT; read line; echo "got $line"; read more'


@pytest.fixture
def at_terminal(shell):
    """Starts `agentkeeper` on a terminal of its own; returns its pid and the terminal's end."""
    terminals = []

    def start(*args):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(PROGRAM, [PROGRAM, *args], {**os.environ, **shell.env})
        terminals.append(terminal)
        return pid, terminal

    yield start
    for terminal in terminals:
        os.close(terminal)


def test_on_a_terminal_the_command_is_in_the_foreground(shell, name, at_terminal):
    key = name("k")
    pid, terminal = at_terminal("lock", key, "--", "sh", "-c", STAY_AT_TERMINAL)
    eventually(lambda: shell.data("lease", "list", key), "the lease")
    os.write(terminal, b"words\n")
    assert b"got words" in read_until(terminal, b"got words")
    os.write(terminal, b"\x03")
    assert b"interrupted" in read_until(terminal, b"interrupted")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_ctrl_z_stops_both_and_both_go_on(shell, name, at_terminal):
    key = name("k")
    pid, terminal = at_terminal("lock", key, "--", "sh", "-c", STAY_AT_TERMINAL)
    eventually(lambda: shell.data("lease", "list", key), "the lease")
    os.write(terminal, b"words\n")
    read_until(terminal, b"got words")
    os.write(terminal, b"\x1a")
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: os.tcgetpgrp(terminal) != pid, "the command in the foreground again")
    os.write(terminal, b"\x03")
    assert b"interrupted" in read_until(terminal, b"interrupted")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_a_command_may_ask_the_terminal_whose_input_is_piped(shell, name, tmp_path):
    """As one that asks for a password: the streams are no terminal, but there is one."""
    key, script = name("k"), tmp_path / "script"
    asking = "read answer </dev/tty; echo answered $answer"
    script.write_text(f"echo | {PROGRAM} lock {key} -- sh -c '{asking}' 2>&1 | cat; exit 4\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("sh", ["sh", str(script)], {**os.environ, **shell.env})
    eventually(lambda: shell.data("lease", "list", key), "the lease")
    os.write(terminal, b"yes\n")
    assert b"answered yes" in read_until(terminal, b"answered yes")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    os.close(terminal)


def test_what_a_command_leaves_behind_is_stopped(shell, name):
    script = 'trap "" TERM; sleep 600 >/dev/null & echo $!; exit 3'
    run = shell.start("lock", name("k"), "--grace", "0.1", "--", "sh", "-c", script)
    assert run.end() == 3
    assert not alive(run.lines[0])


def read_until(terminal, text):
    seen = b""
    deadline = time.monotonic() + 30
    while text not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                break
    return seen
