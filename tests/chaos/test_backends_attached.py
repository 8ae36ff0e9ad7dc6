"""Files of actions are strict, and what they did to a deployment is undone."""

import json
import random
import shlex
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from integration.waiting import eventually

from agentkeeper.client.status import leader_among
from agentkeeper.launcher import LocalCluster
from chaos.backends import Unsupported, actions, attached, missing
from chaos.backends.actions import ActionFailed, Actions, load, parse
from chaos.backends.attached import AttachedBackend

ROOT = Path(__file__).parents[2]
EXAMPLE = actions.__file__.replace("actions.py", "example-actions.yaml")


def test_the_example_says_what_it_means(tmp_path):
    with open(EXAMPLE) as file:
        said = parse(yaml.safe_load(file))
    assert list(said.replicas) == ["a", "b", "c"]
    assert said.fill("processes.kill", name="a", host="a.example.com", other_hosts=[]) == (
        "ssh root@a.example.com systemctl kill --signal=KILL agentkeeper"
    )
    # What its shell would send to the machine, with `cat` in place of `ssh`.
    isolate = said.fill("network.isolate", name="a", host="a", other_hosts=["b", "c"])
    assert said.run(isolate.replace("ssh root@a sh -e", "cat")).splitlines() == [
        "iptables -I INPUT -p tcp -s b -j DROP -m comment --comment chaos",
        "iptables -I OUTPUT -p tcp -d b -j DROP -m comment --comment chaos",
        "iptables -I INPUT -p tcp -s c -j DROP -m comment --comment chaos",
        "iptables -I OUTPUT -p tcp -d c -j DROP -m comment --comment chaos",
    ]
    for command, text in said.commands.items():
        words = dict.fromkeys(actions.COMMANDS[command.split(".")[0]][command.split(".")[1]], "x")
        filled = said.fill(command, **words)
        assert "{other" not in filled
        assert said.run(f"sh -n -c {shlex.quote(filled)}") == "", text


