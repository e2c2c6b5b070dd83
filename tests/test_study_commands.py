"""The commands of studies: what reaches a person, and faults in one line before anything is trained."""

import json

import pytest
from callsieve.features.catalogue import NAMES
from callsieve.training.lite import LITE
from callsieve.training.score import names_in

from test_benchmark import folder  # noqa: F401 - a fixture


def test_benchmark_in_words_and_as_json(call, folder, tmp_path):  # noqa: F811
    code, out, _ = call("benchmark", "--data", folder, "--seeds", "3", "--threads", 1, "--out", tmp_path / "b.json")
    assert code == 0
    assert "AUC ahead of LightGBM as it comes, 100 trees" in out and "flaw of the data: " in out
    assert json.loads((tmp_path / "b.json").read_text())["seeds"] == [3]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("decay", "--train-days", 25, "--weeks", 8), "expected 2 periods or more and 81 days of calls"),
        (("roll", "--origins", 2), "origins: expected 3 or more"),
        (("search", "--features", "nothing"), "nothing"),
        (("train", "--parameters", "{bad}"), "expected parameters among num_leaves"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_fault_is_one_line(call, world_folder, tmp_path, words, says):
    (tmp_path / "bad.toml").write_text("leaves = 3\n")
    told = [str(word).replace("{bad}", str(tmp_path / "bad.toml")) for word in words]
    code, out, err = call(*told, "--data", world_folder, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert says in err and err.count("\n") == 1


def test_seeds_that_are_none_are_one_line(call, tmp_path):
    code, _, err = call("stress", "--seeds", "1,two", "--out", tmp_path / "out")
    assert (code, err) == (1, "callsieve: seeds: expected whole numbers with commas between, got '1,two'\n")


def test_lite_is_ten_features_of_the_catalogue():
    assert names_in("lite") == LITE
    assert len(set(LITE)) == 10 and set(LITE) <= set(NAMES)
