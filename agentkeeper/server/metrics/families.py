"""Metrics as numbers that were read at one moment, of which their families are made later.

Reading them is left to the event loop, whose numbers they are; making families and text of them
takes many times as long, and can be done by any thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias, TypeVar

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.utils import floatToGoString

from agentkeeper.consensus.distribution import Counted

Labels: TypeAlias = tuple[str, ...]
Reading: TypeAlias = Callable[[], Metric]
"""A metric's numbers as they were; called, it makes the family of them."""
K = TypeVar("K", bound=Labels)


class Source(Protocol):
    """Something that has metrics."""

    def read(self) -> Iterator[Reading]:
        """Read them."""


def gauge(name: str, text: str, value: float) -> Reading:
    """One number that goes up and down."""
    return lambda: GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, labels: Labels, values: Iterable[tuple[K, float]]) -> Reading:
    """A number for each combination of labels."""
    read = list(values)

    def make() -> Metric:
        family = GaugeMetricFamily(name, text, labels=labels)
        for key, number in read:
            family.add_metric(key, number)
        return family

    return make


def counter(name: str, text: str, value: float) -> Reading:
    """One number that only rises; its sample is called `name` and `_total`."""
    return lambda: CounterMetricFamily(name, text, value=value)


def counters(name: str, text: str, labels: Labels, values: Mapping[K, float]) -> Reading:
    """The same for each combination of labels."""
    read = dict(values)

    def make() -> Metric:
        family = CounterMetricFamily(name, text, labels=labels)
        for key, number in read.items():
            family.add_metric(key, number)
        return family

    return make


def histograms(
    name: str, text: str, labels: Labels, values: Iterable[tuple[K, Counted]]
) -> Reading:
    """Distributions, one for each combination of labels."""
    read = list(values)

    def make() -> Metric:
        family = HistogramMetricFamily(name, text, labels=labels)
        for key, counted in read:
            family.add_metric(key, _buckets(counted), counted.total)
        return family

    return make


def histogram(name: str, text: str, counted: Counted) -> Reading:
    """One distribution."""
    return histograms(name, text, (), [((), counted)])


def _buckets(counted: Counted) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip(_written(counted.bounds), counted.counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return buckets


@functools.cache
def _written(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(str(floatToGoString(bound)) for bound in (*bounds, float("inf")))  # type: ignore[no-untyped-call]
