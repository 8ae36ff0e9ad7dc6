"""The cache of vectors against a dict, and what becomes of it on bad disks."""

import os
import resource
import shutil
import signal
import sqlite3
import stat
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkeeper.search.worker import cache as caches
from agentkeeper.search.worker.cache import MAX_ROWS_IN_MEMORY, VectorCache

DIMENSION = 384


def vector_of(text: bytes, model: str = "m") -> bytes:
    return (model.encode() + text).ljust(4 * DIMENSION, b"\1")


def cache_at(path: Path | None, model: str = "m", max_rows: int | None = None) -> VectorCache:
    return VectorCache(path, model, DIMENSION, max_rows=max_rows)


def filled(path: Path, count: int) -> list[bytes]:
    texts = [b"text %d" % number for number in range(count)]
    cache = cache_at(path)
    for text in texts:
        cache.put(text, vector_of(text))
    cache.close()
    return texts


def test_vectors_outlive_the_process(tmp_path):
    path = tmp_path / "new" / "vectors.db"
    texts = filled(path, 10)
    again = cache_at(path)
    assert [again.get(text) for text in texts] == [vector_of(text) for text in texts]
    assert again.get(b"other") is None
    assert again.take_notes() == []


def test_vectors_outlive_a_process_that_was_killed(tmp_path):
    path = tmp_path / "vectors.db"
    if (child := os.fork()) == 0:
        try:
            cache = cache_at(path)
            cache.put(b"a", vector_of(b"a"))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    cache = cache_at(path)
    assert cache.get(b"a") == vector_of(b"a")
    assert cache.take_notes() == []


def test_models_share_a_file_and_no_vectors(tmp_path):
    for model in "ab":
        cache = cache_at(tmp_path / "v", model)
        assert cache.get(b"text") is None
        cache.put(b"text", vector_of(b"text", model))
        cache.close()
    for model in "ab":
        cache = cache_at(tmp_path / "v", model)
        assert cache.get(b"text") == vector_of(b"text", model)
        cache.close()


@given(
    max_rows=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 8)), max_size=60),
    in_memory=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_it_keeps_what_was_used_last(max_rows, steps, in_memory):
    with TemporaryDirectory() as directory:
        path = None if in_memory else Path(directory, "v")
        model: OrderedDict[bytes, bytes] = OrderedDict()
        cache = cache_at(path, max_rows=max_rows)
        for kind, number in steps:
            text = b"%d" % number
            if kind == "a" and path:
                cache.close()
                cache = cache_at(path, max_rows=max_rows)
            found = cache.get(text)
            assert found == model.get(text)
            if found is None:
                cache.put(text, vector_of(text))
                model[text] = vector_of(text)
            model.move_to_end(text)
            if len(model) > max_rows:
                model.popitem(last=False)
        assert cache.take_notes() == []
        cache.close()


def test_a_large_one_is_bounded_and_loses_the_oldest(tmp_path):
    cache = cache_at(tmp_path / "v", max_rows=640)
    for number in range(2000):
        text = b"%d" % number
        cache.put(text, vector_of(text))
        assert cache.get(b"0") == vector_of(b"0")  # in use all the time
    kept = [number for number in range(2000) if cache.get(b"%d" % number)]
    assert 620 <= len(kept) <= 640
    assert kept == [0, *range(2001 - len(kept), 2000)]
    assert (tmp_path / "v").stat().st_size < 640 * 2000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no database" * 1000,
        b"SQLite format 3\0" + bytes(5000),
        bytes(100_000),
    ],
)
def test_a_file_that_is_no_cache_is_begun_anew(tmp_path, content):
    path = tmp_path / "v"
    path.write_bytes(content)
    cache = cache_at(path)
    assert cache.get(b"a") is None
    cache.put(b"a", vector_of(b"a"))
    cache.close()
    assert any("begun anew" in note for note in cache.take_notes()) == bool(content)
    assert cache_at(path).get(b"a") == vector_of(b"a")


def test_a_file_of_another_format_is_begun_anew(tmp_path):
    path = tmp_path / "v"
    other = sqlite3.connect(path)
    other.executescript("CREATE TABLE vectors (a, b); PRAGMA user_version = 99")
    other.close()
    cache = cache_at(path)
    cache.put(b"a", vector_of(b"a"))
    assert cache.get(b"a") == vector_of(b"a")
    [note] = cache.take_notes()
    assert "another format (99)" in note