WRONG = {
    "the file must be a mapping": [],
    "unknown in the file: proceses": {"proceses": {}},
    "replicas must be a mapping": {"replicas": ["a:1"]},
    "replicas.a must be text": {"replicas": {"a": 7070}},
    "replicas.a: not an endpoint": {"replicas": {"a": "a:b"}},
    "timeout_s must be a number": {"timeout_s": "1 minute"},
    "timeout_s must be a number above 0": {"timeout_s": 0},
    "processes must be a mapping": {"processes": "kill"},
    "unknown in processes: kil; known: kill, log": {"processes": {"kil": "x"}},
    "processes.start must be text": {"processes": {"start": ["x"]}},
    "network.heal must be text": {"network": {"heal": " "}},
    "processes.start: nothing is known for {nmae}, but for {host}, {name}": {
        "processes": {"start": "start {nmae}"}
    },
    "processes.kill needs processes.start": {"processes": {"kill": "x"}},
    "processes.pause needs processes.resume": {"processes": {"pause": "x", "start": "y"}},
    "links.cut needs network.heal": {"links": {"cut": "x {source}"}},
    "disks.fill needs disks.free": {"disks": {"fill": "x"}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_named(message, tmp_path):
    file = tmp_path / "actions.yaml"
    file.write_text(yaml.safe_dump(WRONG[message]))
    with pytest.raises(Unsupported) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "it").write_text("{")
    for name in ("it", "missing"):
        with pytest.raises(Unsupported, match=str(tmp_path / name)):
            load(tmp_path / name)


def test_words_are_quoted_and_variables_of_the_shell_left():
    text = "x=1; printf '%s,' ${x} {name} {other_hosts} '{a,b}'"
    said = parse({"processes": {"start": text}})
    filled = said.fill("processes.start", name="a; false", host="", other_hosts=["b c", "d"])
    assert said.run(filled) == "1,a; false,b c,d,{a,b},"


def test_a_command_that_fails_is_shown_with_what_it_said():
    with pytest.raises(ActionFailed, match=r"`echo no >&2; exit 3` ended with 3: no"):
        Actions().run("echo no >&2; exit 3")


def test_a_command_that_does_not_end_is_ended(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(ActionFailed, match=r"did not end within 0\.2 s: begun"):
        Actions(timeout_s=0.2).run(f"echo begun; (sleep 600; touch {mark}) ; echo done")


def test_what_a_command_leaves_running_is_not_waited_for():
    pid = Actions(timeout_s=10).run("sleep 600 & echo $!")
    Actions().run(f"kill {pid}")


@pytest.fixture
def noted(tmp_path):
    """Replicas that nobody asks, and commands that write down that they were run."""

    def make(*commands, **texts):
        log = tmp_path / "log"
        log.touch()
        words = {
            "links": "{source} {target}",
            "clocks": "{name} {offset_s}",
        }
        said = {
            name: f"echo {name} {words.get(name.split('.')[0], '{name}')} >> {log}"
            for name in commands
        }
        made = attached.Attached(Actions(commands={**said, **texts}))
        made.endpoints = {"a": "127.0.0.1:1", "b": "127.0.0.1:2", "c": "127.0.0.1:3"}
        return made, lambda: log.read_text().splitlines()

    return make


def test_all_that_was_done_is_undone_in_the_end(noted):
    made, lines = noted(
        "processes.kill", "processes.start", "processes.pause", "processes.resume",
        "network.isolate", "links.cut", "disks.fill", "disks.free", "clocks.shift",
        **{"network.heal": "false"},
    )  # fmt: skip
    attached.AttachedProcesses(made).kill(["a"])
    attached.AttachedProcesses(made).pause(["b"])
    attached.AttachedLinks(made).cut("a", "b")
    attached.AttachedDisks(made).fill("b")
    attached.AttachedClocks(made).shift("c", 3600.0)
    before = len(lines())
    with pytest.raises(ActionFailed, match="`false`"):
        made.heal()  # one step that fails keeps no other from being done
    assert lines()[before:] == [
        "disks.free b",
        "processes.resume b",
        "processes.start a",
        "clocks.shift c 0.0",
    ]
    made.actions.commands["network.heal"] = made.actions.commands["disks.free"]
    before = len(lines())
    made.heal()
    assert sorted(lines()[before:]) == ["disks.free a", "disks.free b", "disks.free c"]
    before = len(lines())
    made.heal()
    assert len(lines()) == before


def test_what_failed_half_way_is_undone_too(noted):
    made, lines = noted("processes.start", **{"processes.kill": "exit 1"})
    with pytest.raises(ActionFailed):
        attached.AttachedProcesses(made).kill(["a"])
    made.heal()
    assert lines() == ["processes.start a"]


def test_nothing_is_done_that_there_is_no_command_for(noted):
    made, lines = noted("network.heal", "processes.start", "disks.wipe")
    rng = random.Random(1)
    for act in (
        lambda: attached.AttachedProcesses(made).kill(["a"]),
        lambda: attached.AttachedProcesses(made).stop("a"),
        lambda: attached.AttachedProcesses(made).pause(["a"]),
        lambda: attached.AttachedNetwork(made).isolate("a"),
        lambda: attached.AttachedLinks(made).slow("a", "b", 20),
        lambda: attached.AttachedLinks(made).lossy("a", "b", 0.1),
        lambda: attached.AttachedDisks(made).fill("a"),
        lambda: attached.AttachedDisks(made).cut_power(["a"]),
        lambda: attached.AttachedDisks(made).flip("a", rng),
        lambda: attached.AttachedDisks(made).tear("a", rng),
        lambda: attached.AttachedClocks(made).shift("a", 1),
    ):
        with pytest.raises(Unsupported, match="has no command"):
            act()
    made.heal()
    assert lines() == []


def test_a_command_that_names_no_replica_is_run_once(noted, tmp_path):
    mark = tmp_path / "mark"
    made, _ = noted(**{"network.isolate": "true", "network.heal": f"echo once >> {mark}"})
    attached.AttachedNetwork(made).isolate("a")
    attached.AttachedNetwork(made).heal()
    assert mark.read_text() == "once\n"


def test_the_seed_and_the_answer_of_damage(noted):
    made, _ = noted(**{"disks.flip": "echo byte {seed} of {name}", "disks.wipe": "true"})
    seed = random.Random(7).getrandbits(32)
    assert attached.AttachedDisks(made).flip("a", random.Random(7)) == f"byte {seed} of a"


def test_memory_and_log_are_nothing_without_commands(noted):
    processes = attached.AttachedProcesses(noted()[0])
    assert processes.memory_bytes("a") == 0
    assert processes.log_tail("a") == ""
    texts = {"processes.memory": "echo 1234", "processes.log": "echo 'the end of {name}'"}
    processes = attached.AttachedProcesses(noted(**texts)[0])
    assert processes.memory_bytes("a") == 1234
    assert processes.log_tail("a") == "the end of a"
    assert (
        attached.AttachedProcesses(noted(**{"processes.memory": "false"})[0]).memory_bytes("a") == 0
    )


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
def file(cluster, tmp_path):
    """Actions on a local cluster, whose processes are found by their pids."""
    for node in cluster.nodes.values():
        (tmp_path / f"{node.name}.pid").write_text(str(node.pid))
        start = shlex.join(node.command)
        (tmp_path / f"{node.name}.sh").write_text(
            f"{start} >> {node.log_path} 2>&1 & echo $! > {tmp_path}/{node.name}.pid"
        )
    pid = f"$(cat {tmp_path}/{{name}}.pid)"
    gone = f"while kill -0 {pid} 2>/dev/null && ! grep -q 'State:.Z' /proc/{pid}/status; do :; done"
    said = {
        "replicas": {node.name: node.endpoint for node in cluster.nodes.values()},
        "timeout_s": 30,
        "processes": {
            "kill": f"kill -9 {pid}; {gone}",
            "start": f"sh {tmp_path}/{{name}}.sh",
            "pause": f"kill -STOP {pid}",
            "resume": f"kill -CONT {pid}",
            "log": f"tail -5 {cluster.data_dir}/{{name}}.log",
            "memory": f"awk '/VmRSS/ {{print $2 * 1024}}' /proc/{pid}/status",
        },
    }
    path = tmp_path / "actions.yaml"
    path.write_text(yaml.safe_dump(said))
    yield path
    for node in cluster.nodes.values():  # those that the commands have started
        Actions().run(f"kill -9 {pid.replace('{name}', node.name)} 2>/dev/null; true")
    cluster.stop()
    cluster.start()
    cluster.wait_ready()


def test_a_cluster_is_hurt_and_healed(cluster, file):
    with AttachedBackend((), file) as backend:
        assert list(backend.replicas) == list(string.ascii_lowercase[:3])
        assert list(backend.endpoints) == cluster.endpoints
        assert missing(backend, frozenset({"processes"})) == []
        assert missing(backend, frozenset({"network", "disks"})) == ["disks", "network"]
        leader = eventually(lambda: leader_among(list(backend.statuses().values())), "a leader")
        one, other = [name for name in backend.replicas if name != leader.node_id]
        assert backend.processes.memory_bytes(one) > 2**20
        assert backend.processes.log_tail(one)

        backend.processes.kill([leader.node_id, one])
        assert not backend.processes.running(one)
        assert backend.statuses()[one] is None
        assert backend.unready_reason(one)
        assert backend.processes.memory_bytes(one) == 0
        backend.processes.start([one])
        eventually(lambda: not backend.unready_reason(one), "a majority again")

        backend.processes.pause([other])
        assert backend.processes.running(other)
        assert backend.unready_reason(other)
    eventually(
        lambda: not any(map(backend.unready_reason, backend.replicas)),
        "what was killed is started, what was paused goes on",
    )


def test_a_command_that_fails_in_a_run_is_reported(cluster, file, tmp_path):
    said = yaml.safe_load(file.read_text())
    said["processes"]["kill"] = "echo no such machine; false"
    file.write_text(yaml.safe_dump(said))
    scenario = tmp_path / "broken.yaml"
    faults = [{"fault": "kill", "who": "leader"}]
    given = {"about": "x", "workloads": {"leases": 2}, "quiet_s": [0.1, 0.2], "faults": faults}
    scenario.write_text(yaml.safe_dump(given))
    folder = tmp_path / "run"
    command = ["run", "--backend", "attached", "--actions", str(file), "--minutes", "1"]
    command += ["--scenario", str(scenario), "--seed", "1", "--out", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *command], cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 1
    result = json.loads((folder / "result.json").read_text())
    assert "what was to be done could not be: " in result["reasons"][0]
    assert "no such machine" in result["reasons"][0]
    assert (folder / "report.html").exists()


def test_without_a_file_there_are_clients_only(cluster):
    with AttachedBackend(cluster.endpoints) as backend:
        assert list(backend.replicas) == ["a", "b", "c"]
        assert not any(map(backend.unready_reason, backend.replicas))
        means = frozenset({"processes", "network", "links", "disks", "clocks"})
        assert missing(backend, means) == sorted(means)


def test_only_one_whole_cluster_is_taken(cluster, tmp_path):
    file = tmp_path / "actions.yaml"
    one, two, three = cluster.endpoints

    def refused(message, endpoints, **replicas):
        file.write_text(yaml.safe_dump({"replicas": replicas}))
        with (
            pytest.raises(Unsupported, match=message),
            AttachedBackend(endpoints, file if replicas else None),
        ):
            pass

    refused("no replica answers on 127.0.0.1:1", [one, two, "127.0.0.1:1"])
    refused("name all replicas of the cluster: a, b, c", [one, two])
    refused("same replica's", [one, two, f"localhost:{two.split(':')[1]}"])
    refused("does not call itself 'x'", [], x=one, b=two, c=three)
    refused("either in the file", [one, two, three], a=one, b=two, c=three)
    refused("either in the file", [])
