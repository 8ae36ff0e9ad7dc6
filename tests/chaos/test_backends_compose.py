"""What of the containers' backend can be seen without an engine: tests/containers has the rest."""

import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from chaos.backends import Setup, Unsupported, missing
from chaos.backends import volume as damage
from chaos.backends.compose import FILES, ComposeBackend, overrides, published, replicas_among
from chaos.backends.containers import VOLUME, daemon_kib


def container(*variables, ports=None):
    return SimpleNamespace(
        attrs={"Config": {"Env": list(variables)}, "NetworkSettings": {"Ports": ports or {}}}
    )


@pytest.mark.parametrize("count", FILES)
def test_all_replicas_get_the_settings(count, tmp_path):
    setup = Setup(count, tmp_path, ("--snapshot-entries", "200"), environment={"A": "b"})
    said = yaml.safe_load(yaml.safe_dump(overrides(FILES[count], setup)))
    assert sorted(said["services"]) == [f"agentkeeper-{n}" for n in range(1, count + 1)]
    for service in said["services"].values():
        assert service == {
            "command": ["serve", "--snapshot-entries", "200"],
            "environment": {"A": "b"},
        }


def test_a_setup_that_can_not_be_had(tmp_path):
    with pytest.raises(Unsupported, match=r"\[3, 5\] replicas"):
        ComposeBackend(Setup(4, tmp_path))
    with pytest.raises(Unsupported, match="interpreter"):
        ComposeBackend(Setup(3, tmp_path, python="/usr/bin/python3"))


def test_its_means_are_known_before_it_is_started(tmp_path):
    backend = ComposeBackend(Setup(3, tmp_path))
    assert missing(backend, frozenset({"processes", "network", "disks"})) == []
    assert missing(backend, frozenset({"links", "clocks"})) == ["clocks", "links"]


def test_replicas_are_known_by_their_settings():
    one, two = container("AGENTKEEPER_NODE_ID=b"), container("A=", "AGENTKEEPER_NODE_ID=a")
    assert list(replicas_among([one, container("PATH=/bin"), two]).items()) == [
        ("a", two),
        ("b", one),
    ]


def test_where_a_replica_is_published():
    def bound(host):
        return container(ports={"7070/tcp": [{"HostIp": host, "HostPort": "7072"}]})

    assert published(bound("127.0.7.71"), "a") == "127.0.7.71:7072"
    assert published(bound("0.0.0.0"), "a") == "127.0.0.1:7072"
    for hidden in (container(), container(ports={"7070/tcp": None})):
        with pytest.raises(Unsupported, match="a does not run, or does not publish"):
            published(hidden, "a")


def test_the_daemon_is_found_behind_an_init():
    init, daemon = ["10", "2", "700", "tini"], ["20", "10", "90000", "agentkeeper"]
    model = ["30", "20", "500000", "python"]
    assert daemon_kib([init, daemon, model], 10) == 90000
    assert daemon_kib([model, daemon], 20) == 90000
    assert daemon_kib([], 10) == 0


@pytest.fixture
def folder(tmp_path):
    for name in ("00000001.log", "00000002.log", "snapshot", "identity.json", "ballot", "lock"):
        (tmp_path / name).write_bytes(bytes(range(100)))
    (tmp_path / "model").mkdir()
    (tmp_path / "lost+found").mkdir()
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("seed", range(20))
def test_one_byte_is_turned_over(folder, seed):
    before = contents(folder)
    said = damage.flip(folder, random.Random(seed))
    changed = {name: data for name, data in contents(folder).items() if data != before[name]}
    ((name, data),) = changed.items()
    (offset,) = [n for n, byte in enumerate(data) if byte != before[name][n]]
    assert said == f"byte {offset} of {name}"
    assert name != "lock"


def test_the_newest_segment_is_torn(folder):
    before = contents(folder)
    said = damage.tear(folder, random.Random(1))
    after = contents(folder)
    left = after.pop("00000002.log")
    assert after == {name: before[name] for name in after}
    assert 0 < len(left) < 100
    assert said == f"{100 - len(left)} bytes off 00000002.log"


def test_there_may_be_nothing_to_damage(tmp_path):
    assert damage.flip(tmp_path, random.Random(1)).startswith("nothing")
    assert damage.tear(tmp_path, random.Random(1)).startswith("nothing")


def test_it_runs_as_a_text_alone(folder):
    command = [sys.executable, "-IS", "-c", VOLUME.read_text(), "wipe", str(folder), "1"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"everything\n"
    assert [path.name for path in folder.iterdir()] == ["lost+found"]
