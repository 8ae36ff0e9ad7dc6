"""The Kubernetes manifests: valid, of one piece, and with settings that the daemon takes."""

import kubernetes_validate
import pytest

from agentkeeper.server.config import Address

from .manifests import kubernetes, pods, settings_of, the

OLDEST = "1.27"
LABELS = {"app.kubernetes.io/name": "agentkeeper"}


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize(
    "object", kubernetes(), ids=lambda object: f"{object['kind']} {object['metadata']['name']}"
)
def test_objects_follow_the_schema(object, version):
    kubernetes_validate.validate(object, version, strict=True)


def test_a_mistake_is_seen():
    broken = the("StatefulSet")
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, OLDEST, strict=True)


def template():
    return the("StatefulSet")["spec"]["template"]


def container():
    [only] = template()["spec"]["containers"]
    return only


def test_everything_is_about_the_same_pods():
    stateful = the("StatefulSet")["spec"]
    assert template()["metadata"]["labels"] == LABELS
    selectors = [
        stateful["selector"]["matchLabels"],
        the("Service")["spec"]["selector"],
        the("Service", "agentkeeper-replicas")["spec"]["selector"],
        the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in template()["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(selector == LABELS for selector in selectors)


def test_replicas_know_each_others_names_before_they_are_ready():
    headless = the("Service", "agentkeeper-replicas")["spec"]
    stateful = the("StatefulSet")["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True
    assert stateful["serviceName"] == "agentkeeper-replicas"
    assert stateful["podManagementPolicy"] == "Parallel"  # or the first would wait for ever


def test_a_majority_stays_when_nodes_are_drained():
    budget = the("PodDisruptionBudget")["spec"]
    assert 2 * budget["maxUnavailable"] < the("StatefulSet")["spec"]["replicas"]


def test_only_what_is_dead_is_killed():
    """A replica that is not ready may only wait for the others."""
    for probe in ("startupProbe", "livenessProbe"):
        assert container()[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container()["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_memory_is_for_the_daemon_and_the_process_of_its_model():
    assert container()["resources"]["requests"]["memory"] == "1Gi"  # 512 MB, 530 MB with torch
    assert container()["resources"]["limits"]["memory"] == "2Gi"


def test_the_daemon_takes_the_settings_of_every_pod(monkeypatch, tmp_path):
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    names = [name for name, _ in pods()]
    secret = tmp_path / "raft-secret"
    secret.write_text("0123456789abcdef")
    for name, variables in pods():
        folder, _, file = variables["AGENTKEEPER_RAFT_SECRET_FILE"].rpartition("/")
        assert mounts[folder] == "raft-secret"
        assert file == "raft-secret"  # the key in the Secret that deployment.md makes
        assert mounts[variables["AGENTKEEPER_DATA_DIR"]] == "data"
        variables["AGENTKEEPER_RAFT_SECRET_FILE"] = str(secret)
        # What Kubernetes adds for a Service of this name, unless told not to.
        variables |= {
            "AGENTKEEPER_SERVICE_HOST": "10.96.0.7",
            "AGENTKEEPER_SERVICE_PORT": "7070",
            "AGENTKEEPER_SERVICE_PORT_GRPC": "7070",
            "AGENTKEEPER_PORT": "tcp://10.96.0.7:7070",
            "AGENTKEEPER_PORT_7070_TCP": "tcp://10.96.0.7:7070",
            "AGENTKEEPER_PORT_7070_TCP_PROTO": "tcp",
            "AGENTKEEPER_PORT_7070_TCP_PORT": "7070",
            "AGENTKEEPER_PORT_7070_TCP_ADDR": "10.96.0.7",
        }
        settings = settings_of(variables, container()["args"], monkeypatch)
        assert settings.node_id == name
        assert list(settings.peers) == names
        assert {Address.parse(peer, name).port for peer in settings.peers.values()} == {
            ports["raft"]
        }
        assert Address.parse(settings.raft_bind, name) == Address("0.0.0.0", ports["raft"])
        assert (settings.addr.port, settings.metrics_addr.port) == (ports["grpc"], ports["http"])
        assert settings.endpoint() == f"{name}.agentkeeper-replicas:{ports['grpc']}"
        assert settings.endpoint() in variables["AGENTKEEPER_ENDPOINTS"].split(", ")


def test_ports_have_the_names_that_others_use():
    names = {port["name"] for port in container()["ports"]}
    for service in ("agentkeeper", "agentkeeper-replicas"):
        assert {port["targetPort"] for port in the("Service", service)["spec"]["ports"]} <= names
    rules = the("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == names
    scraped = template()["metadata"]["annotations"]["prometheus.io/port"]
    assert int(scraped) in [p["containerPort"] for p in container()["ports"] if p["name"] == "http"]
