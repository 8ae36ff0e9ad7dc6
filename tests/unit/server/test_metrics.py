"""Metrics: what was refused on the links between replicas, by reason, within bounds."""

from prometheus_client.parser import text_string_to_metric_families

from agentkeeper.core import limits
from agentkeeper.core.state import State
from agentkeeper.server.metrics import Metrics

NAME = "agentkeeper_raft_refused_total"


def refusals(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == NAME]
    return {sample.labels["reason"]: sample.value for sample in samples}


def test_refusals_are_those_of_the_moment() -> None:
    refused: dict[str, int] = {}
    metrics = Metrics(State, lambda: refused)
    assert refusals(metrics) == {}
    refused["wrong secret"] = 2
    assert refusals(metrics) == {"wrong secret": 2}
    refused |= {"wrong secret": 3, 'odd "reason"\n': 1}
    assert refusals(metrics) == {"wrong secret": 3, 'odd "reason"\n': 1}


def test_beyond_a_number_of_reasons_the_rest_is_counted_together() -> None:
    refused = {f"reason {number:03}": number for number in range(1, 101)}
    found = refusals(Metrics(State, lambda: refused))
    assert len(found) == limits.REFUSAL_REASONS + 1
    assert sum(found.values()) == sum(refused.values())
    assert found["reason 001"] == 1
    assert found["other"] == sum(range(limits.REFUSAL_REASONS + 1, 101))


def test_as_many_reasons_as_are_told_apart_all_are() -> None:
    refused = {f"reason {number:03}": number for number in range(limits.REFUSAL_REASONS)}
    assert refusals(Metrics(State, lambda: refused)) == refused
