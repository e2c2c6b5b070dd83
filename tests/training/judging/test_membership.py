"""The membership attack finds members in an overfitted model and none in a model trained on other calls."""

import json
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.serving.batch.file_scoring import open_scorer
from callsieve.training.judging import membership
from callsieve.training.judging.membership import (
    MIN_CALLERS,
    MOST_AUC,
    Callers,
    area,
    attack,
    auc,
    by_caller,
    smallest_leaf,
)

CALLERS, CALLS_EACH = 240, 12


@pytest.fixture(scope="module")
def noise():
    """Calls whose features are independent of their labels: a model can only memorise them."""
    rng = np.random.default_rng(5)
    caller = np.repeat(np.arange(CALLERS), CALLS_EACH)
    y = rng.integers(0, 2, CALLERS)[caller]
    return caller, np.repeat(rng.normal(size=(CALLERS, 6)), CALLS_EACH, axis=0) + rng.normal(0, 0.05, (len(y), 6)), y


def fit_lightgbm(X, y, **parameters):
    fixed = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 1}
    return lightgbm.train(fixed | parameters, lightgbm.Dataset(X, y), num_boost_round=40)


@pytest.mark.source("P11", by="training/judging/membership.py")
def test_members_are_found_in_an_overfitted_model_and_not_otherwise(noise):
    caller, X, y = noise
    member = caller % 2 == 0
    overfitted = fit_lightgbm(X[member], y[member], num_leaves=63, min_data_in_leaf=1, learning_rate=0.3)
    callers = by_caller(overfitted.predict(X, raw_score=True), y == 1, member, caller, caller)
    for nuisance in (False, True):
        figures = attack(callers, nuisance=nuisance)
        assert figures["loss"]["low"] > 0.8 and figures["learned"]["low"] > 0.7 and figures["holds"] is False
    never = np.random.default_rng(6).integers(0, 2, CALLERS)[caller] == 1
    callers = by_caller(overfitted.predict(X[::-1], raw_score=True), y == 1, never, caller, caller)
    figures = attack(callers, nuisance=False)
    assert figures["loss"]["low"] < 0.5 < figures["loss"]["high"]
    assert smallest_leaf(overfitted.model_to_string()) < 20


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(1, 3)), min_size=4, max_size=30))
@settings(max_examples=40)
def test_the_area_is_the_share_of_ordered_pairs(drawn):
    guess, member, weight = (np.array(column) for column in zip(*drawn, strict=True))
    if member.all() or not member.any():
        return
    pairs = [
        (((a > b) + (a == b) / 2), v * w)
        for a, v in zip(guess[member], weight[member], strict=True)
        for b, w in zip(guess[~member], weight[~member], strict=True)
    ]
    shares, weights = zip(*pairs, strict=True)
    assert area(guess, member, weight) == pytest.approx(np.average(shares, weights=weights))


def test_an_interval_is_wider_with_fewer_groups():
    """Callers of one group have the same guess, so 400 callers count as their groups."""
    rng = np.random.default_rng(4)

    def width(groups):
        group = np.arange(400) * groups // 400
        figures = auc(rng.normal(size=groups)[group], group % 2 == 0, group, rng)
        assert figures["low"] < figures["value"] < figures["high"]
        return figures["high"] - figures["low"]

    assert width(20) > 1.5 * width(200)


@pytest.mark.source("P11", by="training/judging/membership.py")
def test_a_bundle_is_attacked_with_its_training_calls(training_run, world_folder, run_command, tmp_path):
    bundle = training_run[0] / "bundle"
    code, out, _ = run_command("study", "membership", "--bundle", bundle, "--data", world_folder, "--json")
    figures = json.loads(out)
    model = open_scorer(bundle, None).bundle
    assert figures["model"] == training_run[1]["model"]["id"] == model.model_id and figures["most_auc"] == MOST_AUC
    assert code == (figures["kinds"]["innocent"]["holds"] is False)
    loss = figures["kinds"]["innocent"]["loss"]
    assert loss["low"] <= loss["value"] <= loss["high"]
    # No identifier is a feature, and no leaf holds only a few calls.
    assert not {"caller", "callee", "caller_block", "trunk", "device", "operator", "place"} & set(model.features)
    assert smallest_leaf((bundle / "model.txt").read_text()) >= 10
    for file in world_folder.glob("*.parquet"):
        (tmp_path / file.name).symlink_to(file)
    again, _, error = run_command("study", "membership", "--bundle", bundle, "--data", tmp_path)
    assert again == code and "evaluation without declared purposes" in error


def test_callers_of_one_kind_give_no_advantage():
    """With one group of members and one group of others, each half for the fit has callers of one kind only."""
    figures = auc(np.array([1.0, 0.0]), np.array([True, False]), np.array([0, 1]), np.random.default_rng(1))
    assert figures == {"value": 1.0, "low": 1.0, "high": 1.0}  # resamples of one kind are left out
    member = np.arange(2 * MIN_CALLERS) < MIN_CALLERS
    callers = Callers(np.tile(member[:, None] * 1.0, 4), member, ~member & member, member.astype(int))
    figures = attack(callers, nuisance=False)
    assert figures["learned"]["value"] == 0.5 and figures["loss"]["value"] == 0.0


@pytest.mark.parametrize("folders", [[("aaa", "both")], [("bbb", "learn")], [("bbb", "both"), ("bbb", "both")]])
def test_a_model_of_other_calls_is_refused(monkeypatch, tmp_path, folders):
    entries = [{"data": data, "role": role} for data, role in folders]
    model = SimpleNamespace(bundle=SimpleNamespace(training={"folders": entries}))
    monkeypatch.setattr(membership, "open_scorer", lambda *_: model)
    monkeypatch.setattr(membership, "read_dataset", lambda *_: SimpleNamespace(fingerprint="bbb"))
    with pytest.raises(ValueError, match="expected the one folder that the model was trained and certified on"):
        membership.membership(tmp_path, tmp_path, trust=None, threads=1, progress=lambda *_: None)


@pytest.mark.parametrize(("holds", "exit_code"), [(True, 0), (None, 0), (False, 1)])
def test_recognisable_innocent_callers_give_exit_code_1(run_command, monkeypatch, holds, exit_code):
    loss = {"value": 0.5, "low": 0.45, "high": 0.55}
    innocent = {"members": 1200, "others": 30, "loss": loss, "learned": None, "holds": holds}
    figures = {"model": "m1", "kinds": {"innocent": innocent}, "most_auc": MOST_AUC, "smallest_leaf": 1000}
    monkeypatch.setattr(membership, "membership", lambda *_, **_more: figures)
    code, out, _ = run_command("study", "membership", "--bundle", "b", "--data", "d")
    (row,) = (line for line in out.splitlines() if "innocent" in line)
    verdict = {True: "yes", False: "no", None: "–"}[holds]
    cells = ["innocent", "1,200", "30", "0.5 (0.45 to 0.55)", "–", verdict]
    assert (code, [cell.strip() for cell in row.split("│")[1:-1]]) == (exit_code, cells)
    assert "model m1" in " ".join(out.split()) and "smallest leaf: 1,000 training calls" in out
