"""Scores of different kinds on one scale."""

from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.search.blend import by_meaning, by_words

shares = st.floats(0, 1)


@given(cosine=st.floats(-1, 1.001), hint=shares)
def test_all_scores_are_from_0_to_1(cosine: float, hint: float) -> None:
    assert 0 <= by_meaning(cosine, hint) <= 1
    assert 0 <= by_words(hint) <= 1


@given(a=shares, b=shares, other=shares)
def test_more_is_never_less(a: float, b: float, other: float) -> None:
    low, high = sorted((a, b))
    assert by_meaning(low, other) <= by_meaning(high, other)
    assert by_meaning(other, low) <= by_meaning(other, high)
    assert by_words(low) <= by_words(high)


def test_nothing_stays_nothing() -> None:
    assert by_meaning(-0.3, 0) == by_meaning(0, 0) == by_words(0) == 0


def test_an_ordinary_word_counts_for_next_to_nothing_and_names_for_much() -> None:
    assert by_meaning(0.3, 0.2) < 0.33
    assert by_meaning(0.1, 1) > 0.6
