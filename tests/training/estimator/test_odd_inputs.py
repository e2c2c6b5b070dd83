"""Odd inputs that a scientist meets: each gives the right result, a warning that says what to change, or one line."""

import datetime as dt
import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
import scipy.sparse
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold

from callsieve.features import CallFeatures, call_features
from callsieve.training import ForwardGroupSplit, NuisanceClassifier, out_of_fold_probabilities
from tests.support.errors import refused

PAIR = {"start": [1_772_500_000, 1_772_500_060], "caller": ["13800138000"] * 2, "callee": ["95588", "10086"]}
COUNT = "out_calls_count_1h"
ROWS = 60
DAYS = np.arange(ROWS) * 86_400.0
GROUPS = np.arange(ROWS) // 2
X = pd.DataFrame(np.random.default_rng(0).normal(size=(ROWS, 2)), columns=["a", "b"])
NUISANCE = (X["a"] > 0).to_numpy()
PARAMETERS = {"rounds": 5, "min_data_in_leaf": 3}


class Warned(NamedTuple):
    """A warning that the call must cause, as a pattern."""

    words: str


class Multiline(NamedTuple):
    """An error of scikit-learn, whose own checks require its words of several lines."""

    words: str


def features(_table=None, _options=None, **columns):
    """Returns earlier calls of the hour, of two calls with other columns."""
    table = pd.DataFrame(PAIR | columns) if _table is None else _table
    return call_features(table, **({"features": [COUNT]} | (_options or {}))).iloc[:, 0].tolist()


def with_options(**options):
    """Returns the same of two plain calls, with other arguments."""
    return features(_options=options)


def fit(new=None, weight=None, **change):
    """Returns the share of rows that a model classifies rightly, fitted on one column that decides."""
    data = {"X": X, "y": NUISANCE, "groups": GROUPS} | {
        name: change.pop(name) for name in ("X", "y", "groups") & change.keys()
    }
    model = NuisanceClassifier(**({"parameters": PARAMETERS, "threads": 1} | change))
    model.fit(data["X"], data["y"], groups=data["groups"], sample_weight=weight)
    rows = data["X"] if new is None else new
    return float(np.mean((model.decision_function(rows) > 0) == NUISANCE[: len(rows)]))


def split(start=DAYS, groups=GROUPS % 10, y=None, rows=X, **options):
    """Returns the sizes of the training and test sets."""
    return [(len(train), len(test)) for train, test in ForwardGroupSplit(start, **options).split(rows, y, groups)]


