"""Trainings on several folders: each folder by its own cutoff and role, and no group in two folders."""

import dataclasses
import json
import mmap
import sys
import tempfile

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from callsieve.features.catalogue import NAMES
from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import silent
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.online.feeds import NO_ROUTES
from callsieve.serving.bundle import level
from callsieve.serving.bundle.bundle import load
from callsieve.training.data.feeds import POORER_FEEDS
from callsieve.training.data.labels import label_numbers
from callsieve.training.data.sources import Source, folder_sources
from callsieve.training.judging import judge as judging
from callsieve.training.judging.last_day import policy_actions
from callsieve.training.model import models, scores
from callsieve.training.model import train as steps
from callsieve.training.model.bands import aligned_scores, chosen_on
from callsieve.training.model.fit import NO_CV_FOLD, fit_members
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.pool import VectorFile, gather
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained, train, write_bundle
from callsieve.training.model.trees import read_forest
from callsieve.training.studies.demo import of_world
from callsieve.training.world import keyed_world, simulate
from tests.support.calls.lacks import without
from tests.support.calls.worlds import scenario_of
from tests.support.resident import linux_alone, resident_bytes_of
from tests.support.trainings import short_trainings

pytestmark = pytest.mark.system

QUICK = Settings(threads=1, parameters={"rounds": 15})
SECOND = dataclasses.replace(QUICK, poorer_feeds=True, learn_from="truth")
SCENARIO = "[sizes.tiny]\nsubscribers = 120\ndays = 21\n"


@pytest.fixture(scope="module")
def worlds():
    """Data sets of six tiny worlds with one key, so that tokens of different worlds may be equal."""
    key = Key("e1", bytes(32))
    scenario = scenario_of(SCENARIO)
    return [of_world(keyed_world(simulate(scenario, seed, "tiny"), Intake(key))) for seed in range(21, 27)]


def sources(worlds, roles):
    return [
        Source(f"world {place}", role, lambda dataset=dataset: dataset)
        for place, (dataset, role) in enumerate(zip(worlds, roles, strict=True))
    ]


@pytest.fixture(scope="module")
def pooled(worlds):
    """A training on five worlds, certified on the sixth, with its members and the folds of their rows."""
    seen = {}

    def members(learn, part, names, **options):
        seen["part"], seen["members"] = part, fit_members(learn, part, names, **options)
        return seen["members"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "fit_members", members)
        return train(sources(worlds, ["learn"] * 5 + ["certify"]), QUICK), seen


def vector_file(values):
    """A vector file of float32 with these rows, appended in two parts, whose file is closed."""
    with tempfile.TemporaryFile() as file:
        vectors = VectorFile(file, values.shape[1], np.float32)
        vectors.append(values[:7])
        vectors.append(values[7:])
        vectors.array()
    return vectors


VALUES = np.random.default_rng(5).normal(size=(50_000, 40)).astype("f4")


@linux_alone
def test_released_vectors_need_no_memory_and_keep_their_values():
    vectors = vector_file(VALUES)
    array = vectors.array()
    for _ in range(2):
        np.testing.assert_array_equal(array, VALUES)
        assert resident_bytes_of(array) >= VALUES.nbytes
        vectors.release()
        assert resident_bytes_of(array) == 0
    assert vectors.array() is array


