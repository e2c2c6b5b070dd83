"""Trainings over time: model decay on the calls of each period, and trainings from rolling origins."""

import json

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import silent
from callsieve.features.online.feeds import COMPLETE
from callsieve.training.data.dataset import campaigns_of
from callsieve.training.data.feeds import vectors_on
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import groups
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.oversight.log.looks import Fold, Ledger
from callsieve.training.studies.decay import (
    area,
    caught,
    decay,
    numbers_of,
    origins,
    part,
    period_of,
    picture,
    rolling,
    spread,
    stretch,
)
from tests.support import small_bundle as small

pytestmark = pytest.mark.system

QUICK = Settings(threads=1, seed=6, parameters={"rounds": 5})  # labels of both kinds in each training


@pytest.fixture(scope="module")
def decay_run(dataset, tmp_path_factory):
    ledger = Ledger(tmp_path_factory.mktemp("decay") / "audit", small.KEY, shipped_gates())
    return ledger, decay(dataset, QUICK, train_days=24, periods=2, days=2, ledger=ledger)


def test_periods_follow_the_training_and_have_the_same_calls_for_both_ways(decay_run, dataset):
    _, figures = decay_run
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    start = dataset.calls["start"].to_numpy()
    truth = dataset.truth["nuisance"].to_numpy(zero_copy_only=False)
    for place, period in enumerate(figures["periods"]):
        begin = int(start.min()) + (24 + 2 * place) * DAY
        inside = (start >= begin) & (start < begin + 2 * DAY)
        for way in ("once", "anew"):
            assert period[way]["benign_calls"] == (inside & ~truth).sum()
            assert period[way]["all"]["calls"] == (inside & truth).sum() >= period[way]["unseen"]["calls"]
            equal, own = (period[way][name] for name in ("at_target", "unseen"))
            assert equal["calls"] == own["calls"]
            if period[way]["false_calls"] * 10_000 <= period[way]["benign_calls"] and own["calls"]:
                assert equal["call"]["rate"] >= own["call"]["rate"]  # the lowest threshold within the target
    first = figures["periods"][0]
    assert first["once"] == first["anew"]  # still the same model


def test_every_look_at_the_test_set_is_counted(decay_run):
    ledger, figures = decay_run
    entries = [payload["by"] for _, payload in payloads(ledger.log, "touch")]
    assert entries == ["decay"] * 4  # two trainings, two periods
    # The second training certifies on the first period.
    assert [period["touches"] for period in figures["periods"]] == [1, 2]


def test_a_period_has_the_vectors_of_a_service(dataset):
    """Vectors of a period equal vectors on the whole history, which is shorter than the longest feature window."""
    group = groups(dataset.calls, campaigns_of(dataset))
    start = dataset.calls["start"].to_numpy()
    begin = int(start.min()) + 24 * DAY
    period = period_of(dataset, QUICK, group, begin, begin + 2 * DAY)
    rows = np.flatnonzero((start >= begin) & (start < begin + 2 * DAY))
    np.testing.assert_array_equal(period.feed.X, vectors_on(COMPLETE, dataset, QUICK.features, 2, rows).X)
    # Calls after the period are not in its data.
    assert pc.max(period.dataset.calls["start"]).as_py() < begin + 2 * DAY


def test_the_picture_has_a_line_for_each_way(decay_run):
    drawn = picture(decay_run[1])
    assert drawn.startswith("<svg")
    for word in ("trained once", "retrained each period", "days since the first training"):
        assert word in drawn


def test_the_area_is_the_mean_of_steps_and_a_rate_without_calls_is_none():
    assert area([0.8, 0.6, 0.4, 0.2]) == pytest.approx((0.7 + 0.5 + 0.3) / 3)
    assert area([0.8, None]) is None
    assert caught(np.zeros(0), 1.0, np.zeros(0), np.zeros(0), 0)["call"]["rate"] is None


@pytest.mark.parametrize(("train_days", "periods"), [(25, 3), (24, 1)])
def test_too_few_days_or_periods_are_refused(dataset, tmp_path, train_days, periods):
    ledger = Ledger(tmp_path / "audit", small.KEY, shipped_gates())
    with pytest.raises(ValueError, match=r"decay: expected 2 periods or more and \d+ days of calls"):
        decay(dataset, QUICK, train_days=train_days, periods=periods, days=2, ledger=ledger)


# Rolling origins


@pytest.mark.source("L4", by="training/studies/decay.py")
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


@pytest.mark.source("L4", by="training/studies/decay.py")
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
    assert part(silent, 1, 4)("fit", 0.5) is None
