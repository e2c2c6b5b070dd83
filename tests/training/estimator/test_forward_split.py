"""The splitter: training before test with a gap, no group in both, and rows that are tested at most once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from callsieve.training import ForwardGroupSplit

DAY = 86_400


@given(
    days=st.lists(st.floats(0, 60, width=32), min_size=150, max_size=150),
    splits=st.integers(2, 4),
    gap=st.integers(0, 20),
    seed=st.integers(0, 3),
)
def test_training_is_earlier_than_the_test_by_the_gap_and_shares_no_group_with_it(days, splits, gap, seed):
    start = np.array([0, 60, *days]) * DAY
    group = np.arange(len(start)) % 30
    split = ForwardGroupSplit(start, n_splits=splits, gap=f"{gap}D", random_state=seed)
    tested, beginnings = [], []
    try:
        for train, test in split.split(start, groups=group):
            assert start[train].max() + gap * DAY <= start[test].min()
            assert not set(group[train]) & set(group[test])
            tested.extend(test.tolist())
            beginnings.append(start[test].min())
    except ValueError as error:  # days that leave a set empty
        assert "expected some of each" in str(error)
        return
    assert len(tested) == len(set(tested))
    assert beginnings == sorted(beginnings)


def test_each_test_set_has_its_share_of_the_classes():
    start = np.tile(np.arange(40), 60) * float(DAY)
    group = np.repeat(np.arange(60), 40)
    y = group < 6
    counts = [y[test].mean() for _, test in ForwardGroupSplit(start).split(start, y, group)]
    assert counts == pytest.approx([0.1] * 3, abs=0.02)


def test_a_column_of_x_names_the_times_for_nested_searches():
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"start": np.arange(2000) * 3600.0, "value": rng.normal(size=2000)})
    y, group = x["value"] + rng.normal(size=2000) > 0, np.arange(2000) % 40
    inner = ForwardGroupSplit("start", n_splits=2)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=inner, error_score="raise")
    scores = cross_val_score(
        search, x, y, groups=group, params={"groups": group}, cv=ForwardGroupSplit("start"), error_score="raise"
    )
    assert len(scores) == ForwardGroupSplit("start").get_n_splits() == 3
