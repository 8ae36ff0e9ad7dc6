from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checkers.linearizability import Call, check
from chaos.history import FOREVER_NS


class Do(NamedTuple):
    """Of a register: write `value`; read it; or set it to `value` where it was `expected`."""

    kind: str
    value: int
    expected: int = 0


def step(state: int, call: Call[Do]) -> tuple[int, ...]:
    do = call.what
    match do.kind:
        case "write":
            return (do.value,)
        case "read":
            return (state,) if state == do.value else ()
        case "scribble":  # nondeterministic: one of two values
            return (do.value, do.expected)
    return (do.value,) if state == do.expected else ()


def make(start_ns: int, end_ns: int, kind: str, value: int, expected: int = 0) -> Call[Do]:
    return Call(start_ns, end_ns, Do(kind, value, expected), None, kind == "read")


def holds(calls: list[Call[Do]], budget: int = 100_000) -> bool:
    result = check(calls, 0, step, budget)
    assert not result.undecided
    return result.blocked is None


def brute_force(calls: list[Call[Do]]) -> bool:
    """Try all orders, with and without those that need not take effect."""
    must = [call for call in calls if not call.optional]
    may = [call for call in calls if call.optional]
    for count in range(len(may) + 1):
        for some in itertools.combinations(may, count):
            for order in itertools.permutations([*must, *some]):
                in_time = all(a.start_ns <= b.end_ns for a, b in itertools.combinations(order, 2))
                if in_time and _allowed(order):
                    return True
    return False


def _allowed(order: tuple[Call[Do], ...]) -> bool:
    states = {0}
    for call in order:
        states = {following for state in states for following in step(state, call)}
    return bool(states)


@st.composite
def _calls(draw: st.DrawFn) -> list[Call[Do]]:
    calls = []
    for _ in range(draw(st.integers(1, 6))):
        start_ns = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(["write", "read", "swap", "scribble"]))
        lasts = draw(st.integers(0, 8))
        unknown = kind != "read" and draw(st.integers(0, 3)) == 0
        end_ns = FOREVER_NS if unknown else start_ns + lasts
        value, expected = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        calls.append(make(start_ns, end_ns, kind, value, expected))
    return calls


@settings(max_examples=1500, deadline=None)
@given(_calls())
def test_it_agrees_with_trying_all_orders(calls: list[Call[Do]]) -> None:
    assert holds(calls) == brute_force(calls)


def _run(rng: random.Random, length: int, wide: int = 40) -> list[Call[Do]]:
    """A sequential run, a call every 10 ns, made concurrent by widening them."""
    state, calls = 0, []
    for number in range(length):
        at_ns = 1_000 + 10 * number
        start_ns, end_ns = at_ns - rng.randrange(wide), at_ns + rng.randrange(wide)
        kind = rng.choice(["write", "read", "read", "swap", "read"])
        if kind == "read":
            calls.append(make(start_ns, end_ns, "read", state))
            continue
        value = number + 1
        calls.append(make(start_ns, end_ns, kind, value, state))
        if rng.random() < 0.05:
            calls[-1].end_ns = FOREVER_NS
        state = value
    return calls


@pytest.mark.parametrize("seed", range(30))
def test_what_was_sequential_holds_however_its_calls_overlap(seed: int) -> None:
    assert holds(_run(random.Random(seed), 200))


def test_stale_reads_are_mostly_found() -> None:
    found = 0
    for seed in range(60):
        rng = random.Random(seed)
        calls = _run(rng, 100)
        place = rng.randrange(50, 100)
        victim = calls[place]
        written = [c.what.value for c in calls[: place - 20] if c.what.kind != "read"]
        calls[place] = make(victim.start_ns, victim.start_ns + 30, "read", written[-1])
        found += not holds(calls)
    assert found >= 55


def test_dropped_writes_are_mostly_found() -> None:
    found = 0
    for seed in range(60):
        rng = random.Random(seed)
        calls = _run(rng, 100)
        writes = [c for c in calls if c.what.kind != "read" and not c.optional]
        calls.remove(rng.choice(writes))
        found += not holds(calls)
    assert found >= 40


def test_swapped_answers_are_mostly_found() -> None:
    found = 0
    for seed in range(60):
        rng = random.Random(seed)
        calls = _run(rng, 100)
        reads = [c for c in calls if c.what.kind == "read"]
        one, other = reads[0], reads[-1]
        one.what, other.what = other.what, one.what
        found += not holds(calls)
    assert found >= 55


def test_a_write_that_changes_nothing_is_not_placed_too_early() -> None:
    # The write of 1 over 1 is what makes the last read right.
    calls = [
        make(0, 1, "write", 1),
        make(2, 20, "write", 1),
        make(3, 5, "read", 1),
        make(6, 8, "write", 2),
        make(9, 10, "read", 2),
        make(21, 22, "read", 1),
    ]
    assert holds(calls)


def test_calls_without_an_answer_take_effect_late_or_never() -> None:
    unknown = make(0, FOREVER_NS, "write", 7)
    assert holds([unknown, make(1, 2, "read", 0), make(50, 60, "read", 7)])
    assert holds([unknown, make(1, 2, "read", 0), make(50, 60, "read", 0)])
    late = [unknown, make(1, 2, "read", 7), make(3, 4, "read", 0)]
    assert not holds(late)
    assert not holds([make(1, 2, "read", 7), make(3, FOREVER_NS, "write", 7)])


def test_calls_of_the_same_moment_overlap() -> None:
    assert holds([make(0, 5, "write", 1), make(5, 9, "read", 0)])
    assert not holds([make(0, 5, "write", 1), make(6, 9, "read", 0)])


def test_a_violation_tells_how_far_it_got() -> None:
    calls = [make(0, 1, "write", 1), make(2, 3, "read", 1), make(4, 5, "read", 0)]
    result = check(calls, 0, step)
    assert result.blocked is calls[2]
    assert result.placed == 2
    assert result.states == [1]


def test_a_spent_budget_is_undecided_and_no_violation() -> None:
    result = check(_run(random.Random(1), 100), 0, step, budget=20)
    assert result.undecided
    assert result.blocked is None
    assert result.configurations == 21


def test_many_calls_need_few_configurations() -> None:
    looked_at = 0
    for seed in range(100):
        result = check(_run(random.Random(seed), 200, wide=50), 0, step)
        assert result.blocked is None
        looked_at += result.configurations
    assert looked_at < 20 * 100 * 200
