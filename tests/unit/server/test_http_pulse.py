"""What all pages are told is gathered and encoded once."""

from __future__ import annotations

import asyncio
import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper.server.http.pulse import HISTORY, OLD_S, PLOTTED, Pulse


class Api:
    """Its clock goes on by a second each time that it is looked at for a sample."""

    def __init__(self) -> None:
        self.wall_ms = 0

    async def ask(self, route: Any, request: object) -> dict[str, Any]:
        return {"path": route.path}

    def as_of(self) -> dict[str, Any]:
        return {"wall_ms": self.wall_ms}


@pytest.fixture
def api() -> Any:
    return Api()


@pytest.fixture
def pulse(api: Any) -> Pulse:
    machine: Any = SimpleNamespace(on_applied=[], on_restored=[])
    numbers = itertools.count()

    def figures() -> dict[str, Any]:
        unknown = {"call_p50_ms": None}
        return dict.fromkeys((*PLOTTED, "another"), next(numbers) + 1 / 3) | unknown

    return Pulse(api, machine, figures)


async def sample(pulse: Pulse, api: Any, times: int) -> None:
    for _ in range(times):
        api.wall_ms += 1_000
        await pulse.sample()


def points(data: bytes) -> list[dict[str, Any]]:
    kind, text = data.decode().rstrip("\n").split("\n")
    assert kind == "event: history"
    told: list[dict[str, Any]] = json.loads(text.removeprefix("data: "))["points"]
    return told


async def test_points_are_what_is_plotted_and_no_more(pulse: Pulse, api: Any) -> None:
    assert points(pulse.history()) == []
    await sample(pulse, api, 1)
    (point,) = points(pulse.history())
    assert set(point) == {"wall_ms", *PLOTTED}
    assert point["commands_per_s"] == 0.33
    assert point["call_p50_ms"] is None


async def test_all_who_look_between_two_samples_are_sent_the_same_bytes(
    pulse: Pulse, api: Any
) -> None:
    await sample(pulse, api, 3)
    assert pulse.history() is pulse.history()
    first = pulse.history(), pulse.latest
    await sample(pulse, api, 1)
    assert pulse.history() is not first[0]
    assert pulse.latest is not first[1]
    assert len(points(pulse.history())) == 4


async def test_a_sample_grows_old(pulse: Pulse, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await sample(pulse, api, 1)
    assert not pulse.is_old()
    loop = asyncio.get_running_loop()
    later_s = loop.time() + OLD_S + 1
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: SimpleNamespace(time=lambda: later_s))
    assert pulse.is_old()


async def test_who_has_points_is_sent_later_ones(pulse: Pulse, api: Any) -> None:
    await sample(pulse, api, HISTORY + 10)
    walls = [p["wall_ms"] for p in points(pulse.history())]
    assert walls == [1_000 * (i + 1) for i in range(10, HISTORY + 10)]
    for since_ms in (0, 5_000, walls[0], walls[-3], walls[-1], 10**9):
        later = [p["wall_ms"] for p in points(pulse.history(since_ms))]
        assert later == [wall_ms for wall_ms in walls if wall_ms > since_ms]
