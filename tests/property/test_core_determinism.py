"""One log, one state: in one go, through snapshots, on several replicas, under any hash seed."""

import itertools
import os
import random
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from core_budget import bounded
from core_replay import replay, write_log
from core_traffic import small_limits
from core_watcher import derived, digest_from_scratch
from hypothesis import given
from hypothesis import strategies as st

import agentkeeper
from agentkeeper.core import snapshot
from agentkeeper.core.snapshot import capture, pack_snapshot, restore
from agentkeeper.core.state import State

HERE = Path(__file__).parent
PROJECT = Path(agentkeeper.__file__).parents[1]


def packed(captured):
    return b"".join(pack_snapshot(captured))


@bounded(15)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 150), max_size=3))
def test_a_snapshot_and_the_tail_lead_to_the_state_of_the_whole_log(seed, cuts):
    with small_limits():
        log = write_log(seed, 150)
        whole = State()
        outcomes = replay(whole, log)
        resumed, done, resumed_outcomes = State(), 0, []
        for cut in sorted(cuts):
            resumed_outcomes += replay(resumed, log[done:cut])
            resumed, done = restore(packed(capture(resumed, cut)))
        resumed_outcomes += replay(resumed, log[done:])
    assert resumed_outcomes == outcomes
    assert resumed.digest() == whole.digest() == digest_from_scratch(whole)
    assert derived(resumed) == derived(whole)
    assert packed(capture(resumed, 1)) == packed(capture(whole, 1))


@bounded(5)
@given(seed=st.integers(0, 2**32))
def test_three_replicas_agree_whenever_they_look_at_their_digests(seed):
    """Reading the digest early, late or never must not change it."""
    with small_limits():
        log = write_log(seed, 200)
        replicas = [State() for _ in range(3)]
        look = random.Random(seed)
        outcomes = [[], [], []]
        for data in log:
            for replica, told in zip(replicas, outcomes, strict=True):
                told.extend(replay(replica, [data]))
                if look.random() < 0.1:
                    assert replica.digest() == digest_from_scratch(replica)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len({replica.digest() for replica in replicas}) == 1


def test_a_snapshot_is_of_the_moment_it_was_captured_however_long_it_is_packed(monkeypatch):
    monkeypatch.setattr(snapshot, "_PIECE_BYTES", 300)
    with small_limits():
        log = write_log(5, 300)
        state = State()
        replay(state, log[:150])
        at_once = packed(capture(state, 150))
        pieces = [b""]
        for piece, data in itertools.zip_longest(pack_snapshot(capture(state, 150)), log[150:]):
            pieces.append(piece or b"")
            if data is not None:
                replay(state, [data])
        assert len(pieces) > 20
        assert b"".join(pieces) == at_once


@bounded(10)
@given(seed=st.integers(0, 2**32))
def test_a_capture_in_steps_is_of_the_moment_it_began(seed):
    """Whatever is applied between its steps, and however many are under way."""
    with small_limits():
        state, dice = State(), random.Random(seed)
        begun = []
        for index, data in enumerate(write_log(seed, 150)):
            replay(state, [data])
            if dice.random() < 0.3:
                tables = tuple(
                    (name, {key: table.get(key) for key in table}) for name, table in state.tables()
                )
                naive = snapshot.Snapshot(state.cluster_version, index, state.counters(), tables)
                capture_ = snapshot.Capture(state, index)
                begun.append((capture_, capture_.steps(), naive))
            for _, steps, _ in begun:
                if dice.random() < 0.3:
                    next(steps, None)
        assert len(begun) > 20
        for capture_, _, naive in begun:
            taken = capture_.snapshot()
            assert packed(taken) == packed(naive)
            assert [list(rows) for _, rows in taken.tables] == [list(r) for _, r in naive.tables]


def test_a_step_copies_one_table_and_no_write_copies_another():
    with small_limits():
        state = State()
        replay(state, write_log(5, 150))
        filled = [name for name, table in state.tables() if len(table)]
        assert len(filled) > 6
        marks = dict(snapshot.Capture(state, 1)._marks)
        state.policies.put("new", "a policy")
        assert [name for name, mark in marks.items() if mark.copied] == ["policies"]
        assert "new" not in marks["policies"].rows()
        assert marks["policies"].rows().keys() | {"new"} == set(state.policies)
        whole = snapshot.Capture(state, 1)
        steps = whole.steps()
        for copied in range(1, 4):
            next(steps)
            assert sum(mark.copied for _, mark in whole._marks) == copied


def test_a_table_is_let_go_of_once_it_is_packed(monkeypatch):
    class Rows(dict):
        pass

    monkeypatch.setattr(snapshot, "_PIECE_BYTES", 1)
    tables = [(name, Rows(one=None, two=None)) for name in ("agents", "leases")]
    held = [weakref.ref(rows) for _, rows in tables]
    packing = pack_snapshot(snapshot.Snapshot(2, 1, (), tuple(tables)))
    del tables
    seen = [tuple(ref() is not None for ref in held) for _ in packing]
    assert (False, True) in seen
    assert seen[-1] == (False, False)


@pytest.mark.timeout(120)
def test_hash_seeds_make_no_difference():
    """Sets and dicts of strings iterate differently in each process; nothing may depend on it."""
    runs = []
    for hash_seed in ("0", "1", "12345"):
        path = os.pathsep.join([str(HERE), str(PROJECT)])
        runs.append(
            subprocess.Popen(
                [sys.executable, str(HERE / "core_replay.py"), "42", "2000"],
                env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert int(outputs[0].split()[0]) > 3_000
