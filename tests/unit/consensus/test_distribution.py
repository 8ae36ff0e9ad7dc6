"""Distributions: counted as one would by hand, and their quantiles near the true ones."""

import math
from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.consensus.distribution import Counted, Distribution

BOUNDS = (1.0, 2.0, 5.0, 10.0)
VALUES = st.lists(st.floats(0, 20), max_size=200)


def distribution(values: list[float]) -> Distribution:
    made = Distribution(BOUNDS)
    for value in values:
        made.add(value)
    return made


@given(VALUES)
def test_each_value_is_in_the_bucket_of_the_lowest_bound_it_does_not_exceed(
    values: list[float],
) -> None:
    counted = distribution(values).counted()
    for position, bound in enumerate(BOUNDS):
        below = sum(counted.counts[: position + 1])
        assert below == sum(value <= bound for value in values)
    assert counted.count == len(values)
    assert math.isclose(counted.total, sum(values))


@given(VALUES.filter(bool), st.floats(0, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    counted = distribution(values).counted()
    found = counted.quantile(share)
    assert found is not None
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    bucket = bisect_left(BOUNDS, true)
    lower = (0.0, *BOUNDS)[bucket]
    upper = BOUNDS[min(bucket, len(BOUNDS) - 1)]
    assert lower <= found <= upper or (bucket == len(BOUNDS) and found == BOUNDS[-1])


def test_within_a_bucket_a_quantile_is_interpolated() -> None:
    counted = distribution([3.0] * 10).counted()
    assert counted.quantile(0.5) == 2.0 + 3.0 * 0.5
    assert counted.quantile(1.0) == 5.0


def test_nothing_has_no_quantile() -> None:
    assert distribution([]).counted().quantile(0.5) is None


@given(VALUES, VALUES)
def test_what_came_since_is_what_was_added_since(first: list[float], later: list[float]) -> None:
    made = distribution(first)
    before = made.counted()
    for value in later:
        made.add(value)
    since = made.counted().since(before)
    assert since.counts == distribution(later).counted().counts
    assert math.isclose(since.total, sum(later), abs_tol=1e-6)


def test_what_was_counted_does_not_change() -> None:
    made = distribution([1.5])
    counted = made.counted()
    made.add(3.0)
    assert counted == Counted(BOUNDS, (0, 1, 0, 0, 0), 1.5)
