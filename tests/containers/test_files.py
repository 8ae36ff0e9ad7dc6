"""What the files say, where no engine is needed to see it."""

import http.server
import re
import subprocess
import sys
import threading
import tomllib

import pytest
import yaml
from operations.manifests import settings_of

from .compose import ROOT

FILES = {3: ROOT / "docker-compose.yml", 5: ROOT / "cluster/compose.five.yml"}
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(.*(?:\n +--hash=.*)*)", re.MULTILINE)


def services(replicas):
    return yaml.safe_load(FILES[replicas].read_text())["services"]


def replicas_in(count):
    return {name: it for name, it in services(count).items() if name.startswith("agentkeeper-")}


@pytest.mark.parametrize("count", FILES)
def test_the_daemon_takes_the_settings_of_every_replica(count, monkeypatch, tmp_path):
    secret = tmp_path / "raft-secret"
    secret.write_text("0123456789abcdef")
    replicas = replicas_in(count)
    assert len(replicas) == count
    for number, (name, service) in enumerate(replicas.items(), 1):
        variables = {
            key: value.replace("${PUBLISH_ADDR:-127.0.0.1}", "127.0.0.1")
            for key, value in service["environment"].items()
        }
        assert variables["AGENTKEEPER_RAFT_SECRET_FILE"] == "/etc/agentkeeper/raft-secret"
        variables["AGENTKEEPER_RAFT_SECRET_FILE"] = str(secret)
        variables["AGENTKEEPER_DATA_DIR"] = str(tmp_path)  # the image has it
        settings = settings_of(variables, ["serve"], monkeypatch)
        assert settings.node_id == name
        assert settings.peers == {peer: f"{peer}:7400" for peer in replicas}
        # Where it says that it is reached is where it is published.
        published = f"127.0.0.1:707{number}"
        assert settings.endpoint() == published
        ports = [
            port.replace("${PUBLISH_ADDR:-127.0.0.1}", "127.0.0.1") for port in service["ports"]
        ]
        assert ports == [f"{published}:7070", f"127.0.0.1:909{number}:9090"]
        assert service["volumes"][0] == f"data-{number}:/var/lib/agentkeeper"


def test_five_are_like_three():
    """Each file stands alone, as 1.29 can extend no service that depends on another."""

    def made_alike(count):
        def plain(it):
            if isinstance(it, dict):
                return {key: plain(value) for key, value in it.items()}
            if isinstance(it, list):
                return [plain(value) for value in it]
            return "all" if isinstance(it, str) and "agentkeeper-1" in it else it

        only = {name: services(count)[name] for name in ("raft-secret", "agentkeeper-1")}
        for service in only.values():
            service["build"]["context"] = ""
        return plain(only)

    assert made_alike(3) == made_alike(5)


def test_what_is_mounted_from_the_tree_is_there():
    mounts = [
        mount.split(":")[0]
        for service in services(3).values()
        for mount in service["volumes"]
        if mount.startswith(".")
    ]
    assert len(mounts) == 3
    for mount in mounts:
        assert (ROOT / mount).is_dir(), mount
    assert (ROOT / "cluster/prometheus/prometheus.yml").is_file()


def test_others_images_are_pinned():
    for name in ("prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+$", services(3)[name]["image"])


def pins(lock):
    found = {name: (version, rest) for name, version, rest in PIN.findall(lock.read_text())}
    assert all("--hash=sha256:" in rest for _, rest in found.values())
    return {name: version for name, (version, _) in found.items()}


def test_the_image_has_the_versions_that_are_tested():
    tested = pins(ROOT / "requirements-dev.lock")
    runs = pins(ROOT / "requirements.lock")
    assert runs.items() <= tested.items()
    build = pins(ROOT / "requirements-build.lock")
    assert all(build[name] == tested[name] for name in build.keys() & tested.keys())


def test_the_lock_has_what_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {re.match(r"[\w-]+", text)[0] for text in project["project"]["dependencies"]}
    assert needed <= pins(ROOT / "requirements.lock").keys()
    backend = {re.match(r"[\w-]+", text)[0] for text in project["build-system"]["requires"]}
    assert backend <= pins(ROOT / "requirements-build.lock").keys()


def test_the_build_is_sent_what_it_copies_and_nothing_else():
    copied = set()
    for line in (ROOT / "cluster/Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied.update(line.split()[1:-1])
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


@pytest.fixture
def page():
    """A daemon's page, which answers as it is told to."""

    class Page(http.server.BaseHTTPRequestHandler):
        answer = (200, b"ok")
        path_seen = ""

        def do_GET(self):
            type(self).path_seen = self.path
            self.send_response(self.answer[0])
            self.end_headers()
            self.wfile.write(self.answer[1])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Page.port = server.server_port
        yield Page
        server.shutdown()


def probe(addr):
    return subprocess.run(
        [sys.executable, "-IS", str(ROOT / "cluster/probe.py"), "/readyz"],
        env={"AGENTKEEPER_METRICS_ADDR": addr},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_probe_says_what_the_daemon_says(page):
    healthy = probe(f"0.0.0.0:{page.port}")
    assert (healthy.returncode, healthy.stdout) == (0, "ok")
    assert page.path_seen == "/readyz"
    page.answer = (503, b"no leader")
    unready = probe(f"127.0.0.1:{page.port}")
    assert (unready.returncode, unready.stdout) == (1, "no leader")


def test_the_probe_fails_where_nobody_listens(page):
    nobody = probe("127.0.0.1:1")
    assert nobody.returncode == 1
    assert "no answer on 127.0.0.1:1" in nobody.stderr
