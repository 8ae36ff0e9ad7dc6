"""Starting, finding and stopping a daemon, with stand-ins that only listen."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from agentkeeper import AgentKeeperClient
from agentkeeper.client.child import Child, ChildFailed
from agentkeeper.client.embedded import EmbeddedDaemon, find_daemon
from agentkeeper.client.ports import HIGHEST, LOWEST, free_ports, is_free

LISTENER = """
    #!{python}
    import json, os, pathlib, signal, socket, sys
    {extra}
    here = pathlib.Path(__file__)
    here.with_suffix(".json").write_text(json.dumps({{"argv": sys.argv[1:], "pid": os.getpid()}}))
    host, port = sys.argv[1].removeprefix("--addr=").split(":")
    listener = socket.create_server((host, int(port)))
    while True:
        listener.accept()
"""


def script(path: Path, extra: str = "", body: str = LISTENER) -> Path:
    path.write_text(textwrap.dedent(body).lstrip().format(python=sys.executable, extra=extra))
    path.chmod(0o755)
    return path


def seen(path: Path) -> dict:
    return json.loads(path.with_suffix(".json").read_text())


@pytest.fixture
def binary(tmp_path):
    return script(tmp_path / "daemon-stand-in")


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """An environment in which no daemon is to be found but the installed one."""
    monkeypatch.delenv("AGENTKEEPER_BIN", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)


def gone(pid, timeout_s=10.0):
    try:
        psutil.Process(pid).wait(timeout_s)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_the_daemon_gets_its_address_and_nothing_else(binary):
    with AgentKeeperClient.embedded(binary=str(binary)):
        facts = seen(binary)
    assert len(facts["argv"]) == 1
    assert facts["argv"][0].startswith("--addr=127.0.0.1:")
    assert gone(facts["pid"])


def test_port_and_data_directory_are_handed_on(binary, tmp_path):
    (port,) = free_ports(1)
    daemon = EmbeddedDaemon(binary, port, tmp_path / "data")
    try:
        assert daemon.port == port
        expected = [f"--addr=127.0.0.1:{port}", f"--data-dir={tmp_path / 'data'}"]
        assert seen(binary)["argv"] == expected
        assert seen(binary)["pid"] == daemon.pid
    finally:
        daemon.stop()
    daemon.stop()


def test_two_live_side_by_side(binary):
    with AgentKeeperClient.embedded(binary), AgentKeeperClient.embedded(binary):
        pass


def test_the_search_order(bare, monkeypatch, tmp_path):
    installed = [sys.executable, "-m", "agentkeeper"]
    assert find_daemon() == installed
    (tmp_path / "daemon").mkdir()
    layout = script(tmp_path / "daemon" / "agentkeeper")
    assert find_daemon() == [str(layout)]
    (tmp_path / "bin").mkdir()
    on_path = script(tmp_path / "bin" / "agentkeeper")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_daemon() == [str(on_path)]
    variable = script(tmp_path / "from-variable")
    monkeypatch.setenv("AGENTKEEPER_BIN", str(variable))
    assert find_daemon() == [str(variable)]
    argument = script(tmp_path / "from-argument")
    assert find_daemon(argument) == [str(argument)]


def test_a_binary_that_is_not_there_is_named(bare, monkeypatch):
    with pytest.raises(FileNotFoundError, match="/no/such/daemon"):
        find_daemon("/no/such/daemon")
    monkeypatch.setenv("AGENTKEEPER_BIN", "/nor/this")
    with pytest.raises(FileNotFoundError, match="AGENTKEEPER_BIN"):
        find_daemon()


def test_a_daemon_that_fails_shows_its_log(tmp_path):
    binary = script(tmp_path / "fails", body="#!/bin/sh\necho no disk left; exit 3\n")
    with pytest.raises(ChildFailed, match=r"exit code 3(.|\n)*no disk left"):
        AgentKeeperClient.embedded(binary=binary)


def test_a_port_in_use_is_told(binary):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ChildFailed, match=f"port {port} is in use"):
            AgentKeeperClient.embedded(binary, port=port)


def test_a_daemon_that_ignores_sigterm_is_killed(tmp_path):
    binary = script(tmp_path / "stubborn", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    child = Child([str(binary), f"--addr=127.0.0.1:{free_ports(1)[0]}"], tmp_path / "log")
    while not binary.with_suffix(".json").exists():
        child.check_running("it")
    assert child.stop(grace_s=0.3) == -signal.SIGKILL


def test_a_paused_child_can_be_stopped(tmp_path):
    child = Child(["sleep", "60"], tmp_path / "log")
    child.signal(signal.SIGSTOP)
    assert child.stop(grace_s=5) == -signal.SIGTERM


def test_a_child_that_cannot_run_says_why(tmp_path):
    child = Child(["/no/such/program"], tmp_path / "log")
    assert child.wait(10) == 1
    assert "cannot run /no/such/program" in child.log_tail()


@pytest.mark.parametrize("end", ["return", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_no_daemon_outlives_the_interpreter(binary, end):
    code = f"""if True:
        import os, threading
        from agentkeeper import AgentKeeperClient
        def start():
            global client
            client = AgentKeeperClient.embedded({str(binary)!r})
        # The thread that starts the daemon ends long before the process does.
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        client.close if {end!r} == "return" else {end.replace("return", "None")}
    """
    subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert gone(seen(binary)["pid"])


def test_the_daemon_outlives_the_thread_that_started_it(binary):
    code = f"""if True:
        import threading, time
        from agentkeeper.client.embedded import EmbeddedDaemon
        started = []
        thread = threading.Thread(target=lambda: started.append(EmbeddedDaemon({str(binary)!r})))
        thread.start()
        thread.join()
        time.sleep(0.3)
        assert started[0]._child.exit_code is None
    """
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)


def test_a_client_that_is_forgotten_stops_its_daemon(binary):
    client = AgentKeeperClient.embedded(binary)
    pid = seen(binary)["pid"]
    assert psutil.pid_exists(pid)
    del client
    assert gone(pid)


def test_free_ports_are_different_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(LOWEST <= port <= HIGHEST and is_free(port) for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])


def test_a_fork_does_not_stop_the_daemon_of_its_parent(binary):
    daemon = EmbeddedDaemon(binary)
    forked = os.fork()
    if forked == 0:
        try:
            daemon.stop()
            daemon._remove_files()
        finally:
            os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0
    assert daemon._child.exit_code is None
    assert daemon._files.exists()
    daemon.stop()
    assert gone(seen(binary)["pid"])
    assert not daemon._files.exists()


def test_a_child_does_not_inherit_settings_of_a_daemon_but_the_model(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTKEEPER_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("AGENTKEEPER_ADDR", "elsewhere:1")
    monkeypatch.setenv("AGENTKEEPER_MODEL", "/models/mini")
    command = ["sh", "-c", "echo [$AGENTKEEPER_DATA_DIR] [$AGENTKEEPER_ADDR] $AGENTKEEPER_MODEL"]
    child = Child(command, tmp_path / "log", env={"AGENTKEEPER_ADDR": "here:1"})
    assert child.wait(10) == 0
    assert child.log_tail() == "[] [here:1] /models/mini"


def test_the_environment_of_a_child(tmp_path):
    child = Child(["sh", "-c", "echo $GREETING $HOME"], tmp_path / "log", env={"GREETING": "hi"})
    assert child.wait(10) == 0
    assert child.log_tail() == f"hi {os.environ['HOME']}"
