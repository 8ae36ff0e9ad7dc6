"""What flags, variables and a file make of the settings that say how replicas store and link."""

import pytest
from click.testing import CliRunner

from agentkeeper.cli import serve as serving
from agentkeeper.cli.main import main
from agentkeeper.consensus.config import Durability
from agentkeeper.server.node import _raft_config

PEERS = "a=127.0.0.1:7401,b=127.0.0.1:7402"


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Settings a replica would have been run with; in `tmp_path` are the files it may name."""
    for name in ("secret", "cert", "key", "ca"):
        (tmp_path / name).write_text(f"sixteen letters of the {name}\n")

    def settings(*args, file="", **env):
        given = []
        monkeypatch.setattr(serving, "_run", lambda settings: given.append(settings) or 0)
        replica = ["--node-id=a", f"--peers={PEERS}", f"--data-dir={tmp_path / 'data'}"]
        if file:
            (tmp_path / "settings.toml").write_text(file)
            replica.append(f"--config={tmp_path / 'settings.toml'}")
        result = CliRunner(env=env).invoke(main, [*replica, *args])
        assert (result.exit_code, result.output) == (0, "")
        return given[0]

    return settings


def test_by_default_writes_are_synced_and_a_new_cluster_waits_for_all(served):
    config = _raft_config(served())
    assert config.durability is Durability.FSYNC
    assert config.bootstrap is False
    assert config.tls is None
    assert config.secret is None


@pytest.mark.parametrize(
    ("args", "file", "env", "durability"),
    [
        (["--durability=os"], "", {}, "os"),
        (["--durability=fsync"], 'durability = "os"\n', {"AGENTKEEPER_DURABILITY": "os"}, "fsync"),
        ([], 'durability = "fsync"\n', {"AGENTKEEPER_DURABILITY": "os"}, "os"),
        ([], 'durability = "os"\n', {}, "os"),
    ],
)
def test_durability(served, args, file, env, durability):
    assert _raft_config(served(*args, file=file, **env)).durability == durability


@pytest.mark.parametrize(
    ("args", "file", "env", "bootstrap"),
    [
        (["--bootstrap"], "", {}, True),
        ([], "", {"AGENTKEEPER_BOOTSTRAP": "true"}, True),
        ([], "bootstrap = true\n", {}, True),
        ([], "bootstrap = false\n", {}, False),
        ([], "bootstrap = true\n", {"AGENTKEEPER_BOOTSTRAP": "false"}, False),
    ],
)
def test_bootstrap(served, args, file, env, bootstrap):
    assert _raft_config(served(*args, file=file, **env)).bootstrap is bootstrap


def test_tls(served, tmp_path):
    paths = {name: tmp_path / name for name in ("cert", "key", "ca")}
    by_flag = served(*(f"--raft-tls-{name}={path}" for name, path in paths.items()))
    by_file = served(file="".join(f'raft-tls-{n} = "{path}"\n' for n, path in paths.items()))
    by_variable = served(**{f"AGENTKEEPER_RAFT_TLS_{n.upper()}": str(paths[n]) for n in paths})
    for settings in (by_flag, by_file, by_variable):
        tls = _raft_config(settings).tls
        assert tls is not None
        assert (tls.certificate, tls.key, tls.authority) == tuple(paths.values())


def test_names_of_a_proxy(served):
    names = {"a.example", "b.example"}
    assert served("--http-names=A.example., b.example,").http_names == names
    assert served(AGENTKEEPER_HTTP_NAMES="a.example,b.example").http_names == names
    assert served(file='http-names = "a.example,b.example"\n').http_names == names
    assert served().http_names == frozenset()


@pytest.mark.parametrize("names", ["a.example:80", "http://a.example", "a..example", "*.example"])
def test_names_that_no_host_has_are_refused(names):
    result = CliRunner().invoke(main, [f"--http-names={names}"])
    assert result.exit_code == 2
    assert "--http-names" in result.output


def test_a_secret(served, tmp_path):
    settings = served(f"--raft-secret-file={tmp_path / 'secret'}")
    assert _raft_config(settings).secret == "sixteen letters of the secret"


@pytest.mark.parametrize(
    "file", ['durability = "both"\n', "bootstrap = 7\n", "durability = true\n"]
)
def test_wrong_values_in_the_file_are_named(tmp_path, file):
    path = tmp_path / "settings.toml"
    path.write_text(file)
    result = CliRunner().invoke(main, ["--config", str(path)])
    assert result.exit_code == 2
    assert f"{path}: {file.split()[0]}" in " ".join(result.output.split())
