"""A snapshot saved to a file: whole, or nothing of it."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import grpc
import pytest
from sdk_story import PATIENCE_S, an_agent, background, eventually

from agentkeeper import AgentKeeperClient, AsyncAgentKeeperClient, errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import cluster, retry
from agentkeeper.core.snapshot import restore
from agentkeeper.testing import FakeKeeper


def snapshot_of(content):
    body = b"AKSNAP02" + content
    return body + hashlib.blake2b(body, digest_size=16).digest()


WHOLE = snapshot_of(bytes(range(256)) * 100)
SMALL = snapshot_of(b"x" * 40)
LOG_INDEX = 77


def pieces(data=WHOLE, size=1_000):
    for start in range(0, len(data), size):
        index = LOG_INDEX if start == 0 else 0
        yield pb.SnapshotPiece(data=data[start : start + size], log_index=index)


class Sender:
    """A stand-in for the daemon whose answers to SaveSnapshot are given one after the other."""

    def __init__(self, daemon, *answers):
        self.daemon = daemon
        self.answers = list(answers)
        daemon.answers["SaveSnapshot"] = self._answer

    def _answer(self, request, context):
        context.send_initial_metadata((("agentkeeper-index", "77"),))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        yield from answer(self.daemon, context)

    @property
    def asked(self):
        return sum(name == "SaveSnapshot" for name, _ in self.daemon.calls)


def whole(daemon, context):
    yield from pieces()


def breaks_off(daemon, context):
    yield from list(pieces())[:5]
    daemon.refuse(context, grpc.StatusCode.UNAVAILABLE, True, reason="shutting_down")


def ends_early(daemon, context):
    yield from list(pieces())[:5]


def flips_a_bit(daemon, context):
    yield from pieces(WHOLE[:500] + bytes([WHOLE[500] ^ 1]) + WHOLE[501:])


def other_file(daemon, context):
    yield pb.SnapshotPiece(data=b"PK" + hashlib.blake2b(b"PK", digest_size=16).digest())


def empty(daemon, context):
    yield from ()


@pytest.fixture
def folder(tmp_path: Path):
    """Where snapshots are saved: nothing else may be there in the end."""
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"saved"}


@pytest.fixture
def connect():
    clients = []

    def open_client(*daemons):
        endpoints = [daemon.address for daemon in daemons]
        clients.append(AgentKeeperClient(endpoints=endpoints, timeout=PATIENCE_S))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.mark.parametrize("size", [1, 7, 1_000, 10**6])
def test_it_is_written_as_it_comes(connect, daemons, folder, size):
    daemon = daemons()
    data = WHOLE if size > 1 else SMALL
    Sender(daemon, lambda daemon, context: pieces(data, size))
    saved = connect(daemon).save_snapshot(folder / "saved")
    assert (folder / "saved").read_bytes() == data
    assert (saved.log_index, saved.size_bytes) == (LOG_INDEX, len(data))
    assert saved.path == str(folder / "saved")
    assert (folder / "saved").stat().st_mode & 0o077 == 0, "tasks may hold secrets"


def test_it_replaces_what_was_there_only_when_it_is_whole(connect, daemons, folder):
    daemon, path = daemons(), folder / "saved"
    path.write_bytes(b"former")
    Sender(daemon, flips_a_bit)
    with pytest.raises(errors.Unavailable, match="checksum"):
        connect(daemon).save_snapshot(str(path))
    assert path.read_bytes() == b"former"
    Sender(daemon, whole)
    connect(daemon).save_snapshot(str(path))
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("broken", [breaks_off, ends_early, flips_a_bit, other_file, empty])
def test_what_does_not_arrive_whole_is_asked_for_anew(connect, daemons, folder, broken):
    daemon = daemons()
    sender = Sender(daemon, broken, broken, whole)
    assert connect(daemon).save_snapshot(folder / "saved").size_bytes == len(WHOLE)
    assert sender.asked == 3


def test_it_begins_anew_at_another_replica(connect, daemons, folder):
    one, other = Sender(daemons(), breaks_off), Sender(daemons(), breaks_off)
    client = connect(one.daemon, other.daemon)
    with pytest.raises(errors.Unavailable):
        client.save_snapshot(folder / "saved")
    assert min(one.asked, other.asked) >= cluster.BREAKS // 2
    other.answers = [whole]
    before = one.asked
    assert client.save_snapshot(folder / "saved").size_bytes == len(WHOLE)
    assert one.asked <= before + 1


def test_it_gives_up_after_some_attempts(connect, daemons, folder):
    sender = Sender(daemons(), breaks_off)
    with pytest.raises(errors.Unavailable, match="broke off"):
        connect(sender.daemon).save_snapshot(folder / "saved")
    assert sender.asked == cluster.BREAKS


def has_no_room(daemon, context):
    yield from ()
    daemon.refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, True, reason="overloaded")


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(retry, "MAX_PAUSE_S", 0.002)


@pytest.mark.parametrize("timeout", [None, PATIENCE_S])
def test_room_is_waited_for_however_often_there_is_none(
    connect, daemons, folder, short_pauses, timeout
):
    times = 3 * cluster.BREAKS
    sender = Sender(daemons(), *[has_no_room] * times, breaks_off, *[has_no_room] * times, whole)
    saved = connect(sender.daemon).save_snapshot(folder / "saved", timeout=timeout)
    assert saved.size_bytes == len(WHOLE)
    assert sender.asked == 2 * times + 2


@pytest.mark.parametrize("timeout", [None, 0.5])
def test_room_is_waited_for_until_the_time_is_over(daemons, folder, short_pauses, timeout):
    sender = Sender(daemons(), has_no_room)
    patience_s = 0.5 if timeout is None else PATIENCE_S
    client = AgentKeeperClient(endpoints=[sender.daemon.address], timeout=patience_s)
    with client, pytest.raises(errors.Overloaded, match="no replica had room") as caught:
        client.save_snapshot(folder / "saved", timeout=timeout)
    assert caught.value.reason == "overloaded"


def test_a_replica_that_has_no_room_is_left_for_another(connect, daemons, folder):
    full, other = Sender(daemons(), has_no_room), Sender(daemons(), breaks_off, whole)
    client = connect(full.daemon, other.daemon)
    for _ in range(2):
        assert client.save_snapshot(folder / "saved").size_bytes == len(WHOLE)


def test_a_replica_that_cannot_yet_is_left_for_another(connect, daemons, folder):
    old, new = daemons(), Sender(daemons(), whole)
    old.answers["SaveSnapshot"] = lambda r, c: c.abort(grpc.StatusCode.UNIMPLEMENTED, "what?")
    for _ in range(6):  # which is asked first is drawn by lot
        with AgentKeeperClient(endpoints=[old.address, new.daemon.address]) as client:
            assert client.save_snapshot(folder / "saved").size_bytes == len(WHOLE)
    with pytest.raises(errors.Refused) as caught:
        connect(old).save_snapshot(folder / "saved")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(("stale", "said"), [(False, None), (True, "stale")])
def test_the_latest_state_is_asked_for_unless_any_will_do(connect, daemons, folder, stale, said):
    sender = Sender(daemons(), whole)
    connect(sender.daemon).save_snapshot(folder / "saved", stale=stale)
    (asked,) = (told for name, told in sender.daemon.calls if name == "SaveSnapshot")
    assert asked.get("agentkeeper-consistency") == said


def test_a_refusal_is_told_at_once(connect, daemons, folder):
    def refuses(daemon, context):
        yield from list(pieces())[:2]
        daemon.refuse(context, grpc.StatusCode.PERMISSION_DENIED, True, reason="no")

    sender = Sender(daemons(), refuses)
    with pytest.raises(errors.PermissionDenied):
        connect(sender.daemon).save_snapshot(folder / "saved")
    assert sender.asked == 1


def test_a_folder_that_is_not_there_is_an_error_of_the_files(connect, daemons, folder):
    sender = Sender(daemons(), whole)
    with pytest.raises(FileNotFoundError):
        connect(sender.daemon).save_snapshot(folder / "none" / "saved")


def test_a_full_disk_is_an_error_of_the_files(connect, daemons, folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, os.strerror(28))

    sender = Sender(daemons(), whole)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        connect(sender.daemon).save_snapshot(folder / "saved")


class Stalling:
    """Sends some and then nothing, until it is let go."""

    def __init__(self):
        self.go_on = threading.Event()

    def __call__(self, daemon, context):
        yield from list(pieces())[:3]
        self.go_on.wait(PATIENCE_S)


def test_a_timeout_bounds_it_all(connect, daemons, folder):
    stalling = Stalling()
    sender = Sender(daemons(), stalling)
    with pytest.raises(errors.Unavailable) as caught:
        connect(sender.daemon).save_snapshot(folder / "saved", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stalling.go_on.set()


def test_a_silent_stream_is_left_for_another(daemons, folder):
    stalling = Stalling()
    sender = Sender(daemons(), stalling, whole)
    with AgentKeeperClient(endpoints=[sender.daemon.address], timeout=0.5) as client:
        assert client.save_snapshot(folder / "saved").size_bytes == len(WHOLE)
    assert sender.asked == 2
    stalling.go_on.set()


async def test_cancelling_leaves_nothing_behind(daemons, folder):
    stalling = Stalling()
    sender = Sender(daemons(), stalling)
    async with AsyncAgentKeeperClient(endpoints=[sender.daemon.address]) as client:
        saving = asyncio.ensure_future(client.save_snapshot(folder / "saved"))
        while not any(folder.iterdir()):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    await asyncio.to_thread(eventually, lambda: not any(folder.iterdir()), "it is gone")
    stalling.go_on.set()


def test_closing_the_client_leaves_nothing_behind(connect, daemons, folder):
    stalling = Stalling()
    sender = Sender(daemons(), stalling)
    client = connect(sender.daemon)
    saving = background(lambda: client.save_snapshot(folder / "saved"))
    eventually(lambda: any(folder.iterdir()), "it is being saved")
    client.close()
    with pytest.raises(errors.ClientClosed):
        saving.result(PATIENCE_S)
    eventually(lambda: not any(folder.iterdir()), "it is gone")
    stalling.go_on.set()


def test_the_fake_keeper_saves_what_can_be_restored(fake_keeper: FakeKeeper, folder):
    client = fake_keeper.client()
    client.acquire_lease("job", an_agent(client).agent_id)
    saved = client.save_snapshot(folder / "saved")
    state, log_index = restore((folder / "saved").read_bytes())
    assert log_index == saved.log_index
    assert list(state.leases) == ["job"]
