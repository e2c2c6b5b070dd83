"""Label noise in training: flipped labels, colluding reporters, and judging on the same calls."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import label_numbers
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import plan
from tests.bench.harness import interval
from tests.bench.robustness import bench_stress
from tests.bench.robustness.bench_stress import (
    CLEAN,
    FAULTS,
    TARGETED,
    change,
    different_seeds,
    stress,
    with_collusion,
    with_flips,
    without_complaints,
)

pytestmark = pytest.mark.system

POLICY = read_label_policy()


@pytest.fixture(scope="module")
def cutoff(dataset):
    start = dataset.calls["start"].to_numpy()
    return pd.Timestamp(plan(int(start.min()), int(start.max())).label_cutoff, unit="ms", tz="UTC")


def nuisance_labels(dataset, cutoff):
    return label_numbers(dataset, cutoff, POLICY).set_index("number")["nuisance"]


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_flips_invert_the_given_share_of_labels(dataset, cutoff, share):
    before = nuisance_labels(dataset, cutoff)
    after = nuisance_labels(with_flips(dataset, share, cutoff, POLICY, seed=3), cutoff)
    both = before.index.intersection(after.index)
    # A number near a new nuisance number may lose its label; only chosen labels are inverted.
    assert (before[both] != after[both]).sum() == round(share * len(before))
    again = nuisance_labels(with_flips(dataset, share, cutoff, POLICY, seed=3), cutoff)
    pd.testing.assert_series_equal(after, again)
    assert not nuisance_labels(with_flips(dataset, share, cutoff, POLICY, seed=4), cutoff).equals(after)
    with pytest.raises(ValueError, match=r"expected more than 0, less than 1, got 1\.0"):
        with_flips(dataset, 1.0, cutoff, POLICY, seed=3)


def test_colluding_reporters_are_the_given_share_and_name_numbers_of_both_kinds(dataset, cutoff):
    attacked = with_collusion(dataset, 0.1, cutoff, seed=1)
    more = attacked.complaints.iloc[len(dataset.complaints) :]
    assert more["reporter"].nunique() == round(0.1 * dataset.complaints["reporter"].nunique())
    assert (more["known_at"] < cutoff).all()
    numbers = dataset.calls["caller"].cast("string").to_pandas()
    nuisance = set(numbers[dataset.truth["nuisance"].to_numpy(zero_copy_only=False)])
    for word, expected in (("fraud", False), ("not_nuisance", True)):
        named = set(more.loc[more["category"] == word, "number"])
        assert 0 < len(named) <= TARGETED
        assert {number in nuisance for number in named} == {expected}
    assert attacked.complaints.dtypes.equals(dataset.complaints.dtypes)
    with pytest.raises(ValueError, match="expected a truth"):
        with_collusion(replace(dataset, truth=None), 0.1, cutoff, seed=1)
    with pytest.raises(ValueError, match="expected complaints"):
        with_collusion(without_complaints(dataset), 0.1, cutoff, seed=1)


def test_a_change_is_computed_from_pairs_of_calls():
    rng = np.random.default_rng(0)
    caller, clean = np.repeat(np.arange(200), 5), rng.random(1000) < 0.6
    unchanged = change(clean, clean, caller, 0)
    assert unchanged["value"] == 0 and unchanged["low"] == unchanged["high"] == 0
    worse = clean & (rng.random(1000) < 0.5)
    figures = change(worse, clean, caller, 0)
    assert figures["value"] == pytest.approx(worse.mean() - clean.mean())
    assert figures["low"] < figures["value"] < figures["high"] < 0
    assert change(clean[:0], clean[:0], caller[:0], 0)["value"] is None


def test_the_interval_over_worlds_is_a_t_interval():
    values = [0.1, 0.4, 0.35, 0.2]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    figures = interval([*values, None])
    assert (figures["low"], figures["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert interval([0.3]) == {"mean": 0.3, "low": None, "high": None}
    assert interval([])["mean"] is None


def test_a_world_is_trained_clean_and_with_each_fault(dataset):
    quick = Settings(threads=1, parameters={"rounds": 5})
    faults = (CLEAN, "20% of labels flipped")
    figures = stress([(0, dataset)], quick, faults)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    clean, flipped = figures["trainings"]
    assert clean["change"]["value"] == 0
    assert flipped["change"]["value"] == pytest.approx(flipped["catch"]["rate"] - clean["catch"]["rate"])
    assert clean["benign_calls"] == flipped["benign_calls"]  # the truth judges, and noise does not change it
    assert clean["auc"] != flipped["auc"]
    assert [row["fault"] for row in figures["faults"]] == list(faults)
    assert len(FAULTS) == 7
    with pytest.raises(ValueError, match="expected a truth"):
        stress([(0, replace(dataset, truth=None))], quick)


def test_each_world_has_its_own_seed_and_key(monkeypatch):
    monkeypatch.setattr(bench_stress, "simulated", lambda _size, seed, _scenario, key, _tell: (seed, key.secret))
    monkeypatch.setattr(bench_stress, "of_world", lambda world: world)
    first, second = bench_stress.worlds("tiny", [3, 4], None)
    assert (first[0], first[1][0], second[0], second[1][0]) == (3, 3, 4, 4) and first[1][1] != second[1][1]
    assert list(bench_stress.worlds("tiny", [4], None)) == [second]  # so the same labels are flipped again


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("1,two", "seeds: expected whole numbers separated by commas, got '1,two'"),
        ("11,2,11", "seeds: expected different seeds, got '11,2,11'"),
    ],
)
def test_invalid_seeds_are_an_error_of_one_line(seeds, message):
    assert different_seeds("5,6") == [5, 6]
    with pytest.raises(ValueError, match=f"^{message}$"):
        different_seeds(seeds)
