"""The cluster clock."""

from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.server.clock import STALL_MS, ClusterClock


class Times:
    def __init__(self) -> None:
        self.monotonic_s, self.wall_ms = 1_000.0, 50
        self.clock = ClusterClock(lambda: self.monotonic_s, lambda: self.wall_ms)


def test_runs_on_from_the_time_of_the_state() -> None:
    times = Times()
    times.clock.start(7_000)
    assert times.clock.now_ms() == 7_000
    times.monotonic_s += 0.25
    assert times.clock.now_ms() == 7_250


def test_does_not_count_the_time_before_it_was_started() -> None:
    times = Times()
    times.clock.start(0)
    times.monotonic_s += 0.125
    assert times.clock.now_ms() == 125
    # Somebody else led for a while: less than a stall, and more.
    for away_s in (0.2, 60.0):
        times.monotonic_s += away_s
        times.clock.start(125)
        assert times.clock.now_ms() == 125


def test_a_span_of_standing_still_does_not_count() -> None:
    times = Times()
    times.clock.start(1_000)
    times.monotonic_s += STALL_MS / 1000 + 0.25
    assert times.clock.now_ms() == 1_000
    times.monotonic_s += 0.25
    assert times.clock.now_ms() == 1_250


def test_the_wall_clock_never_touches_it() -> None:
    times = Times()
    times.clock.start(1_000)
    for wall_ms in (10**15, -5, 0):
        times.wall_ms = wall_ms
        assert times.clock.stamp() == (1_000, wall_ms)
        assert times.clock.wall_ms() == wall_ms


def test_notes_the_time_last_stamped() -> None:
    times = Times()
    times.clock.start(1_000)
    times.monotonic_s += 0.25
    times.clock.stamp()
    times.monotonic_s += 0.25
    assert times.clock.now_ms() == 1_500
    assert times.clock.stamped_ms == 1_250


def test_stands_still_until_it_is_started() -> None:
    times = Times()
    for _ in range(3):
        times.monotonic_s += 0.25
        assert times.clock.now_ms() == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["look", "stamp", "start"]),
            st.floats(-10, 10, allow_nan=False),
            st.integers(0, 10_000),
        )
    )
)
def test_never_runs_backwards_nor_faster_than_the_monotonic_clock(
    steps: list[tuple[str, float, int]],
) -> None:
    times = Times()
    times.clock.start(0)
    last = 0
    for what, passed_s, state_ms in steps:
        times.monotonic_s += passed_s
        allowed = last + max(0.0, passed_s * 1000) + 1
        if what == "start":
            last = max(last, state_ms)  # the state's time never falls behind what was stamped
            times.clock.start(last)
            allowed = last
        now_ms = times.clock.stamp()[0] if what == "stamp" else times.clock.now_ms()
        assert last <= now_ms <= allowed
        last = now_ms
