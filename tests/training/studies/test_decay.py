"""Model decay: both ways are judged on the same calls of a period, with the vectors of a service."""

import json

import numpy as np
import pyarrow.compute as pc
import pytest

from callsieve.features.files.dates import DAY
from callsieve.features.online.feeds import COMPLETE
from callsieve.training.data.dataset import campaigns_of
from callsieve.training.data.feeds import vectors_on
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import groups
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.oversight.log.looks import Ledger
from callsieve.training.studies.decay import area, caught, decay, period_of, picture
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
