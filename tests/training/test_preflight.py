"""A training that has too little to learn from is refused before it computes a vector; a dry run counts what it has."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest

from callsieve.training import Settings, record_training
from callsieve.training.data.sources import Source
from callsieve.training.model import pool
from callsieve.training.model.folds import assign_folds
from callsieve.training.preflight import preflight, too_small
from tests.support.calls import foreign_files
from tests.support.errors import raising

FOLDS = ("train", "choose", "certify")


@pytest.fixture(autouse=True)
def no_vectors(monkeypatch):
    """Makes a test fail that computes vectors."""

    compute = raising(AssertionError("vectors were computed before the counts were checked"))
    monkeypatch.setattr(pool, "vectors_on", compute)
    monkeypatch.setattr(pool, "training_vectors", compute)


@pytest.fixture
def quiet_folder(world_folder, tmp_path):
    """The folder of a world in which one number is complained about, and nothing is known by truth or finding."""
    folder = tmp_path / "quiet"
    folder.mkdir()
    shutil.copy(world_folder / "calls.parquet", folder)
    complaints = pd.read_parquet(world_folder / "complaints.parquet")
    commonest = complaints["number"].value_counts().index[0]
    complaints[complaints["number"] == commonest].to_parquet(folder / "complaints.parquet")
    return folder


def test_a_dry_run_counts_calls_days_and_groups_of_each_fold(
    run_command, command_json, world_folder, dataset, tmp_path
):
    before = sorted(world_folder.iterdir())
    counts = command_json("train", "--data", world_folder, "--out", tmp_path / "run", "--dry-run")
    assert sorted(world_folder.iterdir()) == before and not (tmp_path / "run").exists()  # no look, no run
    folds = assign_folds(dataset, Settings())
    chosen = folds.choose(0)
    kinds = {"innocent": chosen & ~folds.judged.nuisance, "nuisance": chosen & folds.judged.nuisance}
    for kind, rows in kinds.items():
        expected = {"calls": int(rows.sum()), "groups": len(set(folds.group[rows]))}
        assert counts["folds"]["choose"][kind] == expected
    assert (counts["calls"], counts["groups"]) == (dataset.calls.num_rows, len(set(folds.group)))
    assert tuple(counts["folds"]) == FOLDS and counts["too_small"] == []
    assert all(fold["days"] and fold["nuisance"]["groups"] for fold in counts["folds"].values())
    code, out, _ = run_command("train", "--data", world_folder, "--out", tmp_path / "run", "--dry-run")
    assert code == 0 and "enough to train" in out
    groups = counts["folds"]["train"]["nuisance"]["groups"]
    assert f"independent nuisance groups to learn from: {groups}; needed: 2" in out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    certify = counts["folds"]["certify"]
    values = (certify["days"], *(certify[kind][of] for kind in kinds for of in ("calls", "groups")))
    assert rows[2] == ["certify", *(f"{value:,}" for value in values)]


def test_a_dry_run_on_own_files_leaves_nothing(run_command, written_world, tmp_path, monkeypatch):
    own = foreign_files.write_files(written_world, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    files = ("--calls", own / "cdr.csv", "--layout", own / "op.toml", "--complaints", own / "complaints.csv")
    code, out, _ = run_command("train", *files, "--dry-run", "--json")
    counts = json.loads(out)
    assert counts["calls"] > 1000 and counts["folds"]["train"]["innocent"]["groups"] > 2
    assert code == 1 and counts["folds"]["train"]["nuisance"]["groups"] < counts["needed"] == 30
    assert [line.endswith("fit the shipped model to these calls: callsieve adapt") for line in counts["too_small"]] == [
        True
    ]
    assert sorted(tmp_path.iterdir()) == before


def test_too_few_groups_stop_a_training_at_once(command_error, run_command, quiet_folder, tmp_path):
    words = ("train", "--data", quiet_folder, "--out", tmp_path / "run", "--tracking-uri", f"sqlite:///{tmp_path}/m.db")
    err = command_error(*words)
    (line,) = [line for line in err.splitlines() if line.startswith("callsieve: ")]
    assert line.startswith("callsieve: train fold: ") and " with nuisance calls, expected at least 30: give" in line
    assert line.endswith(" more complaints, or fit the shipped model to these calls: callsieve adapt")
    # No look is counted, no run is recorded.
    assert {path.name for path in quiet_folder.iterdir()} == {"calls.parquet", "complaints.parquet"}
    assert not (tmp_path / "m.db").exists() and not list((tmp_path / "run").glob("*"))
    code, out, _ = run_command(*words, "--dry-run", "--json")
    counts = json.loads(out)
    assert code == 1 and [f"callsieve: {sentence}" for sentence in counts["too_small"]] == [line]


def test_the_function_refuses_too_few_groups_too(dataset, tmp_path):
    none = dataset.findings.iloc[:0]
    quiet = dataclasses.replace(dataset, complaints=dataset.complaints.iloc[:0], findings=none)
    with pytest.raises(ValueError, match=r"^train fold: 0 groups with nuisance calls, expected at least 2: "):
        record_training(quiet, Settings(), tmp_path / "run", source="a world without a complaint")
    assert not (tmp_path / "run").exists()


def test_an_unknown_feature_is_refused_before_the_calls_are_read():
    unread = Source("gone", "both", lambda: pytest.fail("the calls were read"))
    with pytest.raises(ValueError, match="features: expected names of the catalogue, got nosuch"):
        preflight([unread], Settings(features=("call_hour", "nosuch")))


def test_folders_are_counted_together(dataset):
    single = preflight([Source("", "both", lambda: dataset)], Settings())
    two = preflight([Source(name, "both", lambda: dataset) for name in "ab"], Settings())
    assert two["calls"] == 2 * single["calls"] and two["largest_group"] == single["largest_group"]
    for fold in FOLDS:
        assert two["folds"][fold]["nuisance"]["groups"] == 2 * single["folds"][fold]["nuisance"]["groups"]
    split = preflight([Source("a", "learn", lambda: dataset), Source("b", "certify", lambda: dataset)], Settings())
    assert split["folds"]["train"]["nuisance"]["groups"] >= single["folds"]["train"]["nuisance"]["groups"]


def test_each_sentence_says_what_is_too_small_and_what_to_do():
    def fold(innocent, nuisance):
        groups = {"innocent": innocent, "nuisance": nuisance}
        return {"days": 6, **{kind: {"calls": 9 * count, "groups": count} for kind, count in groups.items()}}

    enough = {"train": fold(2, 2), "choose": fold(1, 0), "certify": fold(1, 0)}
    assert too_small(enough, 0.9, 2) == []
    assert too_small(enough | {"train": fold(2, 1), "certify": fold(0, 3)}, 0.96, 2) == [
        "train fold: 1 group with nuisance calls, expected at least 2: give about 12 more days of calls, or more "
        "complaints",
        "certify fold: 0 groups with innocent calls, expected at least 1: give about 24 more days of calls, or more "
        "callers",
        "one group has 96% of the callers: blocks, trunks or devices connect them; leave out the column that does",
    ]
