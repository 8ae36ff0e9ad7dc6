"""A cluster of one: no network, so every rule of the port can be looked at closely."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkeeper.consensus import limits
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, Role, StartError


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
        engine, listener = RaftEngine(RaftConfig("a", data_dir, **settings)), Listener()  # type: ignore[arg-type]
        engine.open(listener)
        engines.append(engine)
        return engine, listener

    yield open_engine
    for engine in engines:
        engine.stop()


def propose(engine: RaftEngine, payload: bytes, timeout_s: float = 1.0) -> list[Outcome]:
    outcomes: list[Outcome] = []
    engine.propose(payload, timeout_s, outcomes.append)
    return outcomes


def test_leads_within_the_first_step(make: Make) -> None:
    engine, listener = make()
    engine.step()
    assert listener.roles == [(Role.LEADER, 1, "a")]
    assert engine.status().leader_id == "a"


def test_commits_within_one_step_and_tells_the_listener_first(make: Make) -> None:
    engine, listener = make()
    engine.step()
    heard: list[int] = []
    engine.propose(b"x", 1.0, lambda outcome: heard.append(len(listener.entries)))
    engine.step()
    assert heard == [1]
    assert listener.entries == [(3, b"x")]


def test_a_read_is_answered_within_one_step(make: Make) -> None:
    engine, _ = make()
    engine.step()
    results: list[int | None] = []
    engine.read_index(1.0, results.append)
    engine.step()
    assert results == [2]


def test_rejects_what_it_has_not_appended(make: Make) -> None:
    engine, listener = make()
    engine.step()
    expired = propose(engine, b"late", timeout_s=-1.0)
    huge = propose(engine, bytes(limits.MAX_PAYLOAD_BYTES + 1))
    many = [propose(engine, b"m") for _ in range(limits.MAX_OPEN_PROPOSALS + 1)]
    engine.step()
    assert expired == huge == [Outcome.REJECTED]
    assert many.count([Outcome.REJECTED]) >= 1
    assert len(listener.entries) == many.count([Outcome.COMMITTED])
    assert propose_and_step(engine) == [Outcome.COMMITTED]


def propose_and_step(engine: RaftEngine) -> list[Outcome]:
    outcomes = propose(engine, b"again")
    engine.step()
    return outcomes


def test_answers_after_the_end(make: Make) -> None:
    engine, _ = make()
    engine.stop()
    results: list[int | None] = []
    engine.read_index(1.0, results.append)
    assert propose(engine, b"x") == [Outcome.REJECTED]
    assert results == [None]
    assert not engine.send("b", b"x")


def test_a_raising_listener_stops_the_engine(make: Make) -> None:
    engine, listener = make()
    listener.raise_at = b"bad"
    engine.step()
    first, bad, after = (propose(engine, payload) for payload in (b"ok", b"bad", b"after"))
    engine.step()
    assert listener.failure is not None
    assert "broken" in listener.failure
    assert first == [Outcome.COMMITTED]
    assert bad == after == [Outcome.UNKNOWN]
    assert propose(engine, b"more") == [Outcome.REJECTED]


def test_a_raising_callback_harms_nothing(make: Make) -> None:
    engine, listener = make()
    engine.step()

    def raising(outcome: Outcome) -> None:
        raise ValueError(outcome)

    engine.propose(b"x", 1.0, raising)
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]
    assert [payload for _, payload in listener.entries] == [b"x", b"again"]


@pytest.mark.parametrize("stored", [True, False])
def test_a_snapshot_bounds_the_log_and_keeps_what_follows(
    make: Make, tmp_path: Path, stored: bool
) -> None:
    folder = tmp_path / "data" if stored else None
    engine, listener = make(folder, snapshot_entries=10)
    for number in range(20):
        propose(engine, b"%d" % number)
        engine.step()
    assert listener.wanted == 1
    engine.save_snapshot(15, b"state")
    engine.step()
    raft = engine._raft
    assert raft is not None
    assert (raft.first_index, raft.last_index) == (15, 21)
    if folder is None:
        return
    engine.stop()
    engine, again = make(folder)
    engine.step()
    assert again.restored_at == [(15, b"state")]
    assert again.entries == [entry for entry in listener.entries if entry[0] > 15]


def test_a_crash_between_snapshot_and_trim_loses_nothing(make: Make, tmp_path: Path) -> None:
    engine, listener = make(tmp_path / "data")
    for number in range(20):
        propose(engine, b"%d" % number)
        engine.step()
    shutil.copytree(tmp_path / "data", tmp_path / "before")
    engine.save_snapshot(15, b"state")
    engine.step()
    shutil.copy(tmp_path / "data" / "snapshot", tmp_path / "before")
    engine, again = make(tmp_path / "before")
    engine.step()
    assert again.restored_at == [(15, b"state")]
    assert again.entries == [entry for entry in listener.entries if entry[0] > 15]


def test_refuses_a_damaged_snapshot(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)
    engine.save_snapshot(3, b"state")
    engine.step()
    engine.stop()
    data = bytearray((tmp_path / "snapshot").read_bytes())
    data[-1] ^= 1
    (tmp_path / "snapshot").write_bytes(data)
    with pytest.raises(StartError, match="checksum"):
        make(tmp_path)
    (tmp_path / "snapshot").unlink()
    with pytest.raises(StartError, match="log begins at entry 3"):
        make(tmp_path)


def test_refuses_a_folder_in_use_or_of_another_replica(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    with pytest.raises(StartError, match="in use by another process"):
        make(tmp_path)
    engine.stop()
    with pytest.raises(StartError, match="belongs to replica 'a'"):
        make(tmp_path, peers={"a": "localhost:7400", "b": "localhost:7401"})


def test_refuses_a_log_it_cannot_read(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    engine.stop()
    (tmp_path / "log").write_bytes(b"")
    with pytest.raises(StartError, match="cannot be read"):
        make(tmp_path)


def test_the_same_entries_come_again_after_a_restart(make: Make, tmp_path: Path) -> None:
    engine, listener = make(tmp_path)
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]
    engine.stop()
    engine, again = make(tmp_path)
    engine.step()
    assert again.entries == listener.entries
    assert again.roles == [(Role.LEADER, 2, "a")]
