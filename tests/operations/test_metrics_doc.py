"""docs/operations/metrics.md and alerts.md, against what there is."""

import re

from prometheus_client import Metric

from agentkeeper.launcher import LocalCluster

from .observed import ROOT, eventually, exported, metrics_in, rules, scrape

METRICS_PAGE = ROOT / "docs/operations/metrics.md"
ALERTS_PAGE = ROOT / "docs/operations/alerts.md"
_ROW = re.compile(r"^\| `([a-z_]+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
_LABELS_ADDED = {"le"}


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric in the tables, by name."""
    rows = _ROW.findall(METRICS_PAGE.read_text())
    names = [name for name, _, _ in rows]
    assert len(names) == len(set(names)), "each is documented once"
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def labels_of(metric: Metric) -> frozenset[str]:
    return frozenset(label for s in metric.samples for label in s.labels) - _LABELS_ADDED


def test_every_metric_is_documented_as_it_is_and_no_other(watched_cluster: LocalCluster) -> None:
    page = documented()
    real: dict[str, tuple[str, frozenset[str]]] = {}

    def all_there() -> bool:
        for node in watched_cluster.nodes.values():
            for metric in scrape(node):
                name = exported(metric)
                labels = labels_of(metric) | real.get(name, ("", frozenset()))[1]
                real[name] = (metric.type, labels)
        return "agentkeeper_raft_snapshot_index" in real

    eventually(all_there, "a snapshot")
    assert sorted(real) == sorted(page)
    # Of what has not happened here there are no samples, thus no labels.
    quiet = {"agentkeeper_raft_refused_total"}
    assert {n: real[n] for n in real if n not in quiet} == {
        n: page[n] for n in page if n not in quiet
    }


def test_no_page_speaks_of_a_metric_that_is_not_there() -> None:
    known = documented()
    pages = [ROOT / "docs/operations.md", *ROOT.glob("docs/operations/*.md")]
    spoken_of = {
        (page.name, name)
        for page in pages
        for code in re.findall(r"`(agentkeeper_[a-z0-9_]+)(?:\{[^`]*)?`", page.read_text())
        for name in metrics_in(code)
    }
    assert len(spoken_of) > 50
    assert {(page, name) for page, name in spoken_of if name not in known} == set()


def test_every_alert_has_its_section_and_no_section_is_left_over() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    sections = set(re.findall(r"^## (AgentKeeper\w+)$", ALERTS_PAGE.read_text(), re.MULTILINE))
    assert alerts == sections


def test_every_alert_says_how_bad_it_is_and_links_to_its_section() -> None:
    severities = dict(
        re.findall(r"^## (\w+)\n\n\*\*(\w+)\.\*\*", ALERTS_PAGE.read_text(), re.MULTILINE)
    )
    for rule in rules():
        if "alert" not in rule:
            continue
        name = rule["alert"]
        assert rule["labels"]["severity"] == severities[name].lower(), name
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/operations/alerts.md#{name.lower()}"
