"""The commands of studies: their options, and faults in one line before any training."""

import json

import pytest

from callsieve.features.catalogue import NAMES
from callsieve.features.catalogue.lite import LITE
from callsieve.serving.batch.vector_files import feature_names
from callsieve.training.studies import decay, decay_picture, rolling, search, stress


@pytest.mark.parametrize(
    ("name", "study", "words", "expected"),
    [
        ("roll", rolling, ("--origins", 4, "--step", 2), {"count": 4, "step_days": 2}),
        ("search", search, ("--trials", 7, "--minutes", 1.5), {"trials": 7, "minutes": 1.5}),
        ("decay", decay, ("--train-days", 22, "--weeks", 3, "--days", 5), {"train_days": 22, "periods": 3, "days": 5}),
    ],
)
def test_a_study_gets_its_options_and_writes_its_result(
    run_command, world_folder, tmp_path, monkeypatch, name, study, words, expected
):
    """The study is replaced: each option arrives at the right parameter, and the result is written."""
    asked = {}

    def made(*_, **named):
        asked.update(named)
        return {"a": 1}

    monkeypatch.setattr(study, study.__name__.rpartition(".")[2], made)
    monkeypatch.setattr(decay_picture, "picture", lambda found: f"<svg>{found['a']}</svg>")
    out = tmp_path / "out"
    code, said, _ = run_command("study", name, "--data", world_folder, *words, "--out", out, "--json")
    assert (code, json.loads(said)) == (0, {"a": 1})
    assert expected.items() <= asked.items()
    if name != "search":  # which keeps its own
        assert json.loads((out / f"{name}.json").read_text()) == {"a": 1}
        assert asked["ledger"].gates
    if name == "decay":
        assert (out / "decay.svg").read_text() == "<svg>1</svg>"


def test_stress_gets_each_world(run_command, tmp_path, monkeypatch):
    def strain(all_, settings, _, *, count, **_named):
        return {"worlds": [seed for seed, _ in all_], "threads": settings.threads, "count": count}

    monkeypatch.setattr(stress, "stress", strain)
    monkeypatch.setattr(stress, "worlds", lambda size, seeds, scenario: [(seed, (size, scenario)) for seed in seeds])
    out = tmp_path / "out"
    code, said, _ = run_command(
        "study", "stress", "--size", "tiny", "--seeds", "5,6", "--threads", 1, "--out", out, "--json"
    )
    assert (code, json.loads(said)) == (0, {"worlds": [5, 6], "threads": 1, "count": 2})
    assert json.loads((out / "stress.json").read_text()) == json.loads(said)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("study", "decay", "--train-days", 25, "--weeks", 8), "expected 2 periods or more and 81 days of calls"),
        (("study", "roll", "--origins", 2), "origins: expected 3 or more"),
        (("study", "search", "--features", "nothing"), "nothing"),
        (("train", "--parameters", "{bad}"), "expected parameters among num_leaves"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_fault_is_one_line(run_command, world_folder, tmp_path, words, says):
    (tmp_path / "bad.toml").write_text("leaves = 3\n")
    words = [str(word).replace("{bad}", str(tmp_path / "bad.toml")) for word in words]
    code, out, err = run_command(*words, "--data", world_folder, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert says in err and err.count("\n") == 1


def test_invalid_seeds_are_one_line(run_command, tmp_path):
    code, _, err = run_command("study", "stress", "--seeds", "1,two", "--out", tmp_path / "out")
    assert (code, err) == (1, "callsieve: seeds: expected whole numbers separated by commas, got '1,two'\n")
    code, _, err = run_command("study", "stress", "--seeds", "11,2,11", "--out", tmp_path / "out")
    assert (code, err) == (1, "callsieve: seeds: expected different seeds, got '11,2,11'\n")


def test_lite_is_ten_features_of_the_catalogue():
    assert feature_names("lite") == LITE
    assert feature_names(",".join(NAMES)) == NAMES  # longer than the name of a file may be
    assert len(set(LITE)) == 10 and set(LITE) <= set(NAMES)
