"""The training matrix at a cutoff: leak checks, the cap on calls of one caller, weights."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.training.model.folds import thinned
from callsieve.training.model.matrix import build_matrix, first_rows_per_caller, joined_matrix, labelled_rows

CUTOFF = pd.Timestamp("2025-03-17", tz="UTC")
LIMIT = int(CUTOFF.timestamp() * 1000)
CALLERS = ("quiet", "dialler", "unlabelled")


def make_labels(**known_at):
    """Labels of the quiet number and the dialler; by default they become known a day before the cutoff."""
    before = CUTOFF - pd.Timedelta(days=1)
    return pd.DataFrame(
        {
            "number": ["quiet", "dialler"],
            "nuisance": [False, True],
            "content": [None, "loans"],
            "mode": [None, "robot"],
            "known_at": [known_at.get(name, before) for name in ("quiet", "dialler")],
            "confidence": [0.7, 0.9],
            "held_since": pd.Series([pd.NaT, pd.NaT], dtype="datetime64[ms, UTC]"),
        }
    )


@pytest.fixture
def calls():
    """Twelve calls a second apart, the last one a millisecond before the cutoff, in turn by CALLERS."""
    start = LIMIT - 1 - 1000 * np.arange(12)[::-1]
    caller = pa.chunked_array([pa.array([CALLERS[i % 3] for i in range(12)]).dictionary_encode()])
    return pa.table({"start": pa.array(start, pa.int64()), "caller": caller})


def build(calls, labels=None, **changed):
    rows = np.arange(calls.num_rows)
    options = {"cutoff": CUTOFF, "calls_per_number": 100, "seed": 0} | changed
    vectors = np.column_stack([rows, rows**2]).astype(float)
    chosen = options.pop("rows", rows)
    order, matched = labelled_rows(calls, rows % 3, chosen, make_labels() if labels is None else labels, **options)
    matrix = build_matrix({"complete": (order, matched)}, calls["start"].to_numpy(), rows % 3, rows // 6)
    return joined_matrix([matrix], vectors[order])


def test_rows_labels_weights_and_groups_are_aligned(calls):
    data = build(calls)
    labelled_rows = [i for i in range(12) if i % 3 < 2]
    assert data.X[:, 0].tolist() == labelled_rows  # in order, without the unlabelled number
    assert data.y.tolist() == [i % 3 for i in labelled_rows]
    assert data.weight.tolist() == [(0.7, 0.9)[i % 3] for i in labelled_rows]
    assert data.moment.tolist() == calls["start"].to_numpy()[labelled_rows].tolist()
    assert data.caller.tolist() == [i % 3 for i in labelled_rows]
    assert data.group.tolist() == [i // 6 for i in labelled_rows]
    for words, label in ((data.content, "loans"), (data.mode, "robot")):
        assert [None if pd.isna(word) else word for word in words] == [(None, label)[i % 3] for i in labelled_rows]


def test_a_call_at_or_after_the_cutoff_is_refused(calls):
    for late in (LIMIT, LIMIT + 1, LIMIT + 10**9):
        start = calls["start"].to_numpy().copy()
        start[-1] = late
        changed = calls.set_column(0, "start", [start])
        with pytest.raises(ValueError, match="a call starts after the cutoff"):
            build(changed)
        # The table may contain the call if it is not among the rows.
        assert build(changed, rows=np.arange(11)).moment.max() < LIMIT


def test_a_label_known_after_the_cutoff_is_refused(calls):
    with pytest.raises(ValueError, match="a label became known after the cutoff"):
        build(calls, make_labels(dialler=CUTOFF + pd.Timedelta(milliseconds=1)))
    assert len(build(calls, make_labels(dialler=CUTOFF)).y) == 8


def test_calls_of_a_previous_holder_have_no_label(calls):
    """The dialler's number changed hands at its third call: the two calls before belong to another holder."""
    third = int(calls["start"].to_numpy()[7])
    labels = make_labels()
    labels["held_since"] = pd.to_datetime([None, third], unit="ms", utc=True)
    data = build(calls, labels)
    assert Counter(data.caller.tolist()) == {0: 4, 1: 2}
    assert data.moment[data.caller == 1].min() == third


def test_the_calls_of_one_caller_are_capped(calls):
    for most in (1, 2, 3, 4, 100):
        data = build(calls, calls_per_number=most)
        assert Counter(data.caller.tolist()) == {0: min(most, 4), 1: min(most, 4)}


def test_the_seed_chooses_the_calls(calls):
    chosen = {tuple(build(calls, calls_per_number=2, seed=seed).X[:, 0]) for seed in range(20)}
    assert len(chosen) > 1
    assert tuple(build(calls, calls_per_number=2, seed=3).X[:, 0]) in chosen


def test_labels_that_match_no_call_are_refused(calls):
    other_key = make_labels().assign(number=["other", "another"])
    for rows in (np.arange(12), np.arange(0)):
        with pytest.raises(ValueError, match=r"no label fits a call: .* under the same key$"):
            build(calls, other_key, rows=rows)
    with pytest.raises(ValueError, match="no label fits a call"):
        build(calls, make_labels().iloc[:0])


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_first_rows_of_each_caller_are_drawn(owners, most, random):
    owner = np.array(owners, dtype=np.int64)
    rows = list(range(len(owners)))
    random.shuffle(rows)
    expected, seen = [], Counter()
    for row in rows:
        seen[owners[row]] += 1
        if seen[owners[row]] <= most:
            expected.append(row)
    assert first_rows_per_caller(owner, np.array(rows, dtype=np.int64), most).tolist() == sorted(expected)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=60), st.integers(0, 40))
def test_thinning_keeps_nuisance_and_busy_callers_and_fills_up_with_others(calls, most):
    caller = np.repeat([code for code, _ in calls], [400 if code == 0 else 1 for code, _ in calls])
    nuisance = np.repeat([flag for _, flag in calls], [400 if code == 0 else 1 for code, _ in calls])
    rows = np.arange(len(caller))[::2]
    stay = thinned(nuisance[rows], caller, rows, most, 1)
    first = [bool(nuisance[row]) or list(caller).count(caller[row]) > 300 for row in rows]
    assert all(stay[place] for place, is_first in enumerate(first) if is_first)
    assert stay.sum() == max(sum(first), min(most, len(rows)))
    assert (stay == thinned(nuisance[rows], caller, rows, most, 1)).all()
