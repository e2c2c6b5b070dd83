"""Folds: they go forward in time with a gap, and connected callers are in one fold."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.files.dates import DAY
from callsieve.features.intake.text_columns import factorize
from callsieve.training.model.split import (
    FOLDS,
    LINKS,
    SHARES,
    WINDOW_DAYS,
    fold_of_group,
    fold_plan,
    groups,
    links_of,
    plan,
)

# Few values, so that chains of callers arise; a caller may have several blocks, trunks and devices.
drawn_calls = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 9), st.none() | st.integers(0, 5), st.none() | st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


def table(rows, chunks=1):
    def column(place, name):
        words = [None if row[place] is None else f"{name}{row[place]}" for row in rows]
        size = -(-len(words) // chunks)
        parts = [words[i : i + size] for i in range(0, len(words), size)]
        return pa.chunked_array([pa.array(part, pa.string()).dictionary_encode() for part in parts])

    return pa.table({name: column(i, name) for i, name in enumerate(("caller", *LINKS))})


def components(rows):
    """Joins callers until nothing changes; maps a caller to the lowest caller of its group."""
    name = {row[0]: row[0] for row in rows}
    changed = True
    while changed:
        changed = False
        for row in rows:
            for other in rows:
                shares = any(row[i] is not None and row[i] == other[i] for i in (1, 2, 3))
                if shares and name[row[0]] != name[other[0]]:
                    name[row[0]] = name[other[0]] = min(name[row[0]], name[other[0]])
                    changed = True
    return name


@given(drawn_calls, st.integers(1, 3))
def test_callers_who_share_anything_transitively_are_one_group(rows, chunks):
    name = components(rows)
    group_of_row = groups(table(rows, chunks)).tolist()
    pairs = {(group, name[row[0]]) for group, row in zip(group_of_row, rows, strict=True)}
    assert len(pairs) == len({group for group, _ in pairs}) == len({group_name for _, group_name in pairs})


def test_many_calls_between_two_numbers_still_join_them():
    """256 parallel edges must not cancel out in a small integer."""
    for times in (128, 255, 256, 512):
        rows = [(0, 0, 7, None)] * times + [(1, 1, 7, None)] * times
        assert len(set(groups(table(rows)).tolist())) == 1


@given(drawn_calls, st.integers(0, 99))
def test_folds_never_share_a_caller_block_trunk_or_device(rows, seed):
    kind = np.array([row[0] % 3 for row in rows])
    fold = fold_of_group(groups(table(rows)), kind, seed).tolist()
    for place in range(4):
        sides = {}
        for row, side in zip(rows, fold, strict=True):
            if row[place] is not None:
                sides.setdefault(row[place], set()).add(side)
        assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize(("place", "name"), list(enumerate(LINKS, 1)))
def test_a_link_that_a_large_share_of_callers_uses_makes_no_group(place, name):
    """The network's own trunk makes no group; the trunk of a campaign of 31 numbers still makes one."""
    unlinked = [None] * len(LINKS)

    def row(caller, value):
        links = unlinked.copy()
        links[place - 1] = value
        return (caller, *links)

    campaign = range(1000, 1031)
    both = [row(caller, value) for caller in campaign for value in (7, 0)]  # on its own trunk, and on the large one
    rows = [row(caller, 0) for caller in range(1000)] * 2 + both
    group = groups(table(rows, chunks=3))
    assert len(set(group[:1000])) == 1000
    assert len(set(group[2000:])) == 1
    assert links_of(table(rows))[name].null_count == 2000 + 31
    # A small network: at most 100 callers.
    for callers, count in ((100, 1), (101, 101)):
        assert len(set(groups(table([row(caller, 0) for caller in range(callers)])))) == count
    # A large network: 5 % of 4,000 callers.
    others = [row(caller, None) for caller in range(200, 4000)]
    assert len(set(groups(table([row(caller, 0) for caller in range(200)] + others)))) == 3801


def test_a_campaign_makes_one_group_at_any_size():
    rows = [(caller, None, 0, None) for caller in range(600)]
    parts = pa.chunked_array([["c1"] * 300 + ["c2"] * 300])
    group = groups(table(rows), [parts])
    assert len(set(group[:300])) == len(set(group[300:])) == 1 and group[0] != group[300]


