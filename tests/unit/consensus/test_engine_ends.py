"""However an engine ends, everybody is answered first and nothing happens afterwards."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import lone_engine
import pytest
from lone_engine import Listener, Make, propose, propose_and_step, raft_of
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome

make = lone_engine.make

PATIENCE_S = 30.0


class Running:
    """A cluster of one on its own threads, whose disk can hang while it stores a snapshot."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(random.Random(1))
        self.disk.before = self._before
        self.storing = threading.Event()
        self.go_on = threading.Event()
        self.tried_to_log = threading.Event()
        self.listener = Listener()
        self.failed = threading.Event()
        self.listener.failed = self._failed
        self.engine = RaftEngine(RaftConfig("a"), disk=self.disk)
        self.engine.start(self.listener)

    def _before(self, operation: str, name: str) -> None:
        if (operation, name) == ("sync", "snapshot.saved"):
            self.storing.set()
            self.go_on.wait()
        elif operation == "write" and name.endswith(".log"):
            self.tried_to_log.set()

    def _failed(self, reason: str) -> None:
        self.listener.failure = reason
        self.failed.set()

    def propose(self, payload: bytes = b"x") -> Answer:
        answer = Answer()
        self.engine.propose(payload, PATIENCE_S, answer.take)
        return answer

    def let_a_snapshot_hang(self) -> None:
        assert self.propose().wait() == [Outcome.COMMITTED]
        self.engine.save_snapshot(3, [b"state"])
        assert self.storing.wait(PATIENCE_S)

    def end(self) -> None:
        self.go_on.set()
        self.engine.stop()


class Answer:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._told = threading.Event()

    def take(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._told.set()

    def wait(self) -> list[Outcome]:
        assert self._told.wait(PATIENCE_S)
        return self.outcomes


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.end()


# --- while the disk hangs -------------------------------------------------------------------------
def test_a_failure_is_told_while_a_snapshot_still_hangs(running: Running) -> None:
    running.let_a_snapshot_hang()
    running.disk.fail_syncs = 1
    answer = running.propose()
    assert running.failed.wait(PATIENCE_S)
    assert answer.wait() == [Outcome.UNKNOWN]
    assert "the disk failed" in (running.listener.failure or "")
    assert running.propose().outcomes == [Outcome.REJECTED]
    assert not running.go_on.is_set()


def test_stop_answers_everybody_while_a_snapshot_still_hangs(running: Running) -> None:
    running.let_a_snapshot_hang()
    running.disk.capacity_bytes = running.disk.used_bytes
    running.tried_to_log.clear()
    answer = running.propose()
    assert running.tried_to_log.wait(PATIENCE_S)
    assert not answer.outcomes, "the disk is full"
    stopping = threading.Thread(target=running.engine.stop)
    stopping.start()
    assert answer.wait() == [Outcome.UNKNOWN]
    assert stopping.is_alive(), "it waits for what is being written"
    running.go_on.set()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    assert running.listener.failure is None


# --- nothing happens afterwards -------------------------------------------------------------------
def test_a_snapshot_stored_after_the_end_trims_nothing(make: Make) -> None:
    engine, listener = make()
    raft = raft_of(engine)
    jobs: list[Callable[[], None]] = []
    raft.snapshots._run = jobs.append
    propose_and_step(engine)
    engine.save_snapshot(2, [b"state"])
    engine.step()
    (job,) = jobs
    listener.raise_at = b"bad"
    propose_and_step(engine, b"bad")
    assert listener.failure is not None
    job()
    assert propose(engine, b"x") == [Outcome.REJECTED], "this does what was posted"
    assert (raft.snapshots.latest_index, raft.first_index) == (0, 1)


# --- stopping from within -------------------------------------------------------------------------
def stop_when_answered(running: Running) -> None:
    running.engine.propose(b"x", PATIENCE_S, lambda outcome: running.engine.stop())


def stop_when_told(running: Running) -> None:
    running.listener.committed = lambda index, term, payload: running.engine.stop()
    running.propose()


@pytest.mark.parametrize("stop", [stop_when_answered, stop_when_told])
def test_stop_from_a_callback_ends_the_engine_cleanly(
    running: Running, stop: Callable[[Running], None]
) -> None:
    thread = running.engine._thread
    assert thread is not None
    stop(running)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert running.listener.failure is None
    assert running.propose().wait() == [Outcome.REJECTED]
    again = RaftEngine(RaftConfig("a"), disk=running.disk)
    listener = Listener()
    again.open(listener)
    for _ in range(3):
        again.step()
    again.stop()
    assert [payload for _, payload in listener.entries] == [b"x"]