TEXT_OR_NUMBERS = "expected text or whole numbers"
COLUMNS = "expected numbers, text or categories"
SIZES = [(8, 5), (18, 5), (22, 5)]
DATES = pd.date_range("2026-03-01", periods=ROWS)
MOMENTS = pd.to_datetime(["2026-03-01 01:00", "2026-03-01 01:30"])
OF_CALLS = {
    "text": (lambda: features(caller=["13800138000", "+86 138 0013 8000"]), [0, 1]),
    "whole numbers": (lambda: features(caller=[13800138000, 13800138000]), [0, 1]),
    "numbers and text": (lambda: features(caller=[8613800138000, "+86 138 0013 8000"]), [0, 1]),
    "nullable numbers": (lambda: features(caller=pd.array([13800138000] * 2, dtype="Int64")), [0, 1]),
    "floats without a fraction": (lambda: features(caller=[13800138000.0] * 2), [0, 1]),
    "categories": (lambda: features(caller=pd.Categorical(["013800138000", "0086 13800138000"])), [0, 1]),
    "arrow text": (lambda: features(caller=pd.array(["13800138000"] * 2, dtype="string[pyarrow]")), [0, 1]),
    "text of merged floats": (lambda: features(caller=["13800138000.0"] * 2),
        "2 of 2 rows .*'caller': bad value, .* without a decimal point"),
    "exponents": (lambda: features(callee=["95588", "1.39E+10"]),
        "1 of 2 rows .*'callee': bad value, .* or an exponent"),
    "fractions": (lambda: features(caller=[1380013800.5, 1.0]), f"column 'caller' holds float, {TEXT_OR_NUMBERS}"),
    "infinity": (lambda: features(caller=[np.inf, 1.0]), f"column 'caller' holds float, {TEXT_OR_NUMBERS}"),
    "lists as numbers": (lambda: features(caller=[[1], [2]]), f"'caller' holds lists or dicts, {TEXT_OR_NUMBERS}"),
    "bytes": (lambda: features(caller=[b"1", b"2"]), f"column 'caller' holds bytes, {TEXT_OR_NUMBERS}"),
    "truth values": (lambda: features(caller=[True, False]), f"column 'caller' holds bool, {TEXT_OR_NUMBERS}"),
    "British numbers": (lambda: features(caller=["07911 123456", "+44 7911 123456"], _options={"country": "GB"}),
        [0, 1]),
    "British numbers without a country": (lambda: features(caller=["07911 123456", "+44 7911 123456"]), [0, 0]),
    "codes that share digits": (lambda: features(caller=["user_17", "u17"], _options={"numbers": "codes"}), [0, 0]),
    "codes without a word": (lambda: features(caller=["tok1", "tok2"], callee=["tok3", "tok4"]),
        Warned('are not telephone numbers: .*numbers="codes"')),
    "a withheld caller": (lambda: features(caller=[None, "13800138000"]), [0, 0]),
    "all callers withheld": (lambda: features(caller=[None, None]),
        Warned("^DataFrame: 100% of the calls have no caller, .*check the caller's column")),
    "nan as text": (lambda: features(caller=["nan", "<NA>"]), Warned("100% of the calls have no caller")),
    "a missing callee": (lambda: features(callee=["13900139000", None]),
        "1 of 2 rows .* row 1 .*'callee': missing callee"),
    "local times": (lambda: features(start=MOMENTS), [0, 1]),
    "times with a zone": (lambda: features(start=MOMENTS.tz_localize("America/New_York")), [0, 1]),
    "times as text": (lambda: features(start=["2026-03-01 09:00", "2026-03-01 09:05:00"]), [0, 1]),
    "days first": (lambda: features(start=["02/03/2026"] * 2), "bad time, .*; pandas.to_datetime reads other formats"),
    "a word as a time": (lambda: features(start=["2026-03-01", "soon"]),
        r"2 of 2 rows are not valid calls; the first is row 0 .*'start'"),
    "milliseconds since 1970": (lambda: features(start=[1.7725e12] * 2),
        "time out of range, expected a time from 1990-01-01 to 2100-01-01"),
    "a mixture of times": (lambda: features(start=[1, "x"]), "'start' mixes kinds of values"),
    "periods": (lambda: features(start=pd.period_range("2026", periods=2)),
        r"'start' holds period\[D\], expected times or numbers"),
    "a later call first": (lambda: features(start=PAIR["start"][::-1]), [1, 0]),
    "equal calls": (lambda: features(pd.DataFrame(PAIR).iloc[[0, 0]]), [0, 0]),
    "a negative talk time": (lambda: features(talk=[3.0, -3.0], ring=[1, 1]),
        "row 1 .*'talk': negative duration, expected 0 seconds or more"),
    "a talk time of truth values": (lambda: features(talk=[True, False]), "column 'talk' holds bool, expected numbers"),
    "a missing talk time": (lambda: features(talk=[30.0, np.nan]), "row 1 .*expected both ring and talk, or neither"),
    "durations": (lambda: features(talk=pd.to_timedelta([90, 0], unit="s")), [0, 1]),
    "talk in milliseconds": (lambda: features(talk=[99_000.0, 12_000.0]),
        Warned("talk time have one of more than 55,500 s: .*divide milliseconds by 1000")),
    "ring in milliseconds": (lambda: features(talk=[99.0, 12.0], ring=[9_000, 8_000]),
        Warned("ring time have one of more than 8,500 s")),
    "a long call": (lambda: features(talk=[9_000.0, 0.0], ring=[60.0, 500.0]), [0, 1]),
    "an unknown outcome": (lambda: features(outcome=["answered", "went well"]),
        "row 1 .*'outcome': bad value, expected one of answered"),
    "no rows": (lambda: features(pd.DataFrame(PAIR).iloc[:0]), []),
    "an index of words": (lambda: features(pd.DataFrame(PAIR, index=["x", "x"])), [0, 1]),
    "an index of two levels": (lambda: features(pd.DataFrame(PAIR, index=[[1, 1], [2, 2]])), [0, 1]),
    "other columns": (lambda: features(note=["", None], label=[0, 1]), [0, 1]),
    "polars": (lambda: features(polars.DataFrame(PAIR)), [0, 1]),
    "pyarrow": (lambda: features(pa.table(PAIR)), [0, 1]),
    "two equal column names": (lambda: features(pd.DataFrame(PAIR).set_axis([1, "1", 2], axis=1),
        {"columns": {"start": 1, "caller": "1", "callee": 2}}), "expected each column name once"),
    "a missing role": (lambda: with_options(columns={"start": "start", "caller": "caller"}), "no column for callee"),
    "a missing column": (lambda: with_options(columns={"caller": "start", "start": "gone", "callee": "callee"}),
        "'gone', which is not a column"),
    "an unknown role": (lambda: with_options(columns={"callee": "caller", "beginning": "start"}), "got 'beginning'"),
    "columns by name": (lambda: features(A=["1", "2"], _options={"columns": {"A": "caller"}}),
        "the mapping is role: column"),
    "an unknown layout": (lambda: with_options(columns="plaine"), "layout must be one of"),
    "a number as columns": (lambda: with_options(columns=3), "dict of role: column, or a layout, got int"),
    "an unknown zone": (lambda: with_options(zone="Asia/Beijing"), "unknown time zone 'Asia/Beijing'"),
    "an unknown zone of local times": (lambda: features(_options={"zone": "Mars"}, start=["2026-03-01 09:00"] * 2),
        "unknown time zone 'Mars', expected one such as 'Asia/Shanghai'"),
    "a number as zone": (lambda: with_options(zone=8), "unknown time zone 8, expected one such as"),
    "one column for caller and callee": (lambda: with_options(columns={"caller": "caller", "callee": "caller",
        "start": "start"}), "are both mapped to 'caller', expected two columns"),
    "no country": (lambda: with_options(country="UK"), "ISO code such as 'CN' or 'GB', got 'UK'"),
    "an unknown feature": (lambda: with_options(features=("calls",)), "names of the catalogue, got calls"),
    "a feature as text": (lambda: with_options(features=COUNT),
        rf"expected a list of names, got a text: write \['{COUNT}'\]"),
    "a number as a feature": (lambda: with_options(features=(1,)), "names of the catalogue, got 1"),
    "an unknown kind of numbers": (lambda: with_options(numbers="tokens"),
        "numbers must be 'written', 'codes' or None, got 'tokens'"),
    "negative threads": (lambda: with_options(threads=-3), "threads must be 0 or more, got -3"),
    "a word as history": (lambda: with_options(history="yesterday"),
        "history: expected a DataFrame or an Arrow table of calls, got str"),
} | {
    f"{name} as calls": (lambda act=act, calls=calls: act(calls),
        r": expected a DataFrame or an Arrow table of calls, got \w+$")
    for name, calls in {
        "a dict": PAIR, "nothing": None, "an array": np.zeros((2, 3)), "a pandas column": pd.Series([1, 2]),
        "a polars column": polars.Series([1, 2]), "a lazy frame": polars.LazyFrame(PAIR),
    }.items()
    for act in (call_features, CallFeatures().fit)[: 2 if name == "a dict" else 1]
}  # fmt: skip
OF_MODELS = {
    "labels as words": (lambda: fit(y=np.where(NUISANCE, "y", "n")), 1),
    "labels -1 and 1": (lambda: fit(y=np.where(NUISANCE, 1, -1)), 1),
    "labels as categories": (lambda: fit(y=pd.Categorical(np.where(NUISANCE, "y", "n"))), 1),
    "labels of polars": (lambda: fit(y=polars.Series(NUISANCE)), 1),
    "labels with another index": (lambda: fit(y=pd.Series(NUISANCE, index=np.arange(ROWS)[::-1])), 1),
    "labels as a column": (lambda: fit(y=NUISANCE[:, None]), Warned("A column-vector y was passed")),
    "three classes": (lambda: fit(y=np.arange(ROWS) % 3), "Only binary classification is supported"),
    "one class": (lambda: fit(y=np.zeros(ROWS)), "y: expected two classes, got one class"),
    "missing labels": (lambda: fit(y=np.where(NUISANCE, 1.0, np.nan)), "Input y contains NaN"),
    "probabilities as labels": (lambda: fit(y=X["b"]), "Unknown label type: continuous"),
    "words and numbers as labels": (lambda: fit(y=np.array(["a", 1] * 30, dtype=object)),
        "y: expected all text or all numbers, got a mixture"),
    "too few labels": (lambda: fit(y=NUISANCE[:5]), r"inconsistent numbers of samples: \[60, 5\]"),
    "unknown values": (lambda: fit(X=X.assign(b=np.nan)), 1),
    "infinite values": (lambda: fit(X=X.assign(b=np.inf)), "Input X contains infinity"),
    "a sparse matrix": (lambda: fit(X=scipy.sparse.csr_matrix(X)), "Sparse data was passed"),
    "rows as lists": (lambda: fit(X=X.to_numpy().tolist()), 1),
    "numbers as text in an array": (lambda: fit(X=X.astype(str).to_numpy()), 1),
    "one column as a vector": (lambda: fit(X=np.zeros(ROWS)), Multiline("Expected 2D array, got 1D array")),
    "no row": (lambda: fit(X=X[:0], y=NUISANCE[:0], groups=GROUPS[:0]), "Found array with 0 sample"),
    "no column": (lambda: fit(X=X[[]]), "X: expected each column name once, got 0 columns"),
    "a column twice": (lambda: fit(X=X.set_axis(["a", "a"], axis=1)), "X: expected each column name once, got 2"),
    "columns without names": (lambda: fit(X=X.set_axis([1, 2], axis=1)), 1),
    "columns of two levels": (lambda: fit(X=X.set_axis(pd.MultiIndex.from_product([["a"], ["b", "c"]]), axis=1)), 1),
    "truth values": (lambda: fit(X=X.assign(c=True)), 1),
    "nullable numbers": (lambda: fit(X=X.assign(c=pd.array([1, None] * 30, dtype="Int64"))), 1),
    "arrow numbers": (lambda: fit(X=X.astype("float64[pyarrow]")), 1),
    "a polars table": (lambda: fit(X=polars.from_pandas(X)), 1),
    "an empty word": (lambda: fit(X=X.assign(c="")), 1),
    "words and numbers": (lambda: fit(X=X.assign(c=["a", 1] * 30)),
        f"column 'c' holds mixed-integer values, {COLUMNS}"),
    "lists": (lambda: fit(X=X.assign(c=[[1]] * ROWS)), f"column 'c' holds mixed values, {COLUMNS}"),
    "bytes": (lambda: fit(X=X.assign(c=[b"a"] * ROWS)), f"column 'c' holds bytes values, {COLUMNS}"),
    "times": (lambda: fit(X=X.assign(c=DATES)),
        "column 'c' holds times, .*: leave it out, also where it is the start of a ForwardGroupSplit"),
    "times with a zone": (lambda: fit(X=X.assign(c=DATES.tz_localize("UTC"))), "column 'c' holds times"),
    "days": (lambda: fit(X=X.assign(c=dt.date(2026, 3, 1))), "column 'c' holds times"),
    "durations": (lambda: fit(X=X.assign(c=pd.to_timedelta(1, "s"))), "column 'c' holds times"),
    "periods": (lambda: fit(X=X.assign(c=DATES.to_period("D"))), "column 'c' holds times"),
    "a column is missing in new rows": (lambda: fit(new=X[["a"]]), Multiline("now missing:\n- b")),
    "another order in new rows": (lambda: fit(new=X[["b", "a"]]), Multiline("must be in the same order")),
    "more columns in new rows": (lambda: fit(new=X.assign(c=1)), Multiline("unseen at fit time:\n- c")),
    "new rows without names": (lambda: fit(new=X.to_numpy()), Warned("X does not have valid feature names")),
    "words where numbers were": (lambda: fit(new=X.assign(a="13800138000x")),
        "column 'a' holds text, expected numbers, as in"),
    "numbers where words were": (lambda: fit(X=X.assign(c="w"), new=X.assign(c=1)), 1),
    "groups as text": (lambda: fit(groups=GROUPS.astype(str)), 1),
    "groups with another index": (lambda: fit(groups=pd.Series(GROUPS, index=np.zeros(ROWS))), 1),
    "groups as categories": (lambda: fit(groups=pd.Categorical(GROUPS)), 1),
    "no groups": (lambda: fit(groups=None), Warned("no groups, so early stopping and calibration may see")),
    "too few groups": (lambda: fit(groups=[1, 2]), "groups: expected one a row, 60 in all, got 2"),
    "rows without a group": (lambda: fit(groups=np.where(NUISANCE, GROUPS, np.nan)),
        r"groups: expected the caller of each row, \d+ of 60 rows have none"),
    "groups of a mixture": (lambda: fit(groups=np.array(["a", 1] * 30, dtype=object)),
        "groups: expected all text or all numbers, got a mixture"),
    "groups of two columns": (lambda: fit(groups=np.zeros((ROWS, 2))), r"groups: .* got an array of shape \(60, 2\)"),
    "one group": (lambda: fit(groups=np.zeros(ROWS)), Warned("rows of 1 and 1 groups, expected 5 or more of each")),
    "one nuisance row": (lambda: fit(y=np.arange(ROWS) == 7), Warned("rows of 30 and 1 groups")),
    "ten rows": (lambda: fit(X=X[:10], y=np.arange(10) % 2, groups=np.arange(10), parameters={"rounds": 5}),
        Warned("no tree has a split, so all rows get the same score: 10 rows are too few")),
    "negative weights": (lambda: fit(weight=-np.ones(ROWS)), "Negative values in data passed to `sample_weight`"),
    "too few weights": (lambda: fit(weight=[1, 2]), r"sample_weight.shape == \(2,\), expected \(60,\)"),
    "an unknown parameter": (lambda: fit(parameters={"leaves": 3}), "parameters: .*'leaves'"),
    "a parameter as text": (lambda: fit(parameters={"rounds": "5"}),
        "rounds: expected a whole number from 1 to 100000, got '5'"),
    "parameters as a list": (lambda: fit(parameters=[5]), "parameters: expected values by name, got list"),
    "no seed": (lambda: fit(random_state=None), "random_state: expected a whole number, 0 or more, got None"),
    "a fraction as a seed": (lambda: fit(random_state=1.5),
        "random_state: expected a whole number, 0 or more, got 1.5"),
    "threads as text": (lambda: fit(threads="2"), "threads: expected a number of cores, or 0 for all, got '2'"),
    "no fit": (lambda: NuisanceClassifier().predict(X), "is not fitted yet"),
    "a search of an unknown parameter": (lambda: GridSearchCV(NuisanceClassifier(), {"leaves": [3]},
        cv=GroupKFold(2)).fit(X, NUISANCE, groups=GROUPS), "Invalid parameter 'leaves' for estimator"),
    "out-of-fold scores without groups": (lambda: out_of_fold_probabilities(NuisanceClassifier(), X, NUISANCE,
        groups=None, cv=ForwardGroupSplit(DAYS)), "expected groups=..., the caller of each row"),
}  # fmt: skip
OF_SPLITS = {
    "datetimes": (lambda: split(DATES), SIZES),
    "datetimes with a zone": (lambda: split(DATES.tz_localize("Asia/Shanghai")), SIZES),
    "ISO text": (lambda: split(pd.Series(DATES.strftime("%Y-%m-%dT%H:%M"))), SIZES),
    "seconds with another index": (lambda: split(pd.Series(DAYS, index=np.arange(ROWS) + 7)), SIZES),
    "a list of seconds": (lambda: split((DAYS + 1_772_323_200).tolist()), SIZES),
    "days as objects": (lambda: split(list(DATES.date)), SIZES),
    "a polars column": (lambda: split(polars.Series(DATES)), SIZES),
    "a column of a polars table": (lambda: split("t", rows=polars.from_pandas(X.assign(t=DATES))), SIZES),
    "a gap of pandas": (lambda: split(gap=pd.Timedelta("10D")), SIZES),
    "a gap without a unit": (lambda: split(gap=3), "gap: expected a time of 0 or more with its unit, '10D', got 3"),
    "a negative gap": (lambda: split(gap="-3D"), "gap: expected a time of 0 or more .*, got '-3D'"),
    "a word as a gap": (lambda: split(gap="soon"), "gap: expected a time of 0 or more .*, got 'soon'"),
    "no gap": (lambda: split(gap=None), "gap: expected a time of 0 or more .*, got None"),
    "a long gap": (lambda: split(gap="90D"), "expected rows of more time than the gap 90D, got 59 days"),
    "one split": (lambda: split(n_splits=1), "n_splits must be 2 or more, got 1"),
    "a fraction of splits": (lambda: split(n_splits=2.5), "n_splits must be 2 or more, got 2.5"),
    "a word as a seed": (lambda: split(random_state="a"), "random_state must be 0 or more, got 'a'"),
    "days first": (lambda: split(DATES.strftime("%d/%m/%Y")), "start: expected datetimes, ISO text or Unix seconds"),
    "a number as start": (lambda: split(5), "start: expected|expected one entry of start a row, 60, got 1"),
    "milliseconds": (lambda: split(1.7725e12 + 1000 * DAYS), "start: out of range, expected Unix seconds"),
    "a missing time": (lambda: split(np.where(DAYS > 0, DAYS, np.nan)), "expected a time in each row, 1 have none"),
    "too few times": (lambda: split(DAYS[:40]), "expected one entry of start a row, 60, got 40"),
    "an unknown column": (lambda: split("when"), "X has no column 'when'"),
    "no groups": (lambda: split(groups=None), "expected groups=..., the caller of each row"),
    "too few groups": (lambda: split(groups=[1, 2, 3]), "expected one entry of groups a row, 60, got 3"),
    "too few labels": (lambda: split(y=NUISANCE[:3]), "expected one entry of y a row, 60, got 3"),
    "one group": (lambda: split(groups=np.zeros(ROWS)), "split 0 has .* expected some of each"),
}
TABLE = [
    pytest.param(act, result, id=f"{part}: {name}")
    for part, rows in (("calls", OF_CALLS), ("model", OF_MODELS), ("split", OF_SPLITS))
    for name, (act, result) in rows.items()
]


@pytest.mark.parametrize(("act", "result"), TABLE)
def test_an_odd_input_gives_the_right_result_a_warning_or_one_line(act, result):
    if isinstance(result, Warned):
        with pytest.warns(UserWarning) as warnings:
            act()
        assert any(re.search(result.words, str(warning.message)) for warning in warnings)
        ours = {warning.filename for warning in warnings if "site-packages" not in warning.filename}
        assert ours <= {__file__}  # it names the line of the user
    elif isinstance(result, Multiline):
        with pytest.raises(ValueError, match=result.words):
            act()
    elif isinstance(result, str):
        with refused(result, (TypeError, ValueError, NotFittedError)):
            act()
    else:
        assert act() == result  # a warning is an error here