@pytest.mark.system
@given(drawn_calls, st.lists(st.none() | st.integers(0, 4), min_size=30, max_size=30), st.integers(0, 99))
def test_folds_never_share_a_campaign_either(rows, parts, seed):
    campaigns = pa.chunked_array([[None if part is None else f"c{part}" for part in parts[: len(rows)]]], pa.string())
    group = groups(table(rows), [campaigns])
    fold = fold_of_group(group, np.zeros(len(rows), dtype=int), seed).tolist()
    for words in (campaigns.to_pylist(), [row[0] for row in rows]):
        sides = {}
        for word, side in zip(words, fold, strict=True):
            if word is not None:
                sides.setdefault(word, set()).add(side)
        assert all(len(side) == 1 for side in sides.values())


def test_every_fold_gets_its_share_of_each_kind():
    rng = np.random.default_rng(5)
    sizes = rng.zipf(1.6, 4000).clip(1, 400)
    kind_of_group = rng.choice(4, 4000, p=[0.9, 0.07, 0.02, 0.01])
    group = np.repeat(np.arange(4000), sizes)
    fold = fold_of_group(group, kind_of_group[group], seed=3)
    fold_by_group = fold[np.unique(group, return_index=True)[1]]
    for kind in range(4):
        folds = fold_by_group[kind_of_group == kind]
        for i, share in enumerate(SHARES):
            assert abs((folds == i).sum() - share * len(folds)) < 4, (kind, FOLDS[i])
    # The shares hold for calls too: the busiest groups are spread over the folds.
    assert np.bincount(fold) / len(fold) == pytest.approx(SHARES, abs=0.03)


def test_the_seed_determines_the_folds():
    group = np.arange(500)
    kind = group % 3
    first, again, other = (fold_of_group(group, kind, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert set(first) == set(range(len(FOLDS)))


def test_the_shares_of_the_folds_sum_to_one():
    assert sum(SHARES) == pytest.approx(1.0)
    assert len(SHARES) == len(FOLDS)


@given(st.integers(0, 2**41), st.integers(21, 400), st.integers(0, DAY - 1), st.integers(0, 3))
def test_folds_go_forward_with_a_gap(first, days, rest, delay):
    last = first + (days - 1) * DAY + rest
    cut = plan(first, last, label_delay_days=delay)
    assert cut.train[0] == first + WINDOW_DAYS * DAY  # the first week only fills the windows
    assert cut.train[0] < cut.train[1]
    assert cut.choose[0] - cut.train[1] >= (WINDOW_DAYS + delay) * DAY
    assert cut.train[1] <= cut.label_cutoff <= cut.choose[0] - WINDOW_DAYS * DAY
    assert cut.choose[0] < cut.choose[1] == cut.certify[0] < cut.certify[1]
    assert last < cut.certify[1] <= last + DAY  # every call is in a fold


@given(st.integers(0, 2**41), st.integers(1, 40), st.integers(0, DAY - 1), st.integers(0, 7))
def test_too_few_days_are_refused_in_one_line(first, days, rest, delay):
    least = 2 * WINDOW_DAYS + delay + 4
    last = first + (days - 1) * DAY + rest
    if days >= least:
        assert plan(first, last, label_delay_days=delay).train[0] > first
        return
    with pytest.raises(ValueError, match=f"expected at least {least} days .* got {days}$"):
        plan(first, last, label_delay_days=delay)


def test_a_table_without_a_call_is_an_error():
    with pytest.raises(ValueError, match=r"^calls: expected some, got none$"):
        fold_plan(pa.table({"start": pa.array([], pa.int64())}), 3)


@given(st.lists(st.none() | st.sampled_from("abc"), max_size=12))
def test_codes_count_in_order_of_appearance(words):
    for column in (pa.chunked_array([words], pa.string()), pa.chunked_array([words, words], pa.string())):
        codes, count = factorize(column)
        distinct = list(dict.fromkeys(word for word in words if word is not None))
        assert count == len(distinct)
        assert [None if code < 0 else distinct[code] for code in codes] == column.to_pylist()


def test_codes_do_not_follow_the_order_of_the_dictionary():
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([2, None, 0, 2]), pa.array(["x", "y", "z"]))])
    codes, count = factorize(column)
    assert (codes.tolist(), count) == ([0, -1, 1, 0], 2)
    assert Counter(codes.tolist())[0] == 2
