"""Replicas whose folders begin with a snapshot, and with whom they begin a cluster."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path

import one_replica
import pytest
from one_replica import Replica
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import restored
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.disk import OsFile
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Role, StartError
from agentkeeper.consensus.snapshot_file import Snapshot
from agentkeeper.consensus.storage import make_storage

clock = one_replica.clock
make = one_replica.make

Make = Callable[..., Replica]

FROM = "from-0123"
OTHER = "from-4567"


@pytest.fixture
def restore(make: Make) -> Callable[..., Replica]:
    """Makes a replica that was restored from `FROM` at index 40."""

    def new(node_id: str = "a", **settings: object) -> Replica:
        disk = SimulatedDisk(random.Random(0))
        config = RaftConfig(node_id, peers=dict.fromkeys("abc", "localhost:1"))
        snapshot = Snapshot(40, restored.TERM, b"the state")
        make_storage(disk, config, f"{FROM}.{node_id}", snapshot).close()
        made = make(disk, node_id, new=True, **settings)
        assert made.raft.delivered_index == made.raft.last_index == 40
        return made

    return new


def meet(replica: Replica, peer: str, incarnation: str, **founders: str) -> None:
    standing = "voter" if founders else "new"
    said = {"incarnation": incarnation, "standing": standing, "founders": founders}
    replica.receive(peer, type="introduction", **said)


def test_all_that_were_restored_from_the_same_begin_a_cluster(
    restore: Callable[..., Replica],
) -> None:
    replica = restore()
    meet(replica, "b", f"{FROM}.b")
    assert not replica.raft.votes
    meet(replica, "c", f"{FROM}.c")
    assert replica.raft.votes
    assert replica.raft.ballot.founders == {name: f"{FROM}.{name}" for name in "abc"}
    for peer in "bc":
        replica.introduce(peer, "voter", dict(replica.raft.ballot.founders))
    replica.lead()
    assert replica.raft.term > restored.TERM
    assert replica.raft.role is Role.LEADER


@pytest.mark.parametrize("other", [f"{OTHER}.c", "of c"])
def test_one_that_begins_with_something_else_is_no_founder(
    restore: Callable[..., Replica], other: str
) -> None:
    for bootstrap, votes in ((False, False), (True, True)):
        replica = restore(bootstrap=bootstrap)
        meet(replica, "c", other)
        assert not replica.raft.votes
        meet(replica, "b", f"{FROM}.b")
        assert replica.raft.votes is votes
        assert set(replica.raft.ballot.founders) == (set("ab") if votes else set())


def test_new_replicas_that_cannot_begin_together_say_why(
    make: Make, restore: Callable[..., Replica]
) -> None:
    def trouble(replica: Replica, **incarnations: str) -> str:
        for peer, incarnation in incarnations.items():
            meet(replica, peer, incarnation)
        return replica.raft.trouble

    waits = "it is new, and waits for the other replicas to begin a cluster with or to join"
    assert trouble(restore()) == waits
    assert trouble(restore(), b=f"{FROM}.b") == waits
    assert "restored from another file than b, c: restore" in trouble(
        restore(), b=f"{OTHER}.b", c=f"{OTHER}.c"
    )
    assert "restored from another file than c: restore" in trouble(
        restore(), b="of b", c=f"{OTHER}.c"
    )
    unlike = trouble(restore(), b=f"{FROM}.b", c="of c")
    assert "restored from a snapshot, unlike c: restore all" in unlike
    assert "--bootstrap" in unlike
    assert trouble(make(new=True), b="of b") == waits
    assert "it came empty, unlike b, c: restore all" in trouble(
        make(new=True), b=f"{FROM}.b", c=f"{FROM}.c"
    )


def test_trouble_with_one_goes_with_its_link(restore: Callable[..., Replica]) -> None:
    replica = restore()
    meet(replica, "c", f"{OTHER}.c")
    assert "another file" in replica.raft.trouble
    replica.cut("c")
    assert "another file" not in replica.raft.trouble


def test_one_that_is_empty_founds_nothing_with_those_that_were_restored(make: Make) -> None:
    empty = make(new=True, bootstrap=True)
    for peer in "bc":
        meet(empty, peer, f"{FROM}.{peer}")
    assert not empty.raft.votes
    meet(empty, "b", f"{FROM}.b", b=f"{FROM}.b", c=f"{FROM}.c")
    assert empty.raft.standing.value == "learner"


def test_one_restored_from_the_same_may_join_late(restore: Callable[..., Replica]) -> None:
    replica = restore()
    meet(replica, "b", f"{FROM}.b", b=f"{FROM}.b", c=f"{FROM}.c")
    assert replica.raft.standing.value == "learner"
    assert replica.listener.failure is None


@pytest.mark.parametrize("founder", [f"{OTHER}.b", "of b"])
def test_one_that_finds_another_cluster_stops(
    restore: Callable[..., Replica], founder: str
) -> None:
    replica = restore()
    replica.raft._poller.poll = lambda timeout: meet(replica, "b", founder, b=founder, c="c")
    replica.engine.step()
    assert "remove the folder and start empty" in str(replica.listener.failure)
    assert not replica.raft.ballot.founders


def test_a_folder_is_made_whole_and_only_where_nothing_is(tmp_path: Path) -> None:
    config = RaftConfig("a", tmp_path / "new")
    restored.make_folder(config, 40, b"the state", lambda: "drawn")
    incarnation = json.loads((tmp_path / "new" / "identity.json").read_text())["incarnation"]
    assert restored.origin(incarnation)
    restored.make_folder(RaftConfig("a", tmp_path / "twin"), 40, b"the state", lambda: "else")
    twin = json.loads((tmp_path / "twin" / "identity.json").read_text())["incarnation"]
    assert twin != incarnation
    assert restored.origin(twin) == restored.origin(incarnation)
    with pytest.raises(StartError, match="not empty"):
        restored.make_folder(config, 41, b"another", lambda: "drawn")
    with pytest.raises(StartError, match="data folder only"):
        restored.make_folder(RaftConfig("a"), 40, b"the state")

    told: list[tuple[int, int, bytes]] = []

    class Listener(one_replica.Ignorant):
        def restored(self, *snapshot: object) -> None:
            told.append(snapshot)  # type: ignore[arg-type]

    engine = RaftEngine(config)
    engine.open(Listener())  # type: ignore[arg-type]
    while engine.status().role is not Role.LEADER:
        engine.step()
    assert told == [(40, restored.TERM, b"the state")]
    assert engine.status().last_log_index == 41
    engine.stop()


@pytest.mark.parametrize("folder", ["lost+found", "model", "search", ".model-x1y2"])
def test_a_fresh_volume_and_what_search_keeps_count_as_empty(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    restored.make_folder(RaftConfig("a", tmp_path), 40, b"the state", lambda: "drawn")
    assert (tmp_path / "identity.json").exists()


@pytest.mark.parametrize("room_bytes", [0, 20, 100, 3_000, 60_000])
def test_what_was_made_of_a_folder_goes_when_the_rest_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_bytes: int
) -> None:
    (tmp_path / "lost+found").mkdir()
    payload = bytes(100_000)
    written = 0

    def write(file: OsFile, offset: int, data: bytes) -> None:
        nonlocal written
        written += len(data)
        if written > room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(file, offset, data)

    original = OsFile.write
    with monkeypatch.context() as patch:
        patch.setattr(OsFile, "write", write)
        with pytest.raises(StartError, match=r"full|No space"):
            restored.make_folder(RaftConfig("a", tmp_path), 40, payload, lambda: "drawn")
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "lost+found"}
    restored.make_folder(RaftConfig("a", tmp_path), 40, payload, lambda: "drawn")


def test_one_made_empty_has_no_origin() -> None:
    assert restored.origin("0123456789abcdef") == ""
