"""Prometheus beside the replicas, with our configuration: it finds them, and takes our rules.

Where its image cannot be pulled, Debian's package in an image of its own stands in for it.
"""

import json
import subprocess
import urllib.request

import pytest
import yaml
from integration.waiting import eventually

from .compose import PUBLISHED, ROOT, docker

pytestmark = pytest.mark.timeout(600)

COMPOSE = ROOT / "docker-compose.yml"
STAND_IN = """
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends prometheus
RUN install -d -o nobody -g nogroup /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
"""


@pytest.fixture
def files(image, tmp_path):
    """The compose file, with another one over it if there has to be a stand-in."""
    wanted = yaml.safe_load(COMPOSE.read_text())["services"]["prometheus"]["image"]
    for command in (["docker", "image", "inspect", wanted], ["docker", "pull", "-q", wanted]):
        if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0:
            return [COMPOSE]
    (tmp_path / "Dockerfile").write_text(STAND_IN)
    docker("build", "-t", "agentkeeper-tests-prometheus", str(tmp_path))
    over = tmp_path / "over.yml"
    over.write_text("services: {prometheus: {image: agentkeeper-tests-prometheus}}")
    return [COMPOSE, over]


def ask(path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{PUBLISHED}:9090/api/v1/{path}", timeout=5) as response:
            return json.load(response)["data"]
    except OSError:
        return None


def test_prometheus_finds_the_replicas_and_takes_the_rules(any_tool, files, project):
    cluster = project(any_tool, *files)
    cluster("--profile", "observability", "up", "-d", *cluster.names, "prometheus")
    cluster.await_healthy()

    def all_scraped():
        targets = (ask("targets") or {}).get("activeTargets", [])
        up = {target["labels"]["instance"] for target in targets if target["health"] == "up"}
        return up == {f"{name}:9090" for name in cluster.names}

    def all_evaluated():
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
        assert not [rule for rule in rules if rule["health"] == "err"]
        return rules and all(rule["health"] == "ok" for rule in rules)

    eventually(all_scraped, "all replicas scraped", 90)
    eventually(all_evaluated, "all rules evaluated", 90)
