"""What is kept of numbers: never more than there is room for, and nothing of one that was forgotten."""

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
def test_who_was_put_longest_ago_goes_first(puts, most):
    held, expected = bounded_dict.BoundedDict(most, ord), OrderedDict()
    for key, name in puts:
        before = held.put(key, value(name))
        assert (before and before.token) == expected.pop(key, None)
        expected[key] = name
        if len(expected) > most:
            expected.popitem(last=False)
        assert len(held) == len(expected)
    assert {key: found.token for key in KEYS if (found := held.get(key))} == expected


@pytest.mark.parametrize("each", [1, 2, 100])
@given(before=PUTS, between=PUTS)
def test_of_a_forgotten_number_nothing_is_left_and_others_stay(each, before, between):
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(bounded_dict, "SHARD_ENTRIES", each)
        held = bounded_dict.BoundedDict(100, ord)
    expected = {}
    for key, name in before:
        held.put(key, value(name))
        expected[key] = name
    steps, more = held.removing(lambda found: found.token.startswith("x")), iter(between)
    while next(steps, False):
        for key, name in [next(more, ("a", "y"))]:  # others are put in meanwhile
            if name != "x":
                held.put(key, value(name))
                expected[key] = name
    expected = {key: name for key, name in expected.items() if name != "x"}
    assert {key: found.token for key in KEYS if (found := held.get(key))} == expected
    assert len(held) == len(expected)


def test_dictionaries_share_the_room(monkeypatch):
    monkeypatch.setattr(bounded_dict, "SHARD_ENTRIES", 4)
    held = bounded_dict.BoundedDict(64, lambda key: key % 3)
    for key in range(1000):
        held.put(key, value("x"))
        assert len(held) == min(key + 1, 64) == sum(map(len, held._shards))
        assert held.get(key) is not None
    held.drop(999)
    held.drop(999)
    assert len(held) == 63
