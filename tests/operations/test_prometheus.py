"""Alert rules and dashboard: well formed, of metrics that exist, at work in a real Prometheus."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agentkeeper.launcher import LocalCluster

from .observed import (
    GRAFANA,
    JOB,
    PROMETHEUS,
    ROOT,
    Bustling,
    Prometheus,
    dashboard,
    eventually,
    exported,
    metrics_in,
    panel_queries,
    rules,
    scrape,
)

TESTS = PROMETHEUS / "tests/alerts_test.yml"


@pytest.mark.parametrize(
    "check",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "tests/alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(promtool: str, check: tuple[str, ...]) -> None:
    done = subprocess.run(
        [promtool, *check], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_a_test_of_its_own_and_the_healthy_cluster_has_its_metrics() -> None:
    loaded = yaml.safe_load(TESTS.read_text())["tests"]
    firing = {
        sample["labels"].partition('alertname="')[2].partition('"')[0]
        for test in loaded
        for look in test["promql_expr_test"]
        for sample in look["exp_samples"]
    }
    alerts = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    assert firing == set(alerts)
    worded = {rule["alertname"] for test in loaded for rule in test.get("alert_rule_test", ())}
    assert worded == set(alerts), "what each says is looked at as well"
    healthy = next(test for test in loaded if test["name"] == "a cluster that is well")
    fed = set().union(*(metrics_in(series["series"]) for series in healthy["input_series"]))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for name, query in alerts.items():
        assert metrics_in(query) <= fed | recorded, name


def test_rules_and_panels_ask_for_metrics_that_there_are(watched_cluster: LocalCluster) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [(str(rule.get("alert", rule.get("record"))), rule["expr"]) for rule in rules()]
    asked += panel_queries()
    asked += [(a["name"], a["expr"]) for a in dashboard()["annotations"]["list"]]
    there: set[str] = set()

    def missing() -> set[tuple[str, str]]:
        for node in watched_cluster.nodes.values():
            there.update(exported(metric) for metric in scrape(node))
        return {
            (where, name)
            for where, query in asked
            for name in metrics_in(query)
            if name not in there | recorded
        }

    eventually(lambda: not missing(), "all metrics that are asked for")  # a snapshot takes a moment


def test_the_dashboard_is_laid_out() -> None:
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs), panel["title"]
            assert panel["datasource"] == board["panels"][1]["datasource"]


def test_what_provisions_grafana_fits_together() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    [source] = sources["datasources"]
    uids = {panel["datasource"]["uid"] for panel in dashboard()["panels"] if "datasource" in panel}
    assert uids == {source["uid"]}
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/agentkeeper.yml").read_text())
    [provider] = providers["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounts["./cluster/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./cluster/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_the_replicas_of_the_compose_file() -> None:
    [job] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    [static] = job["static_configs"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    replicas = {name for name in services if name.startswith("agentkeeper-")}
    assert job["job_name"] == JOB
    assert {target.partition(":")[0] for target in static["targets"]} == replicas


@pytest.fixture
def prometheus(
    prometheus_program: str, watched_cluster: LocalCluster, tmp_path: Path
) -> Iterator[Prometheus]:
    targets = [node.metrics_addr for node in watched_cluster.nodes.values()]
    running = Prometheus(prometheus_program, tmp_path, targets)
    try:
        running.wait_ready()
        yield running
    finally:
        running.close()


def test_every_panel_shows_data_and_a_lost_majority_alarms(
    prometheus: Prometheus, watched_cluster: LocalCluster
) -> None:
    missing = set(panel_queries())
    with Bustling(watched_cluster):

        def all_shown() -> bool:
            for title, query in tuple(missing):
                results = prometheus.query(query)
                if any(result["value"][1] != "NaN" for result in results):
                    missing.discard((title, query))
            return not missing

        try:
            eventually(all_shown, "data for every query")
        except AssertionError:
            pytest.fail(f"queries without data: {missing}")
        for group in prometheus.ask("rules")["groups"]:
            for rule in group["rules"]:
                assert rule["health"] == "ok", rule
        assert "AgentKeeperNoLeader" not in prometheus.alerts()

    restarts_add_nothing(prometheus, watched_cluster)

    leader = watched_cluster.leader()
    dead = [leader, watched_cluster.followers()[0]]
    for node in dead:
        node.kill()
    eventually(
        lambda: {"AgentKeeperNoLeader", "AgentKeeperReplicaDown"} <= prometheus.alerts().keys(),
        "the alerts of a lost majority",
    )
    assert prometheus.alerts()["AgentKeeperNoLeader"] == {"pending"}
    watched_cluster.start()
    watched_cluster.wait_ready()
    eventually(
        lambda: not {"AgentKeeperNoLeader", "AgentKeeperReplicaDown"} & prometheus.alerts().keys(),
        "that the alerts are over",
    )


def restarts_add_nothing(prometheus: Prometheus, cluster: LocalCluster) -> None:
    """Kill a follower and start it: nobody counts twice what happened once, and while it is away
    nobody tells how far behind it is.
    """
    node = cluster.followers()[0]
    name, own = node.name, f'{{instance="{node.metrics_addr}"}}'
    lag = f'agentkeeper_raft_peer_lag_entries{{peer="{name}"}}'
    events = f"sum(agentkeeper_events_total{own})"
    eventually(lambda: prometheus.query(lag), "the lag of a replica that runs")
    eventually(lambda: prometheus.value(events) > 100, "events counted")
    index = prometheus.value(f"agentkeeper_applied_index{own}")
    node.kill()
    disconnected = f'sum(agentkeeper_raft_peer_connected{{peer="{name}"}}) == 0'
    eventually(lambda: prometheus.query(disconnected), "that it is gone")
    assert prometheus.query(lag) == []
    node.start()
    cluster.wait_ready()
    eventually(
        lambda: prometheus.query(f"agentkeeper_applied_index{own} >= {index}"),
        "that it has all it had",
    )
    assert prometheus.value(events) < 10, "what it had before was not counted again"
    eventually(lambda: prometheus.query(f"{lag} < 100"), "its lag again")