@linux_alone
def test_a_system_that_cannot_release_vectors_keeps_them(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    vectors = vector_file(VALUES)
    np.testing.assert_array_equal(vectors.array(), VALUES)
    vectors.release()
    assert resident_bytes_of(vectors.array()) >= VALUES.nbytes


def test_a_mapped_vector_file_takes_no_more_rows_and_an_empty_one_has_none():
    with tempfile.TemporaryFile() as file:
        vectors = VectorFile(file, 3, np.float64)
        vectors.release()  # not mapped yet
        assert vectors.array().shape == (0, 3)
        vectors.release()
        with pytest.raises(ValueError, match="append all rows before"):
            vectors.append(np.ones((1, 3)))


@dataclasses.dataclass
class Watched:
    """A training, and the shares of its vectors in memory before each step and after it.

    Attributes:
        during: by step, before each of its calls, of each file of vectors.
        after: of the vectors of the training rows, and of all vectors.
    """

    trained: Trained
    during: dict[str, list[list[float]]]
    after: tuple[float, float]


@pytest.fixture(scope="module")
def with_second(worlds):
    """A training with a second model for poorer feeds, whose vectors were watched."""
    seen, during = {}, {"fit": [], "score": []}

    def share(array):
        return resident_bytes_of(array) / array.nbytes

    def remembered(*arguments):
        seen["gathered"] = gather(*arguments)
        return seen["gathered"]

    def watched(make, step):
        def resident_before(*arguments, **options):
            gathered = seen["gathered"]
            files = [gathered.learnt, gathered.vectors, *(feed.vectors for feed in gathered.poorer.values())]
            during[step].append([share(file.array()) for file in files])
            return make(*arguments, **options)

        return resident_before

    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setattr(steps, "gather", remembered)
            patch.setattr(models, "fit_members", watched(fit_members, "fit"))
            patch.setattr(scores, "score_feed", watched(scores.score_feed, "score"))
        trained = train(sources(worlds[:2], ["learn", "certify"]), SECOND)
    after = (share(seen["gathered"].matrix.X), share(trained.X)) if seen else (1.0, 1.0)
    return Watched(trained, during, after)


@linux_alone
def test_a_training_holds_few_vectors_at_a_time(with_second):
    """Vectors of training rows are released before each fit, and those of each feed before the next feed is scored."""
    during, (rows, vectors) = with_second.during, with_second.after
    assert np.array(during["fit"]).shape == (2, 2 + len(POORER_FEEDS)) and not np.any(during["fit"])
    assert np.array(during["score"]).shape == (1 + len(POORER_FEEDS), 2 + len(POORER_FEEDS))
    assert not np.any(during["score"])
    assert rows == 0 and vectors < 1 / 2  # the golden rows alone were read


def test_a_folder_is_learnt_from_as_of_its_own_cutoff(worlds):
    """Labels and calls of each folder are those known at its own cutoff, though another folder is a month later."""
    later = worlds[1]
    shifted = later.calls.set_column(0, "start", pd.Series(later.calls["start"].to_numpy() + 30 * DAY).to_numpy()[None])
    frames = {name: getattr(later, name).copy() for name in ("complaints", "findings")}
    for frame in frames.values():
        for column in frame.columns.intersection(["at", "known_at"]):
            frame[column] += pd.Timedelta(days=30)
    second = dataclasses.replace(later, calls=shifted, recycled=later.recycled.iloc[:0], **frames)
    gathered = gather(sources([worlds[0], second], ["both", "both"]), QUICK, silent)
    assert (np.diff([folder.plan.label_cutoff for folder in gathered.folders]) > 20 * DAY).all()
    for place, (dataset, folder) in enumerate(zip([worlds[0], second], gathered.folders, strict=True)):
        rows = gathered.matrix.folder == place
        cutoff = pd.Timestamp(folder.plan.label_cutoff, unit="ms", tz="UTC")
        labels = label_numbers(dataset, cutoff, QUICK.label_policy).set_index("number")["nuisance"]
        assert (gathered.matrix.moment[rows] < folder.plan.train[1]).all()
        by_start = dict(zip(dataset.calls["start"].to_pylist(), dataset.calls["caller"].to_pylist(), strict=True))
        learnt = [labels[by_start[moment]] for moment in gathered.matrix.moment[rows].tolist()]
        assert (gathered.matrix.y[rows] == np.array(learnt)).mean() > 0.99  # two calls may start in one millisecond


def test_folders_of_different_feeds_are_refused(worlds):
    poorer = dataclasses.replace(worlds[1], calls=without(worlds[1].calls, [NO_ROUTES]))
    with pytest.raises(
        ValueError, match=r"^world 1: .* on the feed 'no routes', those of world 0 on 'complete'; train"
    ):
        gather(sources([worlds[0], poorer], ["learn", "certify"]), QUICK, silent)


def test_a_second_model_learns_from_poorer_copies_and_scores_them_alone(worlds, with_second, tmp_path):
    """The first model and its scores are the same with and without it; an opened bundle chooses by the feed."""
    both = with_second.trained
    alone = train(sources(worlds[:2], ["learn", "certify"]), dataclasses.replace(SECOND, poorer_feeds=False))
    assert both.models["model"] == alone.models["model"] and "second" not in alone.models
    np.testing.assert_array_equal(both.raw, alone.raw)
    folder, key = tmp_path / "bundle", Ed25519PrivateKey.generate()
    write_bundle(both, folder, key)
    bundle = load(folder, [key.public_key()])
    rows = both.golden_rows
    first, second = (read_forest(both.models[name]).predict_raw(rows) for name in ("model", "second"))
    assert (first != second).any()
    for feed, expected in (("complete", first), ("no routes", first), ("answered only", second), ("unknown", first)):
        model, calibration = bundle.risk_model(feed)
        np.testing.assert_array_equal(model.predict_raw(rows), expected)
        assert (calibration == bundle.calibration) == (expected is first)


def test_groups_and_callers_of_two_folders_are_different_though_the_tokens_are_equal(worlds):
    gathered = gather(sources([worlds[0], worlds[0]], ["learn", "certify"]), QUICK, silent)
    pool, first = gathered.pool, gathered.pool.folder == 0
    for codes in (pool.caller, pool.callee, pool.group):
        assert not set(codes[first]) & set(codes[~first])
    assert set(gathered.matrix.group) <= set(pool.group[first]) | set(
        gathered.matrix.group[gathered.matrix.folder == 0]
    )
    assert not set(gathered.matrix.group) & set(pool.group[~first])


def test_the_order_of_folders_does_not_matter_to_who_holds_out_whom(worlds):
    """Rows to learn from and calls to choose on name the same folder, also after a folder to certify on."""
    gathered = gather(sources(worlds[:3], ["certify", "learn", "learn"]), QUICK, silent)
    pool, matrix = gathered.pool, gathered.matrix
    assert set(pool.folder[pool.choose]) == set(matrix.folder) == {1, 2}
    for folder in (1, 2):
        assert set(matrix.group[matrix.folder == folder]) & set(pool.group[pool.folder == folder])
        assert not set(matrix.group[matrix.folder == folder]) & set(pool.group[pool.folder != folder])


def test_a_folder_serves_its_role_alone(pooled, worlds):
    trained, _ = pooled
    pool, last = trained.pool, trained.pool.folder == 5
    assert pool.choose[~last].all() and not pool.choose[last].any()
    assert pool.certify[last].any() and not pool.certify[~last].any()
    assert not pool.trained[last].any() and not pool.new[~last].any()
    full_windows = worlds[5].calls["start"].to_numpy() >= worlds[5].calls["start"].to_numpy().min() + 7 * DAY
    others = (pool.judged.nuisance | pool.judged.announcing)[pool.certify].sum()
    assert trained.card.thresholds[0].certificate.benign_calls + others == full_windows.sum()
    assert [folder["role"] for folder in trained.card.training["folders"]] == ["learn"] * 5 + ["certify"]


def test_thresholds_are_chosen_on_scores_of_members_that_saw_nothing_of_the_folder(pooled):
    trained, seen = pooled
    pool, pairs = trained.pool, [(i, j) for i in range(5) for j in range(i + 1, 5)]
    vectors = np.ascontiguousarray(trained.X[:, feature_columns(NAMES)])
    for folder in range(5):
        (fold,) = set(trained.cv_fold[pool.folder == folder])
        assert fold != NO_CV_FOLD
        own = np.flatnonzero(pool.choose & (pool.folder == folder))[::20]
        unseen = [text for (text, _), missed in zip(seen["members"], pairs, strict=True) if fold in missed]
        expected = np.mean([read_forest(text).predict_raw(vectors[own]) for text in unseen], axis=0)
        np.testing.assert_allclose(trained.raw[own], expected, rtol=0, atol=1e-12)
    assert len({int(trained.cv_fold[pool.folder == folder][0]) for folder in range(5)}) == 5
    assert len(seen["part"]) == trained.fitted.rows["train"]


def test_thresholds_are_distances_from_the_score_level_of_each_folder(worlds, monkeypatch):
    monkeypatch.setattr(level, "ABOVE", -1.5)  # so few trees give no score above 2
    monkeypatch.setattr(level, "FEWEST_CALLS", 500)
    trained = train(sources(worlds, ["learn"] * 5 + ["certify"]), QUICK)
    pool, raw = trained.pool, trained.raw + trained.shift[trained.pool.folder]
    levels = []
    for folder in range(6):
        scores = raw[(pool.choose | pool.certify) & (pool.folder == folder)]
        levels.append(np.quantile(scores[scores > -1.5], 0.5, method="higher"))
    lowest, highest = min(levels[:5]), max(levels[:5])
    assert structs.asdict(trained.card.levels[trained.card.feed]) == pytest.approx(
        {"lowest": lowest, "highest": highest}, abs=1e-9
    )
    expected = np.minimum(levels, highest) - highest
    assert trained.shift[:5] == pytest.approx(expected[:5], abs=1e-9)
    assert trained.shift[5] == pytest.approx(expected[5], abs=0.05)  # of every second call, because they are many
    assert trained.shift.min() < -0.01
    band, benign = trained.card.thresholds[0], ~pool.judged.nuisance & ~pool.judged.announcing
    reached = aligned_scores(trained.raw, trained.stratum, band)[pool.certify & benign] >= band.threshold
    assert band.certificate.false_calls == reached.sum()


def test_surveys_and_announcements_choose_and_certify_no_threshold(pooled):
    trained, _ = pooled
    pool = trained.pool
    apart = np.isin(pool.judged.slice, ["satisfaction", "public_campaign"]) & ~pool.judged.nuisance
    assert apart[pool.choose].any() and not chosen_on(pool)[apart].any()
    certified = pool.certify & ~pool.judged.nuisance & ~apart
    assert trained.card.thresholds[0].certificate.benign_calls == certified.sum()
    figures = judging.announcing_figures(judging.judged_calls(trained), trained.card.thresholds[0])
    assert figures["calls"] == (pool.certify & apart).sum() > 0


def test_the_figures_of_a_pool_are_of_the_folders_to_certify_on(pooled, worlds, monkeypatch):
    trained, _ = pooled
    monkeypatch.setattr(judging, "baseline_scores", lambda _: {})  # `test_baselines.py` tests them
    figures = judging.judge(trained, policy_actions(trained))
    assert figures["data"]["folders"] == 6
    assert figures["data"]["calls"] == sum(world.calls.num_rows for world in worlds)
    assert figures["data"]["fingerprint"] == worlds[5].fingerprint
    assert figures["rows"]["certify"] + figures["announcing"]["calls"] == trained.pool.certify.sum()
    assert figures["headline"]["model"]["detection"]["callers"] > 0


def test_the_truth_is_learnt_from_where_it_is_asked_for(worlds):
    settings = dataclasses.replace(QUICK, learn_from="truth")
    matrix = gather(sources(worlds[:2], ["learn", "certify"]), settings, silent).matrix
    truth = worlds[0].truth["nuisance"].to_numpy(zero_copy_only=False)
    start = worlds[0].calls["start"].to_numpy()
    by_start = dict(zip(start.tolist(), truth.tolist(), strict=True))
    assert (matrix.y == np.array([by_start[moment] for moment in matrix.moment.tolist()])).mean() > 0.99
    assert (matrix.weight == 1).all()
    assert matrix.moment.max() > start.max() - DAY  # no label is waited for
    bare = dataclasses.replace(worlds[0], truth=None)
    with pytest.raises(ValueError, match="expected truth"):
        gather(sources([bare, worlds[1]], ["learn", "certify"]), settings, silent)


def test_a_run_on_several_folders_is_reproduced_byte_for_byte(run_command, command_json, monkeypatch, tmp_path):
    short_trainings.shorten(monkeypatch)
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    words = ("--size", "tiny", "--scenario", tmp_path / "scenario.toml", "--out", tmp_path / "worlds")
    command_json("simulate", "--worlds", 3, "--seed", 31, *words)
    first, second, third = (tmp_path / "worlds" / f"world-{seed}" for seed in (31, 32, 33))
    (tmp_path / "parameters.toml").write_text("rounds = 15\n")
    names = ("--certify", third, "--out", tmp_path / "run", "--threads", 1)
    names += ("--parameters", tmp_path / "parameters.toml")
    figures = command_json("train", "--data", first, second, *names)
    assert figures["data"]["folders"] == 3
    recorded = json.loads((tmp_path / "run" / "record" / "datasets.json").read_text())
    assert [recorded[f"calls {place}"]["source"] for place in (1, 2, 3)] == [str(first), str(second), str(third)]
    replayed = command_json("model", "replay", tmp_path / "run")
    assert replayed["identical"], replayed["differences"]
    code, _, error = run_command("model", "replay", tmp_path / "run", "--data", first)
    assert code == 1 and "expected --data FOLDER for each of 3" in error
    code, _, error = run_command(
        "train", "--data", first, "--certify", tmp_path / "worlds", "--out", tmp_path / "other"
    )
    assert code == 1 and "listed twice" in error


def test_folders_of_folders_are_read_in_the_order_of_their_numbers(tmp_path):
    for name in ("world-10", "world-9", "notes"):
        (tmp_path / name).mkdir()
    for name in ("world-10", "world-9"):
        for file in ("calls.parquet", "complaints.parquet"):
            (tmp_path / name / file).touch()
    assert [source.name for source in folder_sources([tmp_path])] == [
        str(tmp_path / "world-9"),
        str(tmp_path / "world-10"),
    ]
    with pytest.raises(ValueError, match=r"notes: expected calls.parquet, in this folder or in its sub-folders"):
        folder_sources([tmp_path / "notes"])
