"""`callsieve adapt` on keyed calls: three rounds, with the sheet filled in from the truth between them."""

import json
import re
import shutil

import pandas as pd
import pytest

from callsieve.training.adapt import own_trees
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.tracking import mlflow_read
from callsieve.training.world import write_world
from tests.support.trainings import short_trainings
from tests.support.trainings.adapted_network import make_world, true_callers, write_base

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory, empty_store):
    """A base, and keyed calls without complaints, checks and truth."""
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "base").mkdir()
    write_base(folder / "base")
    write_world(world, folder / "calls")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    for name in ("complaints", "findings", "truth"):
        (folder / "calls" / f"{name}.parquet").unlink()
    return folder


@pytest.fixture
def rounds(folder, command_json, monkeypatch):
    """Adapts the base in a folder of that name, with filled-in sheets of earlier rounds; returns the figures."""
    short_trainings.shorten(monkeypatch)
    monkeypatch.setattr(own_trees, "TREES", 40)

    def run(name, *earlier):
        answers = [word for before in earlier for word in ("--answers", folder / before / "to_check.csv")]
        words = ("--bundle", folder / "base" / "bundle", "--data", folder / "calls", "--out", folder / name)
        words += ("--audit", folder / "log")
        return command_json("adapt", *words, "--tracking-uri", default_store(folder), *answers, "--threads", 2)

    return run


def fill_in(sheet, truth):
    """Answers every row of a sheet by the truth; returns the rows."""
    rows = pd.read_csv(sheet)
    assert list(rows.columns[:5]) == ["number", "probability", "look", "verdict", "checked_at"]
    rows["verdict"] = truth[rows["number"]].map({True: "nuisance", False: "innocent"}).to_numpy()
    rows.assign(checked_at="2025-03-20").to_csv(sheet, index=False)
    return rows


def test_three_rounds_of_checks_make_a_signed_model_that_scores(
    rounds, world, folder, command_json, command_text, command_error, run_command
):
    truth = true_callers(world)
    first = rounds("one")
    assert first["adapted"]["learnt"] == "nothing" and first["adapted"]["after"]["bound"] is None
    sheet = fill_in(folder / "one" / "to_check.csv", truth)
    assert len(sheet) == 175 and set(sheet["look"]) == {1}
    second = rounds("two", "one")
    assert second["adapted"]["answered"] == second["adapted"]["asked"] == 175
    again = fill_in(folder / "two" / "to_check.csv", truth)
    assert len(again) == 25 and set(again["look"]) == {2} and set(again["number"]) < set(sheet["number"])
    third = rounds("three", "one", "two")
    adapted = third["adapted"]
    assert (adapted["answered"], adapted["twice"], adapted["changed"]) == (175, 25, 0)
    assert adapted["learnt"] != "nothing"
    for run in ("one", "two", "three"):
        command_text("model", "verify", "--bundle", folder / run / "bundle")
        assert not re.search(rb"(?<![\d.])1[3-9]\d{9}(?!\d)", (folder / run / "to_check.csv").read_bytes())
    log = ("--audit", folder / "log")
    assert " 0 faults" in command_text(
        "audit", "verify", "--in", folder / "three", *log, "--tracking-uri", default_store(folder)
    )
    words = ("--calls", folder / "calls" / "calls.parquet", "--layout", "keyed")
    counts = command_json("score", "--bundle", folder / "three" / "bundle", *words)
    assert sum(counts["actions"].values()) == counts["calls"] and counts["actions"]["label"] > 0
    tags = mlflow_read.snapshot(default_store(folder), second["tracking"]["run"])["tag"]
    assert (tags["base_model_id"], tags["base_learnt"]) == (second["adapted"]["base"], second["adapted"]["learnt"])
    assert [figures["gates"]["touches"] for figures in (first, second, third)] == [1, 1, 1]
    (attempt,) = command_json("audit", "attempts", *log)["attempts"]
    assert (attempt["looks"], len(attempt["rounds"]), attempt["model"]) == (["adapt"], 3, third["model"]["id"])
    touches = [payload for _, payload in payloads(folder / "log", "touch")]
    assert [len(touch["round"]["answers"]) for touch in touches] == [0, 175, 200]
    assert [bool(touch["follows"]) for touch in touches] == [False, True, True]

    replay = ("model", "replay", folder / "three", *log, "--bundle", folder / "base" / "bundle", "--threads", 1)
    again = command_json(*replay)
    assert again["differences"] == [] and again["same_bundle"]
    assert {"dataset answers 1", "dataset answers 2", "bundle.json", "model.txt", "MANIFEST.json"} < set(again["equal"])
    err = command_error(*replay[:5])
    assert f"adapted from model {second['adapted']['base']}, manifest {second['adapted']['manifest']}; expected" in err
    wrong = pd.read_csv(folder / "two" / "to_check.csv")
    wrong.loc[0, "verdict"] = {"nuisance": "innocent", "innocent": "nuisance"}[wrong.loc[0, "verdict"]]
    wrong.to_csv(folder / "wrong.csv", index=False)
    answers = ("--answers", folder / "one" / "to_check.csv", "--answers")
    assert "expected --answers FILE for each of 2 sheets" in command_error(*replay, *answers[:2])
    code, out, _ = run_command(*replay, *answers, folder / "wrong.csv", "--json")
    differences = json.loads(out)["differences"]
    assert code == 1 and {"dataset answers 2", "dataset findings"} <= set(differences)
    assert not {"dataset answers 1", "dataset calls"} & set(differences)