def test_a_vector_of_another_length_is_not_found(tmp_path):
    cache = cache_at(tmp_path / "v")
    cache.put(b"a", bytes(4))
    assert cache.get(b"a") is None


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_gives_no_wrong_vector_and_goes_on(data):
    with TemporaryDirectory() as directory:
        path = Path(directory, "v")
        texts = filled(path, 30)
        content = bytearray(path.read_bytes())
        size = len(content)
        places = st.integers(0, size - 1) | st.integers(0, 200)
        for place in data.draw(st.lists(places, max_size=20)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.just(size) | st.integers(0, size))])
        cache = cache_at(path)
        for _ in range(2):
            for text in texts:
                assert cache.get(text) in {None, vector_of(text)}
        for text in texts:
            if cache.get(text) is None:
                cache.put(text, vector_of(text))
        # What was written before the last damage came up is gone; after it, nothing is lost.
        for text in texts:
            if cache.get(text) is None:
                cache.put(text, vector_of(text))
        assert [cache.get(text) for text in texts] == [vector_of(text) for text in texts]
        cache.close()


def test_a_file_that_is_damaged_while_open_is_begun_anew(tmp_path):
    path = tmp_path / "v"
    texts = filled(path, 2000)
    cache = cache_at(path)
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    assert all(cache.get(text) in {None, vector_of(text)} for text in texts)
    assert any("begun anew" in note for note in cache.take_notes())
    cache.put(b"a", vector_of(b"a"))
    cache.close()
    assert cache_at(path).get(b"a") == vector_of(b"a")


def test_on_a_full_disk_it_knows_what_it_knew_and_goes_on_later(tmp_path):
    path = tmp_path / "v"
    texts = filled(path, 100)
    cache = cache_at(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
    try:
        for number in range(50):
            cache.put(b"more %d" % number, vector_of(b"more"))
        lost = b"more 49"
        assert cache.get(lost) is None
        assert [cache.get(text) for text in texts] == [vector_of(text) for text in texts]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [note] = cache.take_notes()
    assert "can't be used for now" in note
    assert cache.take_notes() == []
    cache.put(lost, vector_of(lost))
    assert cache.get(lost) == vector_of(lost)


def test_a_second_process_keeps_its_vectors_in_memory(tmp_path):
    first = cache_at(tmp_path / "v")
    first.put(b"a", vector_of(b"a"))
    second = cache_at(tmp_path / "v")
    assert second.get(b"a") is None
    second.put(b"a", vector_of(b"a"))
    assert second.get(b"a") == vector_of(b"a")
    [note] = second.take_notes()
    assert "kept in memory" in note
    assert "locked" in note


def test_where_no_file_can_be_its_vectors_are_in_memory(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "v"):
        cache = cache_at(path)
        cache.put(b"a", vector_of(b"a"))
        assert cache.get(b"a") == vector_of(b"a")
        [note] = cache.take_notes()
        assert str(path) in note


def test_in_memory_it_is_smaller():
    cache = cache_at(None)
    for number in range(MAX_ROWS_IN_MEMORY + 1):
        cache.put(b"%d" % number, vector_of(b"%d" % number))
    assert cache.get(b"0") is None
    assert cache.get(b"%d" % MAX_ROWS_IN_MEMORY) is not None


def test_it_is_bounded_by_bytes_too(monkeypatch):
    monkeypatch.setattr(caches, "MAX_BYTES_IN_MEMORY", 1_000_000)
    for dimension, most in ((384, 1_000_000 // 1_536), (4_096, 1_000_000 // 16_384)):
        cache = VectorCache(None, "m", dimension)
        texts = [b"%d" % number for number in range(most + 1)]
        for text in texts:
            cache.put(text, bytes(4 * dimension))
        kept = sum(cache.get(text) is not None for text in texts)
        assert 0.9 * most < kept <= most


def test_nobody_else_may_read_it(tmp_path):
    path = tmp_path / "search" / "v"
    before = os.umask(0)
    try:
        cache = cache_at(path)
        cache.put(b"a", vector_of(b"a"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert len([*path.parent.iterdir()]) > 1


def test_it_leaves_room_on_the_disk(tmp_path, monkeypatch):
    cache = cache_at(tmp_path / "v")
    cache.put(b"a", vector_of(b"a"))
    now = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: now._replace(free=500_000_000))
    for text in (b"b", b"c"):
        cache.put(text, vector_of(text))
        assert cache.get(text) is None
    assert cache.get(b"a") == vector_of(b"a")
    [note] = cache.take_notes()
    assert "nearly full" in note
    monkeypatch.setattr(shutil, "disk_usage", lambda path: now._replace(free=600_000_000))
    cache.put(b"b", vector_of(b"b"))
    assert cache.get(b"b") == vector_of(b"b")
