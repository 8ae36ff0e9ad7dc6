"""The list of commands, their help, completion and errors, without a cluster."""

import json
import os
import subprocess
import sys

import click
import grpc
import pytest
from click.testing import CliRunner

from agentkeeper import errors
from agentkeeper.cli import connection, explaining, policy_commands, version
from agentkeeper.cli.exits import Code
from agentkeeper.cli.main import ENTRIES, main
from agentkeeper.cli.policy_file import Change
from agentkeeper.types import Policy, PolicyEffect

NOBODY = "127.0.0.1:1"
CONTEXT = click.Context(main, info_name="agentkeeper")


def leaves(command=main, words=()):
    """All commands, each as its words."""
    if not isinstance(command, click.Group):
        return [words]
    names = command.list_commands(CONTEXT)
    return [leaf for n in names for leaf in leaves(command.get_command(CONTEXT, n), (*words, n))]


def run(*args, **env):
    return CliRunner(env={"AGENTKEEPER_ENDPOINTS": None, **env}).invoke(main, args)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_list_says_what_the_command_says(name):
    command = main.get_command(CONTEXT, name)
    assert command.name == name
    assert command.get_short_help_str(limit=1000) == ENTRIES[name].summary


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_command_has_help(words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert f"agentkeeper {' '.join(words)}" in result.output.replace("main", "agentkeeper", 1)


def test_what_is_there():
    there = {" ".join(words) for words in leaves()}
    assert there >= {
        *("serve", "demo", "lock", "elect", "watch", "top", "version", "completion"),
        *(f"cluster {verb}" for verb in ("up", "status", "health", "move-leader")),
        *(f"agent {v}" for v in ("list", "get", "find", "register", "heartbeat", "deregister")),
        *(f"lease {v}" for v in ("list", "get", "acquire", "renew", "release", "verify")),
        *(f"election {v}" for v in ("list", "get", "campaign", "observe", "resign")),
        *(f"policy {v}" for v in ("set", "get", "list", "delete", "check", "explain")),
        *("policy load", "policy test", "check perf"),
        *(f"task {v}" for v in ("create", "claim", "complete", "fail", "extend", "list", "get")),
        *("task requeue", "task work"),
        *(f"snapshot {verb}" for verb in ("save", "verify", "restore")),
    }


def imported(*args, **env):
    """Modules that a run of the command imports."""
    code = (
        "import sys\nfrom agentkeeper.cli.main import main\n"
        f"try: main({list(args)!r}, prog_name='agentkeeper')\nexcept SystemExit: pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("args", [["--help"], ["agent", "--help"], ["lock", "--help"]])
def test_help_needs_neither_grpc_nor_rich(args):
    assert not imported(*args) & {"grpc", "rich", "yaml", "asyncio", "google.protobuf"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_scripts(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_AGENTKEEPER_COMPLETE" in result.output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("agentkeeper ", {"serve", "agent", "lock"}),
        ("agentkeeper ele", {"election", "elect"}),
        ("agentkeeper agent ", {"list", "register"}),
        ("agentkeeper lease acquire --e", {"--endpoints", "--exclusive"}),
        ("agentkeeper task list --status ", {"PENDING", "DEAD"}),
    ],
)
def test_completions(typed, offered):
    words = typed.split(" ")
    env = {
        "_AGENTKEEPER_COMPLETE": "zsh_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner(env=env).invoke(main, [], prog_name="agentkeeper")
    assert offered <= set(result.output.split("\n")), result.output


def test_completion_of_ids_offers_nothing_where_nobody_answers():
    typed = "agentkeeper agent get "
    env = {
        "_AGENTKEEPER_COMPLETE": "zsh_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": "3",
        "AGENTKEEPER_ENDPOINTS": NOBODY,
    }
    result = CliRunner(env=env).invoke(main, [], prog_name="agentkeeper")
    assert (result.exit_code, result.output) == (0, "\n")


def test_nobody_answers():
    result = run("agent", "list", "--endpoints", NOBODY, "--timeout", "0.2")
    assert result.exit_code == Code.UNAVAILABLE
    assert f"no answer from {NOBODY}" in result.output
    assert "AGENTKEEPER_ENDPOINTS" in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["agent", "list", "--endpoints", "host:port"],
        ["agent", "list", "--endpoints", ","],
        ["agent", "list", "--status", "ASLEEP"],
        ["agent", "register", "x", "--meta", "nonsense"],
        ["lease", "renew", "k", "--agent-id", "a"],
        ["lock", "k"],
        ["task", "create", "t", "@/nowhere/at/all"],
        ["task", "requeue"],
        ["task", "requeue", "t", "--all-dead"],
        ["policy", "set", "p", "s", "a", "r", "PERHAPS"],
        ["policy", "load", "/nowhere/at/all"],
        [
            "snapshot",
            "restore",
            __file__,
            "--data-dir",
            "/tmp/x",
            "--node-id",
            "a",
            "--peers",
            "b=h:1",
        ],
        ["nonsense"],
        ["agent", "list", "--limit", "99999999999"],
        ["agent", "list", "--timeout", "nan"],
        ["agent", "find", "x", "--limit", "1001"],
        ["lock", "k", "--ttl", "86401", "--", "true"],
        ["lock", "k", "--wait", "inf", "--", "true"],
        ["watch", "--after", str(2**53)],
        ["task", "create", "t", "--priority", "1000001"],
        ["policy", "set", "\udcff", "a", "b", "c", "ALLOW", "--endpoints", NOBODY],
        ["snapshot", "save", "-"],
        ["snapshot", "save", ""],
        ["snapshot", "save", __file__],
        ["snapshot", "save", "/dev/null", "--force"],
        ["snapshot", "restore", __file__, "--data-dir", "/tmp/x", "--node-id", "a"],
        ["--endpoints", "h:1", "agent", "list"],
    ],
    ids=" ".join,
)
def test_wrong_usage(args):
    assert run(*args).exit_code == Code.USAGE


def test_options_before_a_command_are_told_where_to_go():
    answer = run("--endpoints", "h:1", "agent", "list").output
    assert "options go after the command: agentkeeper agent ... --endpoints" in answer


def test_what_a_file_says_does_not_reach_the_terminal_raw(tmp_path):
    file = tmp_path / "policies.yaml"
    file.write_text(r'["\e]0;owned\a\u202e"]')
    file.write_text(r'[{"\e]0;owned\a": x}]')
    answer = run("policy", "test", str(file))
    assert answer.exit_code == Code.USAGE
    assert "owned" in answer.output
    assert "\x1b" not in answer.output
    assert "\x1b" not in run("lock", "k", "--", "\x1b[31mno").output


def ended(*args, **streams):
    code = f"from agentkeeper.cli.main import main; main({list(args)!r})"
    return subprocess.run([sys.executable, "-c", code], check=False, **streams)


def test_a_full_disk():
    with open("/dev/full", "w") as full:
        done = ended("version", "--client", stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == Code.FAILED
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["version", "--client", "-o", "json"]])
def test_a_reader_that_has_left(args):
    reading, writing = os.pipe()
    os.close(reading)
    done = ended(*args, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("line", "code"), [("version --client", 0), ("task create t -", 2), ("agent list", 3)]
)
def test_all_streams_closed(line, code):
    inside = f"from agentkeeper.cli.main import main; main({line.split()!r})"
    script = f'exec <&- >&- 2>&-; "{sys.executable}" -c "{inside}"'
    env = {**os.environ, "AGENTKEEPER_ENDPOINTS": NOBODY, "AGENTKEEPER_TIMEOUT": "0.2"}
    assert subprocess.run(["sh", "-c", script], env=env, check=False).returncode == code


