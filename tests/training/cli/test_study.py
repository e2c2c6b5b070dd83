"""The commands of studies: their options, and errors of one line before any training."""

import json

import pytest

from callsieve.features.catalogue import NAMES
from callsieve.features.catalogue.lite import LITE
from callsieve.serving.batch.vector_files import feature_names
from callsieve.training.studies import decay, rolling, search


@pytest.mark.parametrize(
    ("name", "study", "words", "expected"),
    [
        ("roll", rolling, ("--origins", 4, "--step", 2), {"count": 4, "step_days": 2}),
        ("search", search, ("--trials", 7, "--minutes", 1.5), {"trials": 7, "minutes": 1.5}),
        ("decay", decay, ("--train-days", 22, "--weeks", 3, "--days", 5), {"train_days": 22, "periods": 3, "days": 5}),
    ],
)
def test_a_study_gets_its_options_and_writes_its_figures(
    run_command, world_folder, tmp_path, monkeypatch, name, study, words, expected
):
    """A replaced study receives each option as the right parameter, and its figures are written."""
    parameters = {}

    def replacement(*_, **named):
        parameters.update(named)
        return {"a": 1}

    monkeypatch.setattr(study, study.__name__.rpartition(".")[2], replacement)
    monkeypatch.setattr(decay, "picture", lambda figures: f"<svg>{figures['a']}</svg>")
    out = tmp_path / "out"
    code, text, _ = run_command("study", name, "--data", world_folder, *words, "--out", out, "--json")
    assert (code, json.loads(text)) == (0, {"a": 1})
    assert expected.items() <= parameters.items()
    if name != "search":  # a search writes its own files
        assert json.loads((out / f"{name}.json").read_text()) == {"a": 1}
        assert parameters["ledger"].gates
    if name == "decay":
        assert (out / "decay.svg").read_text() == "<svg>1</svg>"


def test_lite_is_ten_features_of_the_catalogue():
    assert feature_names("lite") == LITE
    assert feature_names(",".join(NAMES)) == NAMES  # longer than the name of a file may be
    assert len(set(LITE)) == 10 and set(LITE) <= set(NAMES)
