"""Ageing: each period is judged by both ways on the same calls, with the vectors of a service, and is a touch."""

import json

import numpy as np
import pyarrow.compute as pc
import pytest

from callsieve.features.files.dates import DAY
from callsieve.training.data.dataset import campaigns_of
from callsieve.training.data.feeds import complete
from callsieve.training.log.audit_log import payloads
from callsieve.training.log.gates import shipped_gates
from callsieve.training.log.looks import Ledger
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import groups
from callsieve.training.studies.decay import area, caught, decay, period_of
from callsieve.training.studies.decay_picture import picture
from tests.support import small_bundle as small

QUICK = Settings(threads=1, seed=6, parameters={"rounds": 5})  # labels of both kinds in each training


@pytest.fixture(scope="module")
def aged(dataset, tmp_path_factory):
    ledger = Ledger(tmp_path_factory.mktemp("decay") / "audit", small.KEY, shipped_gates())
    return ledger, decay(dataset, QUICK, train_days=24, periods=2, days=2, ledger=ledger)


def test_periods_follow_the_training_and_hold_the_same_calls_for_both_ways(aged, dataset):
    _, told = aged
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    start = dataset.calls["start"].to_numpy()
    truth = dataset.truth["nuisance"].to_numpy(zero_copy_only=False)
    for place, one in enumerate(told["periods"]):
        begin = int(start.min()) + (24 + 2 * place) * DAY
        inside = (start >= begin) & (start < begin + 2 * DAY)
        for way in ("once", "anew"):
            assert one[way]["benign_calls"] == (inside & ~truth).sum()
            assert one[way]["all"]["calls"] == (inside & truth).sum() >= one[way]["unseen"]["calls"]
            equal, own = (one[way][name] for name in ("at_target", "unseen"))
            assert equal["calls"] == own["calls"]
            if one[way]["false_calls"] * 10_000 <= one[way]["benign_calls"] and own["calls"]:
                assert equal["call"]["rate"] >= own["call"]["rate"]  # it may flag as many, and is the lowest that does
    first = told["periods"][0]
    assert first["once"] == first["anew"]  # the same model as yet


def test_every_look_is_counted(aged):
    ledger, told = aged
    entries = [said["by"] for _, said in payloads(ledger.log, "touch")]
    assert entries == ["decay"] * 4  # two trainings, two periods
    assert [one["touches"] for one in told["periods"]] == [1, 2]  # the second training certifies on the first period


def test_the_vectors_are_those_of_a_service(dataset):
    """The same as with all the history there is, where that is no longer than a feature remembers."""
    group = groups(dataset.calls, campaigns_of(dataset))
    start = dataset.calls["start"].to_numpy()
    begin = int(start.min()) + 24 * DAY
    period = period_of(dataset, QUICK, group, begin, begin + 2 * DAY)
    rows = np.flatnonzero((start >= begin) & (start < begin + 2 * DAY))
    np.testing.assert_array_equal(period.feed.X, complete(dataset, QUICK.features, 2, rows).X)
    # Nothing that came after the period is in it.
    assert pc.max(period.dataset.calls["start"]).as_py() < begin + 2 * DAY


def test_the_picture_has_both_lines(aged):
    drawn = picture(aged[1])
    assert drawn.startswith("<svg")
    for word in ("trained once", "retrained each period", "days since the first training"):
        assert word in drawn


def test_area_under_time_by_hand_and_no_call_is_no_rate():
    assert area([0.8, 0.6, 0.4, 0.2]) == pytest.approx((0.7 + 0.5 + 0.3) / 3)
    assert area([0.8, None]) is None
    assert caught(np.zeros(0), 1.0, np.zeros(0), np.zeros(0), 0)["call"]["rate"] is None


@pytest.mark.parametrize(("train_days", "periods"), [(25, 3), (24, 1)])
def test_too_few_days_or_periods_are_one_line(dataset, tmp_path, train_days, periods):
    ledger = Ledger(tmp_path / "audit", small.KEY, shipped_gates())
    with pytest.raises(ValueError, match=r"decay: expected 2 periods or more and \d+ days of calls"):
        decay(dataset, QUICK, train_days=train_days, periods=periods, days=2, ledger=ledger)