def test_what_nobody_expected_is_one_line(monkeypatch):
    def fail(*_args):
        raise ZeroDivisionError("so it\x1b is")

    monkeypatch.setattr(version, "_replicas", fail)
    answer = run("version")
    assert answer.exit_code == Code.FAILED
    assert answer.output == "Error: unexpected ZeroDivisionError: so it\ufffd is\n"


def test_interrupted_early(monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "_replicas", interrupt)
    assert run("version").exit_code == 130


def test_completion_cuts_what_fits_not_what_is_found(monkeypatch):
    found = [(f"a{n}", "x") for n in range(100)] + [("b;ls", ""), ("b$x", ""), ("b1", "\x1b[31m")]

    class Client:
        def __init__(self, **_how):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            pass

    monkeypatch.setattr("agentkeeper.client.AgentKeeperClient", Client)
    complete = connection.completing(lambda _client, _prefix: found)
    offered = complete(click.Context(main), main.params[0], "b")
    assert [(item.value, item.help) for item in offered] == [("b1", "\ufffd[31m")]
    assert len(complete(click.Context(main), main.params[0], "a")) == connection.COMPLETIONS


def compacted(oldest):
    error = errors.Compacted("gone")
    error.oldest = oldest
    return error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (errors.InvalidArgument("ttl: too long"), Code.USAGE, "Limits"),
        (errors.NotFound("no such agent: 'x'"), Code.NOT_FOUND, "agent list"),
        (errors.NotFound("no such lease: 'x'"), Code.NOT_FOUND, "lease list"),
        (errors.StaleToken("not the present holder"), Code.NO, "Somebody else"),
        (errors.PermissionDenied("not yours"), Code.NO, ""),
        (errors.AlreadyExists("there is one"), Code.NO, ""),
        (errors.Overloaded("too many policies"), Code.NO, "Limits"),
        (errors.Overloaded("busy", reason="overloaded"), Code.UNAVAILABLE, "agentkeeper serve"),
        (compacted(41), Code.NO, "--after 40"),
        (errors.OutcomeUnknown("lost"), Code.UNKNOWN, "look before"),
        (errors.Unavailable("nobody"), Code.UNAVAILABLE, "agentkeeper serve"),
        (
            errors.Unavailable("claim_task: no task in time", grpc.StatusCode.DEADLINE_EXCEEDED),
            Code.NO,
            "",
        ),
    ],
)
def test_every_error_has_its_code_and_says_what_to_do(error, code, says):
    report = explaining.report(error, [NOBODY], "agent get")
    assert report.code == code
    assert report.message
    assert says in report.hint


