"""A bounded dictionary never exceeds its limit, and keeps nothing of removed values."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.intake import bounded_dict

KEYS, NAMES = "abcdefgh", "xyz"
PUTS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(NAMES)), max_size=30)


def value(name):
    return SimpleNamespace(token=name)


@given(PUTS, st.integers(1, 5))
def test_the_oldest_entry_is_replaced_first(puts, limit):
    entries, expected = bounded_dict.BoundedDict(limit, ord), OrderedDict()
    for key, name in puts:
        before = entries.put(key, value(name))
        assert (before and before.token) == expected.pop(key, None)
        expected[key] = name
        if len(expected) > limit:
            expected.popitem(last=False)
        assert len(entries) == len(expected)
    assert {key: match.token for key in KEYS if (match := entries.get(key))} == expected


@pytest.mark.system
@pytest.mark.parametrize("shard_entries", [1, 2, 100])
@given(before=PUTS, between=PUTS)
def test_removal_leaves_no_matching_value_and_all_others(shard_entries, before, between):
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(bounded_dict, "SHARD_ENTRIES", shard_entries)
        entries = bounded_dict.BoundedDict(100, ord)
    expected = {}
    for key, name in before:
        entries.put(key, value(name))
        expected[key] = name
    steps, more = entries.removing(lambda match: match.token.startswith("x")), iter(between)
    while next(steps, False):
        for key, name in [next(more, ("a", "y"))]:  # others are put in meanwhile
            if name != "x":
                entries.put(key, value(name))
                expected[key] = name
    expected = {key: name for key, name in expected.items() if name != "x"}
    assert {key: match.token for key in KEYS if (match := entries.get(key))} == expected
    assert len(entries) == len(expected)


def test_shards_share_the_limit(monkeypatch):
    monkeypatch.setattr(bounded_dict, "SHARD_ENTRIES", 4)
    entries = bounded_dict.BoundedDict(64, lambda key: key % 3)
    for key in range(1000):
        entries.put(key, value("x"))
        assert len(entries) == min(key + 1, 64) == sum(map(len, entries._shards))
        assert entries.get(key) is not None
    entries.drop(999)
    entries.drop(999)
    assert len(entries) == 63
