"""Settings of the daemon: flag over variable over file, and wrong ones refused before all else."""

import os
import socket
import subprocess
import sys

import grpc
import pytest

from agentkeeper.client.child import Child
from agentkeeper.client.ports import free_ports, is_free

from .waiting import eventually
from .wire import Wire

COMMAND = [sys.executable, "-m", "agentkeeper"]


@pytest.fixture
def ports():
    return free_ports(4)


def run(tmp_path, *arguments, **variables):
    """Run a daemon that is expected to refuse its settings."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


PEERS = "--peers=a=127.0.0.1:{port},b=127.0.0.1:7402,c=127.0.0.1:7403"
ELSEWHERE = "--peers=a=192.0.2.1:7401,b=192.0.2.2:7401,c=192.0.2.3:7401"
DATA = "--data-dir={tmp}/data"
A = "--node-id=a"

# What the message must name, and the settings: NAME=value is a variable.
WRONG = {
    "peers without data-dir": (["--peers", "--data-dir"], [A, PEERS]),
    "peers without node-id": (["--node-id"], [PEERS, DATA]),
    "node-id not a peer": (["--node-id", "'z'"], ["--node-id=z", PEERS, DATA]),
    "node-id without peers": (["--node-id", "--peers"], [A, DATA]),
    "peer twice": (["--peers", "'a'"], [A, "--peers=a=127.0.0.1:1,a=127.0.0.1:2", DATA]),
    "peer without a name": (["--peers"], [A, "--peers=127.0.0.1:1", DATA]),
    "peer without a port": (["--peers a"], [A, "--peers=a=127.0.0.1,b=127.0.0.1:1", DATA]),
    "one address twice": (["--peers"], [A, "--peers=a=127.0.0.1:1,b=127.0.0.1:1", DATA]),
    "peers elsewhere without secret or TLS": (
        ["--raft-secret-file", "--raft-tls-cert"],
        [A, ELSEWHERE, DATA],
    ),
    "listening elsewhere without secret": (
        ["--raft-secret-file"],
        [A, PEERS, "--raft-bind=0.0.0.0:{port}", DATA],
    ),
    "no secret file": (
        ["--raft-secret-file", "{tmp}/none"],
        [A, ELSEWHERE, "--raft-secret-file={tmp}/none", DATA],
    ),
    "no secret file on loopback": (
        ["--raft-secret-file", "{tmp}/none"],
        [A, PEERS, "--raft-secret-file={tmp}/none", DATA],
    ),
    "secret too short": (
        ["--raft-secret-file"],
        [A, ELSEWHERE, "--raft-secret-file={tmp}/short", DATA],
    ),
    "secret without peers": (["--raft-secret-file"], ["--raft-secret-file={tmp}/short", DATA]),
    "secret and TLS": (
        ["--raft-secret-file", "--raft-tls-cert", "not by both"],
        [
            *(A, PEERS, DATA, "--raft-secret-file={tmp}/secret"),
            *("--raft-tls-cert={tmp}/short", "--raft-tls-key={tmp}/short"),
            "--raft-tls-ca={tmp}/short",
        ],
    ),
    "certificate without key": (
        ["--raft-tls-key"],
        [A, PEERS, DATA, "--raft-tls-cert={tmp}/short", "--raft-tls-ca={tmp}/short"],
    ),
    "no certificate file": (
        ["--raft-tls-cert", "{tmp}/none"],
        [
            *(A, PEERS, DATA, "--raft-tls-cert={tmp}/none"),
            *("--raft-tls-key={tmp}/short", "--raft-tls-ca={tmp}/short"),
        ],
    ),
    "TLS without peers": (["--raft-tls-cert"], [DATA, "--raft-tls-cert={tmp}/short"]),
    "bootstrap without peers": (["--bootstrap"], ["--bootstrap", DATA]),
    "unknown durability": (["--durability", "paper"], ["--durability=paper", DATA]),
    "bind without peers": (["--raft-bind"], ["--raft-bind=127.0.0.1:{port}", DATA]),
    "addr without a port": (["--addr"], ["--addr=127.0.0.1", DATA]),
    "addr beyond the ports": (["--addr", "70000"], ["--addr=127.0.0.1:70000", DATA]),
    "addr with a word": (["--addr"], ["--addr=127.0.0.1:http", DATA]),
    "metrics-addr": (["--metrics-addr"], ["--metrics-addr=nowhere", DATA]),
    "election timeout": (["election-timeout-ms"], ["--election-timeout-ms=soon", DATA]),
    "heartbeat too long": (["--election-timeout-ms"], ["--heartbeat-ms=400", DATA]),
    "unknown flag": (["--adress"], ["--adress=127.0.0.1:1", DATA]),
    "unknown variable": (["AGENTKEEPER_ADRESS"], ["AGENTKEEPER_ADRESS=127.0.0.1:1", DATA]),
    "bad variable": (["--addr", "nowhere"], ["AGENTKEEPER_ADDR=nowhere", DATA]),
    "unknown key in the file": (["adress", "unknown.toml"], ["--config={tmp}/unknown.toml", DATA]),
    "broken file": (["broken.toml"], ["--config={tmp}/broken.toml", DATA]),
    "wrong type in the file": (
        ["type.toml", "election-timeout-ms"],
        ["--config={tmp}/type.toml", DATA],
    ),
    "no such file": (["--config", "none.toml"], ["--config={tmp}/none.toml", DATA]),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_settings_are_refused_before_anything_starts(case, ports, tmp_path):
    (tmp_path / "short").write_text("short")
    (tmp_path / "secret").write_text("the secret of all who are friends")
    (tmp_path / "unknown.toml").write_text('adress = "127.0.0.1:1"\n')
    (tmp_path / "broken.toml").write_text("= = =\n")
    (tmp_path / "type.toml").write_text('election-timeout-ms = "soon"\n')
    named, settings = (
        [text.format(tmp=tmp_path, port=ports[0]) for text in texts] for texts in WRONG[case]
    )
    variables = {
        "AGENTKEEPER_ADDR": f"127.0.0.1:{ports[1]}",
        "AGENTKEEPER_METRICS_ADDR": f"127.0.0.1:{ports[2]}",
    }
    variables |= dict(text.split("=", 1) for text in settings if not text.startswith("--"))
    done = run(tmp_path, *(text for text in settings if text.startswith("--")), **variables)
    assert done.returncode not in (0, None)
    for name in named:
        assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert "serving" not in done.stderr + done.stdout
    assert not (tmp_path / "data").exists()


def test_an_address_in_use_is_fatal_and_named(ports, tmp_path):
    for flag, other in (("--addr", "--metrics-addr"), ("--metrics-addr", "--addr")):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", ports[0]))
            taken.listen()
            done = run(tmp_path, f"{flag}=127.0.0.1:{ports[0]}", f"{other}=127.0.0.1:{ports[1]}")
        assert done.returncode == 1
        assert f"127.0.0.1:{ports[0]}" in done.stderr + done.stdout


@pytest.fixture
def start(tmp_path):
    """Starts a daemon that is expected to serve, and stops it in the end."""
    children = []

    def begin(*arguments, **variables):
        child = Child([*COMMAND, *arguments], tmp_path / "log", env=variables)
        children.append(child)
        return child

    yield begin
    for child in children:
        assert child.stop() == 0, child.log_tail()


def serves(port):
    wire = Wire(f"127.0.0.1:{port}")
    try:
        return wire.status(timeout=2).node_id
    except grpc.RpcError:
        return ""
    finally:
        wire.close()


def test_a_flag_beats_a_variable_which_beats_the_file(start, ports, tmp_path):
    flag, variable, file, metrics = ports
    config = tmp_path / "agentkeeper.toml"
    config.write_text(
        f'addr = "127.0.0.1:{file}"\n'
        f'metrics-addr = "127.0.0.1:{metrics}"\n'
        f'data_dir = "{tmp_path / "from-file"}"\n'
        'log-level = "info"\n'
    )
    start(
        f"--addr=127.0.0.1:{flag}",
        AGENTKEEPER_ADDR=f"127.0.0.1:{variable}",
        AGENTKEEPER_DATA_DIR=str(tmp_path / "from-variable"),
        AGENTKEEPER_CONFIG=str(config),
    )
    eventually(lambda: serves(flag), "the flag's port")
    assert is_free(variable)
    assert is_free(file)
    assert not is_free(metrics)
    assert (tmp_path / "from-variable").is_dir()
    assert not (tmp_path / "from-file").exists()


def test_the_file_alone_is_enough(start, ports, tmp_path):
    config = tmp_path / "agentkeeper.toml"
    config.write_text(
        f'addr = "127.0.0.1:{ports[0]}"\n'
        f'metrics_addr = "127.0.0.1:{ports[1]}"\n'
        f'data-dir = "{tmp_path / "data"}"\n'
        'node-id = "only"\n'
        "election-timeout-ms = 400\n"
        "[peers]\n"
        f'only = "127.0.0.1:{ports[2]}"\n'
    )
    start("serve", f"--config={config}")
    eventually(lambda: serves(ports[0]) == "only", "the replica")


def test_subcommand_and_bare_command_take_the_same_flags(start, ports):
    for subcommand, (addr, metrics) in (([], ports[:2]), (["serve"], ports[2:])):
        start(*subcommand, f"--addr=127.0.0.1:{addr}", f"--metrics-addr=127.0.0.1:{metrics}")
        eventually(lambda addr=addr: serves(addr), "the daemon")
