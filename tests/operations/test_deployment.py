"""What the page on deployment says, and the unit for systemd."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .manifests import ROOT, kubernetes, settings_of

PAGE = (ROOT / "docs/operations/deployment.md").read_text()
UNIT = ROOT / "cluster/systemd/agentkeeper.service"


def test_the_daemon_takes_the_file_and_the_variables_of_the_unit(monkeypatch, tmp_path):
    file = tmp_path / "agentkeeper.toml"
    file.write_text(re.search(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1])
    (tmp_path / "raft-secret").write_text("0123456789abcdef")
    unit = UNIT.read_text()
    places = {"%d": str(tmp_path), "%S": "/var/lib"}
    variables = {
        name: re.sub("%[dS]", lambda found: places[found[0]], value)
        for name, value in re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE)
    }
    command = re.search(r"^ExecStart=\S+/agentkeeper (.*)$", unit, re.MULTILINE)[1]
    arguments = command.replace("/etc/agentkeeper", str(tmp_path)).split()
    settings = settings_of(variables, arguments, monkeypatch)
    assert settings.node_id == "a"
    assert sorted(settings.peers) == ["a", "b", "c"]
    assert settings.data_dir == Path("/var/lib/agentkeeper")
    [state] = re.findall(r"^StateDirectory=(.*)$", unit, re.MULTILINE)
    assert settings.data_dir.name == state


def test_the_secret_has_the_key_that_is_mounted():
    assert "--from-literal=raft-secret=" in PAGE


def test_the_service_monitor_finds_each_replica_once():
    [monitor] = [
        object
        for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        if (object := yaml.safe_load(text))["kind"] == "ServiceMonitor"
    ]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [
        service
        for service in kubernetes()
        if service["kind"] == "Service" and wanted.items() <= service["metadata"]["labels"].items()
    ]
    assert [service["metadata"]["name"] for service in found] == ["agentkeeper-replicas"]
    ports = {port["name"] for port in found[0]["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    # The program need not be installed where the unit has it.
    text = UNIT.read_text().replace("/opt/agentkeeper/bin/agentkeeper", sys.executable)
    (tmp_path / UNIT.name).write_text(text)

    def verify():
        return subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    taken = verify()
    assert (taken.returncode, taken.stdout, taken.stderr) == (0, "", "")
    (tmp_path / UNIT.name).write_text(text.replace("ProtectClock=", "ProtectKlock="))
    assert "ProtectKlock" in verify().stderr
