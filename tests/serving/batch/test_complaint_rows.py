"""Models with complaint features, and the complaints that these features are computed from."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.catalogue import NAMES
from callsieve.features.complaints import COMPLAINT_NAMES, Complaint
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.online.feeds import COMPLETE
from callsieve.features.online.history import History
from callsieve.serving.batch.complaint_rows import complaint_table
from callsieve.serving.batch.file_scoring import score_calls
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.data.feeds import vectors_on
from callsieve.training.judging.leak_probes import neighbours, vectors_again
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import train, write_bundle
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_table

pytestmark = pytest.mark.system

AT = pd.Timestamp(EXAMPLE_CALL["start"], unit="ms", tz="UTC")
HOUR_MS = 3_600_000


def complaint(number, reporter, hours):
    """Returns a complaint about a moment `hours` after EXAMPLE_CALL, known three days later."""
    at = AT + pd.Timedelta(hours=hours)
    return {"number": number, "reporter": reporter, "at": at, "known_at": at + pd.Timedelta(days=3), "category": "loan"}


def test_a_complaint_is_about_the_last_call_to_its_reporter():
    calls = [
        EXAMPLE_CALL | {"trunk": "t1", "caller_block": "x"},
        EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + HOUR_MS, "trunk": "t2", "caller_block": "x"},
        EXAMPLE_CALL
        | {"start": EXAMPLE_CALL["start"] + 2 * HOUR_MS, "callee": "c", "trunk": "t3", "caller_block": "x"},
    ]
    complaints = pd.DataFrame([complaint("a", "b", 5), complaint("a", "b", 0.5), complaint("a", "no callee", 5)])
    rows = complaint_table(as_keyed_table(calls), complaints)
    assert rows["trunk"].to_pylist() == ["t1", "t2", None]
    assert rows["block"].to_pylist() == ["x", "x", None]
    assert rows["known"].to_pylist()[0] == EXAMPLE_CALL["start"] + 73 * HOUR_MS - HOUR_MS // 2


@pytest.fixture(scope="module")
def with_complaints(dataset):
    """A small training with the complaint features and without those of devices."""
    features = (*(name for name in NAMES if not name.startswith("device_")), *COMPLAINT_NAMES)
    return train(dataset, Settings(threads=1, features=features, parameters={"rounds": 20}))


def test_a_model_with_complaint_features_is_trained_scored_and_served(with_complaints, dataset, tmp_path):
    key = Ed25519PrivateKey.generate()
    write_bundle(with_complaints, tmp_path / "bundle", key)
    scorer = Scorer.load(tmp_path / "bundle", trusted=[key.public_key()])
    assert scorer.features == NAMES + COMPLAINT_NAMES
    assert scorer.bundle.features == with_complaints.settings.features
    with pytest.raises(ValueError, match="--complaints"):
        score_calls(scorer, dataset.calls)
    scores, rows = score_calls(scorer, dataset.calls, dataset.complaints, threads=1)
    pool = with_complaints.pool
    certified = ~np.isnan(with_complaints.raw) & pool.late
    np.testing.assert_array_equal(scores.raw[pool.row[certified]], with_complaints.raw[certified])
    assert (rows[:, len(NAMES)] > 0).any()
    assert last_score_online(scorer, dataset) == scores.raw[-1]


def last_score_online(scorer, dataset):
    """Returns the raw score of the last call, from the calls that share a key with it and all earlier complaints."""
    history = History(scorer.features, calls=200_000, numbers=20_000)
    near, _ = neighbours(dataset.calls, np.array([dataset.calls.num_rows - 1]))
    assert 100 < near.num_rows < dataset.calls.num_rows / 4
    *earlier, last = keyed_calls(near)
    for call in earlier:
        history.observe(call)
    for row in complaint_table(dataset.calls, dataset.complaints).to_pylist():
        if row["known"] < last.start:
            history.observe_complaint(Complaint(**row))
    return scorer.score(history, last).raw


def test_recomputed_vectors_equal_trained_vectors_with_complaints(with_complaints):
    rows, again = vectors_again(with_complaints.last.dataset, with_complaints.settings)
    columns = [(*NAMES, *COMPLAINT_NAMES).index(name) for name in COMPLAINT_NAMES]
    trained = with_complaints.last.feed.at(rows)
    np.testing.assert_array_equal(again[:, columns], trained[:, columns])
    assert again.shape == trained.shape


def test_complaints_that_become_known_later_change_no_vector(dataset):
    start = dataset.calls["start"].to_numpy()
    middle = start[len(start) // 2]
    now = pd.Timestamp(middle, unit="ms", tz="UTC")
    earlier = dataclasses.replace(dataset, complaints=dataset.complaints[dataset.complaints["known_at"] < now])
    until_now = start <= middle
    with_all, with_earlier = (
        vectors_on(COMPLETE, data, COMPLAINT_NAMES, 1).X[until_now] for data in (dataset, earlier)
    )
    np.testing.assert_array_equal(with_all, with_earlier)
    assert (with_all[:, -len(COMPLAINT_NAMES)] > 0).any()


def test_an_unknown_feature_is_named(dataset):
    with pytest.raises(ValueError, match="expected names of the catalogue, got out_dreams"):
        train(dataset, Settings(features=("out_dreams",)))
