"""The disk that simulations use: what it keeps, loses and refuses."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest
from simulated_disk import SECTOR_BYTES, SimulatedDisk

from agentkeeper.consensus.disk import Disk


def _after_power_cuts(prepare: Callable[[SimulatedDisk], None], name: str) -> set[bytes | None]:
    """Give every content found after a power cut in many worlds; None where the file is gone."""
    found: set[bytes | None] = set()
    for seed in range(300):
        disk = SimulatedDisk(random.Random(seed))
        prepare(disk)
        disk.power_cut()
        if name not in disk.names():
            found.add(None)
            continue
        file = disk.open(name)
        found.add(file.read(0, file.size()))
    return found


def _with_file(content: bytes) -> Callable[[SimulatedDisk], None]:
    def prepare(disk: SimulatedDisk) -> None:
        file = disk.open("a", create=True)
        file.write(0, content)
        file.sync()
        disk.sync()

    return prepare


def test_implements_the_disk_that_the_engine_uses() -> None:
    disk: Disk = SimulatedDisk(random.Random(0))
    file = disk.open("a", create=True)
    file.write(0, b"hello")
    file.write(4, b"0 world")
    file.truncate(7)
    assert (file.size(), file.read(1, 100), file.read(9, 1)) == (7, b"ell0 w", b"")
    disk.rename("a", "b")
    assert disk.names() == ["b"]
    assert disk.open("b", create=True).size() == 0
    disk.remove("b")
    disk.remove("b")
    assert disk.names() == []
    assert disk.describe("b") == "simulated/b"
    with pytest.raises(FileNotFoundError):
        disk.open("b")
    with pytest.raises(FileNotFoundError):
        disk.rename("b", "c")


def test_what_was_synced_survives_a_power_cut() -> None:
    assert _after_power_cuts(_with_file(b"durable"), "a") == {b"durable"}


def test_any_prefix_of_what_was_appended_survives() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        _with_file(b"12")(disk)
        disk.open("a").write(2, b"34")
        disk.open("a").write(4, b"5")

    found = _after_power_cuts(prepare, "a")
    prefixes = {b"12", b"123", b"1234", b"12345"}
    # The file may have grown all the same, with nothing written from where a write ended.
    grown = {b"12\0", b"12\0\0", b"12\0\0\0", b"1234\0"}
    assert found == prefixes | grown


def test_a_file_may_grow_without_the_last_blocks_content() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        _with_file(b"1" * 10)(disk)
        disk.open("a").write(10, b"2" * 3 * SECTOR_BYTES)

    ends = set()
    for content in _after_power_cuts(prepare, "a"):
        assert content is not None
        written = content.rstrip(b"\0")
        assert written == (b"1" * 10 + b"2" * 3 * SECTOR_BYTES)[: len(written)]
        if len(written) < len(content):
            ends.add(len(written))
    assert ends == {10, SECTOR_BYTES, 2 * SECTOR_BYTES}


def test_a_file_that_was_cut_does_not_grow() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        _with_file(b"12")(disk)
        disk.open("a").write(2, b"34")
        disk.open("a").truncate(2)

    assert _after_power_cuts(prepare, "a") == {b"12", b"123", b"1234"}


def test_overwritten_sectors_are_old_or_new() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        _with_file(b"o" * 2 * SECTOR_BYTES)(disk)
        disk.open("a").write(0, b"n" * 2 * SECTOR_BYTES)

    old, new = b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES
    assert _after_power_cuts(prepare, "a") == {old + old, old + new, new + old, new + new}


def test_a_cut_file_that_is_not_synced_may_be_whole_again() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        _with_file(b"whole")(disk)
        disk.open("a").truncate(2)

    assert _after_power_cuts(prepare, "a") == {b"whole", b"wh"}


def test_names_need_a_sync_of_the_folder() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        file = disk.open("new", create=True)
        file.write(0, b"1")
        file.sync()
        disk.rename("new", "a")

    assert _after_power_cuts(prepare, "a") == {None, b"1"}


def test_changes_of_the_folder_survive_in_their_order() -> None:
    seen = set()
    for seed in range(100):
        disk = SimulatedDisk(random.Random(seed))
        _with_file(b"")(disk)
        disk.open("b", create=True)
        disk.remove("a")
        disk.open("c", create=True)
        disk.power_cut()
        seen.add(tuple(disk.names()))
    assert seen == {("a",), ("a", "b"), ("b",), ("b", "c")}


def test_a_killed_process_loses_nothing_but_its_files() -> None:
    disk = SimulatedDisk(random.Random(0))
    file = disk.open("a", create=True)
    file.write(0, b"1")
    disk.kill()
    with pytest.raises(RuntimeError, match="dead"):
        file.read(0, 1)
    assert disk.open("a").read(0, 1) == b"1"
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.size()


def test_a_wiped_disk_is_empty_for_good() -> None:
    disk = SimulatedDisk(random.Random(0))
    _with_file(b"1")(disk)
    disk.wipe()
    disk.power_cut()
    assert disk.names() == []


def test_a_flipped_bit_stays() -> None:
    disk = SimulatedDisk(random.Random(0))
    _with_file(b"\x00\x00")(disk)
    disk.flip_bit("a", 1, 3)
    assert disk.open("a").read(0, 2) == b"\x00\x08"
    disk.power_cut()
    assert disk.open("a").read(0, 2) == b"\x00\x08"


def test_a_full_disk_takes_a_part_but_lets_overwrite() -> None:
    parts = set()
    for seed in range(50):
        disk = SimulatedDisk(random.Random(seed))
        _with_file(b"123")(disk)
        disk.capacity_bytes = 5
        file = disk.open("a")
        with pytest.raises(OSError, match=r"\[Errno 28\]") as refusal:
            file.write(3, b"4567")
        assert refusal.value.errno == errno.ENOSPC
        parts.add(file.read(0, 9))
        disk.capacity_bytes = 1
        file.write(0, b"0")
        with pytest.raises(OSError, match=r"\[Errno 28\]"):
            disk.open("b", create=True)
    assert parts == {b"123", b"1234", b"12345"}


def test_what_a_failed_sync_should_have_stored_never_is() -> None:
    def prepare(disk: SimulatedDisk) -> None:
        _with_file(b"12")(disk)
        disk.fail_syncs = 1
        file = disk.open("a")
        file.write(2, b"34")
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            file.sync()
        file.write(4, b"5")
        assert file.read(0, 9) == b"12345"
        file.sync()

    assert _after_power_cuts(prepare, "a") == {b"12\x00\x005"}


def test_a_failed_sync_of_the_folder_stores_no_name() -> None:
    disk = SimulatedDisk(random.Random(0))
    disk.open("a", create=True)
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        disk.sync()
    assert disk.fail_syncs == 0
    disk.sync()
    disk.power_cut()
    assert disk.names() == ["a"]


def test_the_world_is_asked_before_every_change() -> None:
    disk = SimulatedDisk(random.Random(0))
    seen: list[tuple[str, str]] = []
    disk.before = lambda operation, name: seen.append((operation, name))
    _with_file(b"1")(disk)
    disk.open("a").truncate(0)
    disk.rename("a", "b")
    disk.remove("b")
    assert seen == [
        ("create", "a"),
        ("write", "a"),
        ("sync", "a"),
        ("sync_folder", ""),
        ("truncate", "a"),
        ("rename", "b"),
        ("remove", "b"),
    ]
    assert (disk.operations, disk.syncs) == (7, 2)


def test_an_operation_that_the_world_stops_does_not_happen_but_a_write_may_begin() -> None:
    class DeadError(Exception):
        pass

    def stop(operation: str, name: str) -> None:
        raise DeadError

    begun = set()
    for seed in range(50):
        disk = SimulatedDisk(random.Random(seed))
        _with_file(b"")(disk)
        disk.before = stop
        file = disk.open("a")
        with pytest.raises(DeadError):
            file.write(0, b"12")
        begun.add(file.read(0, 9))
        with pytest.raises(DeadError):
            disk.remove("a")
        assert disk.names() == ["a"]
    assert begun == {b"", b"1", b"12"}


def test_the_same_seed_tears_the_same_way() -> None:
    def run() -> list[bytes]:
        disk = SimulatedDisk(random.Random(7))
        contents = []
        for name in "abc":
            file = disk.open(name, create=True)
            file.write(0, bytes(range(200)))
        disk.sync()
        disk.power_cut()
        for name in disk.names():
            file = disk.open(name)
            contents.append(file.read(0, file.size()))
        return contents

    assert run() == run()
