"""The pods of the StatefulSet, played by hand: as restricted, with volumes and names as there."""

import json
import uuid

import pytest
from operations.manifests import pods, the

from .compose import IMAGE, docker

pytestmark = pytest.mark.timeout(600)

USE = """
import os
from agentkeeper import AgentKeeperClient
endpoints = os.environ["AGENTKEEPER_ENDPOINTS"].split(",")
with AgentKeeperClient(endpoints=endpoints, timeout=60) as client:
    client.create_task("in a pod")
    print(len(client.list_tasks()))
"""
VOLUMES = """
cd /data && mkdir -m 0700 lost+found && chown 0:10001 . && chmod 2770 .
echo 0123456789abcdef > /secret/raft-secret
chown 0:10001 /secret/raft-secret && chmod 0440 /secret/raft-secret
"""


@pytest.fixture
def stateful(image):
    """A name for networks, volumes and containers, of which nothing is left in the end."""
    name = f"agentkeeper-tests-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    yield name
    docker("rm", "--force", "--volumes", *(f"{name}-{pod}" for pod, _ in pods()))
    volumes = [f"{name}-{pod}-{kind}" for pod, _ in pods() for kind in ("data", "secret")]
    docker("volume", "rm", "--force", *volumes)
    docker("network", "rm", name)


def start(name, pod, variables):
    """What Kubernetes makes of the template, as far as an engine alone can do it."""
    [container] = the("StatefulSet")["spec"]["template"]["spec"]["containers"]
    context = the("StatefulSet")["spec"]["template"]["spec"]["securityContext"]
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    data, secret = f"{name}-{pod}-data", f"{name}-{pod}-secret"
    docker("run", "--rm", "--user=0", "--entrypoint=sh", f"--volume={data}:/data",
           f"--volume={secret}:/secret", IMAGE, "-euc", VOLUMES)  # fmt: skip
    docker(
        "run",
        "--detach",
        f"--name={name}-{pod}",
        f"--network={name}",
        f"--network-alias={pod}.agentkeeper-replicas",
        f"--user={context['runAsUser']}:{context['runAsGroup']}",
        f"--group-add={context['fsGroup']}",
        "--read-only",
        f"--tmpfs={paths['tmp']}",
        f"--cap-drop={container['securityContext']['capabilities']['drop'][0]}",
        "--security-opt=no-new-privileges:true",
        f"--volume={data}:{paths['data']}",
        f"--volume={secret}:{paths['raft-secret']}:ro",
        *(f"--env={key}={value}" for key, value in variables.items()),
        IMAGE,
        *container["args"],
    )


def test_the_template_makes_a_cluster(stateful):
    for pod, variables in pods():
        start(stateful, pod, variables)
    for pod, _ in pods():
        docker("exec", f"{stateful}-{pod}", "python", "-c", USE)
    assert docker("exec", f"{stateful}-{pod}", "python", "-c", USE).strip() == "4"

    for pod, _ in pods():
        for path in ("/healthz", "/readyz"):
            said = docker("exec", f"{stateful}-{pod}", "python", "/opt/agentkeeper/probe.py", path)
            assert said == "ok"
    docker("stop", *(f"{stateful}-{pod}" for pod, _ in pods()))
    for pod, _ in pods():
        state = json.loads(docker("inspect", f"{stateful}-{pod}"))[0]["State"]
        assert state["ExitCode"] == 0
