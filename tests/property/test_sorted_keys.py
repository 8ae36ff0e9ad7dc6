"""Keys in order, against a sorted list, with runs so short that they are cut all the time."""

import pytest
from core_budget import bounded
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.core import sorted_keys
from agentkeeper.core.sorted_keys import SortedKeys
from agentkeeper.core.table import Digest, SortedTable

KEYS = st.text(alphabet="ab\u00e9\U0001f680", max_size=4)


@pytest.fixture(autouse=True, scope="module")
def short_runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_keys, "RUN_KEYS", 3)
        patch.setattr(sorted_keys, "PART_KEYS", 2)
        yield


def filled(names):
    keys = SortedKeys()
    for name in names:
        keys.add(name)
    return keys


@bounded(60)
@given(names=st.lists(KEYS, unique=True), gone=st.lists(st.integers(0)), data=st.data())
def test_it_is_a_sorted_list(names, gone, data):
    keys, left = filled(names), list(names)
    prefix, after = data.draw(KEYS), data.draw(st.sampled_from([*names, "", "a", "b"]))
    for index in gone:
        if left:
            keys.remove(left.pop(index % len(left)))
    assert list(keys.beginning_with("")) == sorted(left)
    expected = [k for k in sorted(left) if k.startswith(prefix) and (not after or k > after)]
    assert list(keys.beginning_with(prefix, after)) == expected


@bounded(60)
@given(names=st.lists(KEYS, unique=True), data=st.data())
def test_what_stays_is_found_once_whatever_comes_and_goes_meanwhile(names, data):
    keys, there = filled(names), set(names)
    ever, touched, found = set(names), set(), []
    for key in keys.beginning_with(""):
        assert key in ever
        found.append(key)
        change = data.draw(st.none() | KEYS)
        if change is not None:
            touched.add(change)
            ever.add(change)
            (keys.remove if change in there else keys.add)(change)
            there ^= {change}
    assert found == sorted(set(found))
    assert set(names) - touched <= set(found)


def test_a_table_keeps_its_keys_in_order():
    table = SortedTable("leases", Digest())
    for key in ("b", "a", "c", "a"):
        table.put(key, key.upper())
    assert table.drop("b") == "B"
    assert table.drop("b") is None
    assert list(table.sorted_keys.beginning_with("")) == ["a", "c"]
    assert list(table) == ["a", "c"]
