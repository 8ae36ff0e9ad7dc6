"""One Raft engine as a process of its own, told what to do by lines of JSON on standard input."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, Role
from benchmarks.bare_path import bare_path

TIMEOUT_S = 10.0
_STATE = bytes(2**20)
INTERLEAVE = 50
"""Operations of one kind before the next kind has its turn, so that noise meets all alike."""


class _Listener:
    """Has a state of constant size, and nothing to do but to give snapshots of it."""

    def __init__(self) -> None:
        self.engine: RaftEngine
        self._index = 0

    def committed(self, index: int, term: int, payload: bytes) -> None:
        self._index = index

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        pass

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        pass

    def received(self, sender_id: str, payload: bytes) -> None:
        pass

    def snapshot_wanted(self) -> None:
        self.engine.save_snapshot(self._index, [_STATE])

    def failed(self, reason: str) -> None:
        logging.error("%s", reason)
        os._exit(1)


class EngineProcess:
    """Answers each request with one line."""

    def __init__(self, config: RaftConfig) -> None:
        self._folder = config.data_dir
        self._engine = RaftEngine(config)
        listener = _Listener()
        listener.engine = self._engine
        self._engine.start(listener)

    def answer(self, request: dict[str, Any]) -> Any:
        """Do what is asked, by the name of a method."""
        return getattr(self, f"do_{request.pop('do')}")(**request)

    def do_status(self) -> dict[str, Any]:
        """Where this replica stands."""
        status = self._engine.status()
        return {
            "role": status.role.value,
            "term": status.term,
            "voter": status.voter,
            "durable": status.durable_index,
            "delivered": status.delivered_index,
            "last": status.last_log_index,
        }

    def do_latency(self, size: int, count: int, echo: tuple[str, int]) -> dict[str, list[float]]:
        """Proposals one by one, the two things none can be faster than, and the bare way."""
        payload = bytes(size)
        assert self._folder is not None
        descriptor = os.open(self._folder / "limit", os.O_CREAT | os.O_RDWR)
        with (
            socket.create_connection(echo) as peer,
            bare_path(self._folder, size) as bare,
        ):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kinds: list[tuple[str, Callable[[int], None]]] = [
                ("proposal", lambda number: self._propose_and_wait(payload)),
                ("fdatasync", lambda number: _append_and_sync(descriptor, payload, number)),
                ("round_trip", lambda number: _ping(peer, payload)),
                ("bare", lambda number: bare.store(payload)),
            ]
            spans: dict[str, list[float]] = {name: [] for name, _ in kinds}
            for start in range(0, count, INTERLEAVE):
                for name, once in kinds:
                    for number in range(start, start + INTERLEAVE):
                        began_s = time.perf_counter()
                        once(number)
                        spans[name].append(time.perf_counter() - began_s)
        os.close(descriptor)
        return {name: sorted(times) for name, times in spans.items()}

    def do_throughput(
        self, commands: int, command_bytes: int, under_way: int, seconds: float
    ) -> float:
        """Commands per second, in entries of `commands` each."""
        began_s = time.perf_counter()
        committed = self._flood(
            bytes(commands * command_bytes),
            under_way,
            lambda: time.perf_counter() - began_s < seconds,
        )
        return committed * commands / (time.perf_counter() - began_s)

    def do_entries(self, count: int, size: int, under_way: int) -> int:
        """Commit `count` entries, and give how many were."""
        left = iter(range(count))
        return self._flood(bytes(size), under_way, lambda: next(left, None) is not None)

    def _flood(self, payload: bytes, under_way: int, more: Callable[[], bool]) -> int:
        committed = 0
        free = threading.Semaphore(under_way)

        def ended(outcome: Outcome) -> None:
            nonlocal committed
            committed += outcome is Outcome.COMMITTED
            free.release()

        while more():
            free.acquire()
            self._engine.propose(payload, TIMEOUT_S, ended)
        for _ in range(under_way):
            free.acquire()
        return committed

    def do_append(self, count: int, size: int) -> None:
        """Propose `count` entries without waiting for any."""
        for _ in range(count):
            self._engine.propose(bytes(size), TIMEOUT_S, lambda outcome: None)

    def do_propose(self, size: int) -> str:
        """Propose one entry and say how it ended."""
        return self._propose(bytes(size)).value

    def do_stop(self) -> None:
        """Stop cleanly."""
        self._engine.stop()

    def _propose_and_wait(self, payload: bytes) -> None:
        outcome = self._propose(payload)
        if outcome is not Outcome.COMMITTED:
            raise RuntimeError(f"a proposal was {outcome.value}")

    def _propose(self, payload: bytes) -> Outcome:
        done = threading.Event()
        outcomes: list[Outcome] = []

        def ended(outcome: Outcome) -> None:
            outcomes.append(outcome)
            done.set()

        self._engine.propose(payload, TIMEOUT_S, ended)
        done.wait()
        return outcomes[0]


def _append_and_sync(descriptor: int, payload: bytes, number: int) -> None:
    os.pwrite(descriptor, payload, number * len(payload))
    os.fdatasync(descriptor)


def _ping(peer: socket.socket, payload: bytes) -> None:
    peer.sendall(payload)
    left = len(payload)
    while left:
        left -= len(peer.recv(left))


def main() -> None:
    """Serve requests until standard input ends."""
    settings = json.loads(sys.argv[1])
    config = RaftConfig(
        node_id=settings["node_id"],
        data_dir=Path(settings["data_dir"]),
        peers=settings["peers"],
        secret=settings["secret"],
    )
    process = EngineProcess(config)
    for line in _lines():
        print(json.dumps(process.answer(json.loads(line))), flush=True)


def _lines() -> Iterator[str]:
    while line := sys.stdin.readline():
        yield line


if __name__ == "__main__":
    main()
