"""A cluster in which everything happens that is counted, and a Prometheus that watches it."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agentkeeper import AgentKeeperClient, errors
from agentkeeper.client.child import Child
from agentkeeper.client.ports import free_ports
from agentkeeper.launcher import LocalCluster, Node

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "cluster/prometheus"
GRAFANA = ROOT / "cluster/grafana"
JOB = "agentkeeper"
PATIENCE_S = 60.0

_METRIC = re.compile(r"\b(?:agentkeeper|process)[_:][a-z0-9_:]+")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str) -> str:
    """What an address of this machine answers."""
    with _direct.open(url, timeout=10) as response:
        return str(response.read().decode())


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Look until something true is seen, and return it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < deadline_s, f"never seen: {what}; last: {seen!r}"
        time.sleep(0.1)
    return seen


def scrape(node: Node) -> list[Metric]:
    """All metrics of a replica."""
    return list(text_string_to_metric_families(fetch(f"http://{node.metrics_addr}/metrics")))


def exported(metric: Metric) -> str:
    """The name that queries know a metric by; of a histogram, without what its samples append."""
    is_counter = metric.type == "counter" and not metric.name.endswith("_total")
    return f"{metric.name}_total" if is_counter else metric.name


def metrics_in(query: str) -> set[str]:
    """The metrics that a query asks for; a histogram's by its own name."""
    without_strings = re.sub(r'"[^"]*"', "", query)
    names = set(_METRIC.findall(without_strings))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def rules() -> list[dict[str, Any]]:
    """All rules of alerts.yml."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The Grafana dashboard."""
    loaded: dict[str, Any] = json.loads((GRAFANA / "dashboards/agentkeeper.json").read_text())
    return loaded


def panel_queries() -> Iterator[tuple[str, str]]:
    """Title and query of each panel, with the variables that Grafana would fill in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$job", JOB).replace("$__rate_interval", "20s")
            yield panel["title"], query


def bustle(client: AgentKeeperClient) -> None:
    """Let everything happen once that has a metric."""
    agent = client.register("bustle", "does everything", "1", tools=["t"])
    lease = client.acquire_lease(agent.agent_id, agent.agent_id, ttl=30)
    assert lease is not None
    lease.renew()
    client.verify_token(agent.agent_id, lease.token)
    client.verify_token(agent.agent_id, lease.token + 1_000_000)
    lease.release()
    client.campaign("group", agent.agent_id)
    client.resign("group", agent.agent_id)
    client.set_policy("policy", "bustle", "does", "*", "ALLOW")
    for action in ("does", "undoes"):
        client.check_policy("bustle", action, "anything")
    for number in range(2):
        client.create_task("task", b"input", ["t"])
        task = client.claim_task(agent.agent_id, timeout=30)
        if number:
            client.complete_task(task.id, agent.agent_id)
        else:
            client.fail_task(task.id, agent.agent_id, "on purpose")
    with suppress(errors.NotFound):
        client.get_task("nothing")
    client.create_task("task", b"input", ["nobody has it"])
    agent.deregister()


class Bustling:
    """Bustle at each replica, again and again, while this is entered."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._over = threading.Event()
        self.failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._go_on, args=(endpoint,), daemon=True)
            for endpoint in cluster.endpoints
        ]

    def _go_on(self, endpoint: str) -> None:
        try:
            with AgentKeeperClient(endpoints=[endpoint], timeout=30) as client:
                while not self._over.wait(0.5):
                    bustle(client)
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert self.failure is None, repr(self.failure)


class Prometheus:
    """A Prometheus server with our configuration, but for the targets and the hurry it is in."""

    def __init__(self, program: str, folder: Path, targets: list[str]) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": targets}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        [port] = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        self._child = Child(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder / "prometheus.log",
        )

    def wait_ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            self._child.check_running("prometheus")
            with suppress(OSError):
                return bool(fetch(f"{self._url}/-/ready"))
            return False

        eventually(answers, "prometheus ready")

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        query = urllib.parse.urlencode(parameters)
        answer = json.loads(fetch(f"{self._url}/api/v1/{path}?{query}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, query: str) -> list[dict[str, Any]]:
        """The result of a query, now."""
        result: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return result

    def value(self, query: str) -> float:
        """The one number that a query gives now; -1 if it gives none."""
        results = self.query(query)
        return float(results[0]["value"][1]) if results else -1.0

    def alerts(self) -> dict[str, set[str]]:
        """The states of the alerts that stand, by name."""
        standing: dict[str, set[str]] = {}
        for alert in self.ask("alerts")["alerts"]:
            standing.setdefault(alert["labels"]["alertname"], set()).add(alert["state"])
        return standing

    def close(self) -> None:
        """End it."""
        self._child.stop()
