"""Snapshots and digests: everything comes back, and damage is noticed."""

import hashlib

import pytest
from core_samples import golden, rich_story
from core_story import Story

from agentkeeper.core import commands as c
from agentkeeper.core import snapshot
from agentkeeper.core.codec import ENCODING, UnknownEncodingError, pack
from agentkeeper.core.records import Policy
from agentkeeper.core.snapshot import (
    DamagedSnapshotError,
    capture,
    pack_snapshot,
    restore,
)
from agentkeeper.core.state import COUNTERS, TABLES, State


def packed_whole(state, log_index):
    return b"".join(pack_snapshot(capture(state, log_index)))


@pytest.fixture(scope="module")
def packed():
    """A snapshot in which no table is empty."""
    state = rich_story().state
    assert all(len(getattr(state, name)) for name in TABLES)
    return packed_whole(state, 42)


def test_everything_comes_back(packed):
    before = rich_story().state
    after, index = restore(packed)
    assert index == 42
    assert after.digest() == before.digest()
    for name in TABLES:
        mine, theirs = getattr(after, name).copy(), getattr(before, name).copy()
        assert list(mine.items()) == list(theirs.items()), name
        assert [type(row) for row in mine.values()] == [type(row) for row in theirs.values()]
    for name in COUNTERS:
        assert getattr(after, name) == getattr(before, name), name


def test_a_restored_state_goes_on_as_the_first_would(packed):
    first, second = rich_story(), Story(restore(packed)[0])
    for story in (first, second):
        story.forget()
        for time_ms in (story.state.time_ms + step for step in (0, 5_000, 40_000, 10**8)):
            story.at(time_ms)
            story.acquire("deploy", "bob", wait=10, session="sb", number=1)
            story.claim("cyd")
    assert first.events == second.events
    assert first.state.digest() == second.state.digest()


def test_tokens_and_terms_go_on_above_the_snapshot(packed):
    story = Story(restore(packed)[0]).agent("new")
    highest = rich_story().state.last_token
    assert story.acquire("fresh", "new").lease.token == highest + 1


def test_the_empty_state_has_a_snapshot_too():
    state, index = restore(packed_whole(State(), 0))
    assert (index, state.digest()) == (0, State().digest())


def test_large_tables_are_whole():
    story = Story()
    bodies = (c.SetPolicy(Policy(f"p{i}", "*", "*", "*", 1)) for i in range(1_500))
    story.batch(*(c.Command("", "", 0, 0, body) for body in bodies))
    restored, _ = restore(packed_whole(story.state, 1))
    assert len(restored.policies) == 1_500
    assert restored.digest() == story.state.digest()


def test_pieces_are_small_and_their_size_changes_nothing(monkeypatch, packed):
    assert max(map(len, pack_snapshot(capture(rich_story().state, 42)))) < 2 * 64 * 1024
    largest_row = 3_000
    for piece_bytes in (1, 100, 5_000):
        monkeypatch.setattr(snapshot, "_PIECE_BYTES", piece_bytes)
        pieces = list(pack_snapshot(capture(rich_story().state, 42)))
        assert max(map(len, pieces)) < piece_bytes + largest_row
        assert len(pieces) > len(packed) // (piece_bytes + largest_row)
        assert b"".join(pieces) == packed


def test_any_flipped_bit_is_noticed(packed):
    step = max(1, len(packed) // 400)
    for position in [*range(40), *range(40, len(packed), step)]:
        damaged = bytearray(packed)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(DamagedSnapshotError):
            restore(bytes(damaged))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 15, 16, 17, 24, 100, -1])
def test_a_torn_snapshot_is_noticed(packed, keep):
    with pytest.raises(DamagedSnapshotError):
        restore(packed[:keep])


def test_what_is_appended_is_noticed(packed):
    with pytest.raises(DamagedSnapshotError):
        restore(packed + b"\0")


@pytest.mark.parametrize("header", [(3, 1, ()), (3, 1, (), "something new"), (3,)])
def test_a_snapshot_of_a_newer_build_is_refused_as_such(header):
    data = b"AKSNAP02" + pack(header)
    data += hashlib.blake2b(data, digest_size=16).digest()
    with pytest.raises(UnknownEncodingError, match="snapshot encoding 3 is not known"):
        restore(data)


@pytest.mark.parametrize("encoding", range(1, ENCODING + 1))
def test_snapshots_are_read_and_written_as_ever(encoding):
    """Fixed bytes: a change of a record's fields needs a new encoding and a way to read these.

    And while the cluster's version is an older one, builds of that one must be able to read what
    this one writes, and to compare digests with it.
    """
    kept = golden(f"snapshot-{encoding}")
    state, index = restore(bytes.fromhex(kept["snapshot"]))
    assert index == 42
    assert state.cluster_version == encoding
    assert state.digest() == kept["digest"]
    made = rich_story(encoding).state
    assert made.digest() == kept["digest"]
    assert packed_whole(made, 42).hex() == kept["snapshot"]


# The digest.


def test_the_digest_depends_on_every_counter_and_every_table():
    base = rich_story(ENCODING).state
    digests = {base.digest()}
    for name in sorted({*COUNTERS} - {"cluster_version"}):  # which says what counts
        state = rich_story(ENCODING).state
        setattr(state, name, getattr(state, name) + 1)
        digests.add(state.digest())
    for name in TABLES:
        state = rich_story(ENCODING).state
        table = getattr(state, name)
        table.drop(next(iter(table)))
        digests.add(state.digest())
    digests.add(rich_story().state.digest())
    assert len(digests) == 1 + len(COUNTERS) + len(TABLES)


def test_undoing_a_change_brings_the_digest_back():
    story = Story()
    before = story.state.digest()
    policy = Policy("p", "*", "*", "*", 1)
    story.state.policies.put("p", policy)
    changed = story.state.digest()
    story.state.policies.drop("p")
    assert changed != before == story.state.digest()
