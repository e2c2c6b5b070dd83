"""Rolling origin: equal stretches, the data of a stretch, and a whole training from each origin."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.files.dates import DAY
from callsieve.training.model.settings import Settings
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.oversight.log.looks import Fold, Ledger
from callsieve.training.studies.rolling import numbers_of, origins, part, rolling, spread, stretch
from tests.support import small_bundle as small

pytestmark = pytest.mark.system


@pytest.mark.source("L4", by="training/studies/rolling.py")
@given(st.integers(0, 2**41), st.integers(20, 90), st.integers(3, 5), st.integers(1, 4), st.integers(0, DAY - 1))
def test_origins_are_equally_long_and_reach_the_end(first, days, count, step, rest):
    last = first + (days - 1) * DAY + rest
    intervals = origins(first, last, count, step)
    assert len({end - begin for begin, end in intervals}) == 1
    assert [begin for begin, _ in intervals] == [first + i * step * DAY for i in range(count)]
    assert last < intervals[-1][1] <= last + DAY


@pytest.mark.parametrize("count, step", [(2, 3), (3, 0)])
def test_too_few_origins_are_refused(count, step):
    with pytest.raises(ValueError, match="expected 3 or more"):
        origins(0, 60 * DAY, count, step)


def test_origins_after_the_last_call_are_refused():
    assert len(origins(0, 27 * DAY, 4, 9)) == 4  # the last stretch has one day
    with pytest.raises(ValueError, match=r"expected fewer than 50, .* there are 28 days of calls"):
        origins(0, 27 * DAY, 50, 3)


def test_a_stretch_has_the_calls_and_complaints_of_its_time(dataset):
    start = dataset.calls["start"].to_numpy()
    begin, end = int(start.min()) + 3 * DAY, int(start.min()) + 20 * DAY
    selected = stretch(dataset, begin, end)
    moments = selected.calls["start"].to_numpy()
    assert begin <= moments.min() <= moments.max() < end
    assert len(moments) == ((start >= begin) & (start < end)).sum()
    assert selected.truth["call"].equals(selected.calls["call"])
    assert (selected.complaints["known_at"] <= pd.Timestamp(end, unit="ms", tz="UTC")).all()
    assert 0 < len(selected.complaints) < len(dataset.complaints)
    assert selected.fingerprint != dataset.fingerprint


def test_the_spread_agrees_with_a_computation_by_hand():
    assert numbers_of({"a": 1, "b": {"c": None, "d": True, "e": {"f": 0.5}}}) == {"a": 1.0, "b.e.f": 0.5}
    figures = {"origins": 2, "mean": 2.0, "sd": pytest.approx(2**0.5), "least": 1.0, "most": 3.0}
    assert spread([1.0, None, 3.0]) == figures
    assert spread([None])["mean"] is None
    assert spread([2.0])["sd"] is None


@pytest.mark.source("L4", by="training/studies/rolling.py")
def test_three_trainings_are_recorded_and_counted_as_looks(dataset, tmp_path):
    ledger = Ledger(tmp_path / "audit", small.KEY, shipped_gates())
    quick = Settings(threads=1, seed=5, parameters={"rounds": 10})
    figures = rolling(dataset, quick, count=3, step_days=1, ledger=ledger)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert len(figures["origins"]) == 3
    rates = [origin["headline"]["catch.call.rate"] for origin in figures["origins"]]
    assert figures["spread"]["catch.call.rate"]["least"] == min(rates)
    assert figures["spread"]["catch.call.rate"]["most"] == max(rates)
    # Gates come first, and a touch comes before each training. The folds overlap, so each touch adds a look.
    entries = list(payloads(ledger.log, "gates", "touch"))
    assert [entry.kind for entry, _ in entries] == ["gates", "touch", "touch", "touch"]
    assert [payload["fold"] for _, payload in entries[1:]] == [origin["fold"] for origin in figures["origins"]]
    assert [origin["touches"] for origin in figures["origins"]] == [1, 2, 3]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=8))
def test_looks_are_overlapping_folds_of_the_same_data(folds):
    names = [f"{name} {begin}..{begin + length}" for name, begin, length in folds]
    data, begin, length = folds[-1]
    moments = set(range(begin, begin + length))
    shared = [name == data and not moments.isdisjoint(range(first, first + n)) for name, first, n in folds]
    fold = Fold(data, begin, begin + length)
    assert [fold.overlaps(Fold.parse(name)) for name in names] == shared
    assert str(fold) == names[-1]


def test_progress_of_each_training_is_scaled_to_its_part():
    steps = []
    of_second = part(lambda *step: steps.append(step), 1, 4)
    of_second("fit", 0.5)
    assert steps == [("2/4 fit", 0.375)]
    assert part(None, 1, 4) is None
