"""A cluster of one, stepped by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, Role
from agentkeeper.consensus.raft import HardenedRaft


class Listener:
    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.roles: list[tuple[Role, int, str | None]] = []
        self.restored_at: list[tuple[int, bytes]] = []
        self.wanted = 0
        self.failure: str | None = None
        self.raise_at: bytes | None = None

    def committed(self, index: int, term: int, payload: bytes) -> None:
        if payload == self.raise_at:
            raise ValueError("broken")
        self.entries.append((index, payload))

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        self.restored_at.append((index, snapshot))

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        self.roles.append((role, term, leader_id))

    def received(self, sender_id: str, payload: bytes) -> None:
        raise AssertionError("nobody else is there")

    def snapshot_wanted(self) -> None:
        self.wanted += 1

    def failed(self, reason: str) -> None:
        self.failure = reason


Make = Callable[..., tuple[RaftEngine, Listener]]


@pytest.fixture
def make() -> Iterator[Make]:
    engines: list[RaftEngine] = []

    def open_engine(
        data_dir: Path | None = None, **settings: object
    ) -> tuple[RaftEngine, Listener]:
        engine, listener = RaftEngine(RaftConfig("a", data_dir, **settings)), Listener()
        engine.open(listener)
        engines.append(engine)
        return engine, listener

    yield open_engine
    for engine in engines:
        engine.stop()


def propose(engine: RaftEngine, payload: bytes, timeout_s: float = 30.0) -> list[Outcome]:
    outcomes: list[Outcome] = []
    engine.propose(payload, timeout_s, outcomes.append)
    return outcomes


def lead(engine: RaftEngine) -> None:
    engine.step()  # stores that it leads, and its no-op
    engine.step()  # commits that


def propose_and_step(engine: RaftEngine, payload: bytes = b"again") -> list[Outcome]:
    outcomes = propose(engine, payload)
    engine.step()
    engine.step()
    return outcomes


def save(engine: RaftEngine, index: int) -> None:
    engine.save_snapshot(index, [b"state"])
    engine.step()  # writes it
    engine.step()  # trims the log


def raft_of(engine: RaftEngine) -> HardenedRaft:
    assert engine._raft is not None
    return engine._raft