def test_every_kind_of_error_is_told():
    def kinds(base):
        return [base, *(k for child in base.__subclasses__() for k in kinds(child))]

    for kind in kinds(errors.AgentKeeperError):
        assert explaining.report(kind("x"), [NOBODY], "agent get").code in set(Code)


def test_the_test_of_policies_needs_no_cluster(tmp_path):
    policies, tests = tmp_path / "policies.yaml", tmp_path / "tests.yaml"
    policies.write_text('[{id: p, subject: "r*", action: read, resource: d, effect: ALLOW}]')
    case = {"subject": "r1", "action": "read", "resource": "d", "expect": "ALLOW"}
    tests.write_text(json.dumps({"tests": [case, {**case, "subject": "x", "expect": "DENY"}]}))
    args = ["policy", "test", str(tests), "--policies", str(policies), "--endpoints", NOBODY]
    passed = run(*args)
    assert (passed.exit_code, passed.output) == (0, "2 of 2 hold\n")
    tests.write_text(json.dumps([{**case, "policy": "q"}]))
    failed = run(*args)
    assert failed.exit_code == Code.NO
    assert 'expected ALLOW by q, but allowed by policy "p"' in failed.output


def test_a_load_that_fails_on_the_way_says_how_far_it_came(capsys):
    class Client:
        def set_policy(self, policy_id, *_fields):
            if policy_id == "p2":
                raise errors.Unavailable("gone")

    policies = [Policy(f"p{n}", "s", "a", "r", PolicyEffect.DENY) for n in range(4)]
    changes = [Change("add", policy) for policy in policies]
    with pytest.raises(errors.Unavailable):
        policy_commands._apply_all(Client(), changes)
    assert "2 of 4 changes were applied; not, or not surely: p2:" in capsys.readouterr().err
