"""The model card and the datasheet of a run have no empty field."""

import copy

import pytest

from callsieve.training.language import moment
from callsieve.training.reports.model_card import page, write_documents
from callsieve.training.tracking.run_values import description
from tests.training.reports.run_figures import adapted_figures


def documents(run):
    return run[0] / "documents"


def test_the_card_has_the_measured_figures(training_run):
    card = (documents(training_run) / "model_card.md").read_text()
    figures = training_run[1]
    head = figures["headline"]["model"]
    for words in (
        figures["model"]["id"],
        f"{head['false_calls']:,} of {head['benign_calls']:,}",
        "no, at 1 in 10,000: the model may label calls, but must not block them",
        figures["gates"]["sha256"],
        "**Uses of the test fold**: 1",
        "**Learnt from**: labels as known at the label cutoff",
        "**Folders of calls**: 1",
        moment(figures["folds"]["label_cutoff"]),
    ):
        assert words in card
    uncertified = card.partition("not certified**: ")[2].partition("\n")[0].split(", ")
    assert uncertified == [
        row["slice"].replace("_", " ") for row in figures["slices"] if not row["nuisance"] and not row["certified"]
    ]


def test_the_datasheet_names_every_table(training_run, world_folder):
    sheet = (documents(training_run) / "datasheet.md").read_text()
    data = training_run[1]["data"]
    for words in (str(world_folder), data["fingerprint"], "labelled train", f"{data['calls']:,}"):
        assert words in sheet


def test_a_card_names_who_answers_for_the_model_and_the_figures_of_each_kind(training_run, tmp_path):
    figures = copy.deepcopy(training_run[1])
    figures["gates"]["owner"] = "risk office"
    write_documents(figures, {"calls": {"sha256": "0" * 64, "rows": 1, "purpose": "training"}}, tmp_path / "documents")
    card = (tmp_path / "documents" / "model_card.md").read_text()
    sheet = (tmp_path / "documents" / "datasheet.md").read_text()
    assert "- **Owner**: risk office" in card and "- **Permitted purposes**: calls training" in sheet
    for row in figures["slices"]:
        assert f"{row['slice'].replace('_', ' ')} {row['flagged']:,} of {row['calls']:,}" in card


@pytest.mark.source("L37", by="training/reports/wording.py")
def test_a_text_from_outside_is_no_element_and_no_link(training_run, tmp_path):
    """The name of a folder stands in the datasheet and in the description that MLflow shows."""
    figures = copy.deepcopy(training_run[1])
    hostile = "world <img src=x onerror=alert(1)> [free](javascript:alert(1))"
    figures["data"]["source"] = hostile
    datasets = {hostile: {"sha256": "0" * 64, "rows": 1, "purpose": "training", "source": hostile}}
    write_documents(figures, datasets, tmp_path / "documents")
    for text in ((tmp_path / "documents" / "datasheet.md").read_text(), description(figures)):
        assert "<img" not in text and "](" not in text and "&lt;img src=x" in text


@pytest.mark.parametrize("checks", [175, 0])
def test_the_card_of_an_adaptation_names_its_base_and_has_both_models(training_run, checks, tmp_path):
    figures = adapted_figures(checks, training_run[1])
    write_documents(figures, {"calls": {"sha256": "0" * 64, "rows": 1}}, tmp_path / "documents")
    card = (tmp_path / "documents" / "model_card.md").read_text()
    sheet = (tmp_path / "documents" / "datasheet.md").read_text()
    learnt = figures["adapted"]["learnt"]
    assert "base model 70764091aeb0, signed by key cb6b8f35fd39d5aa; learnt on this network: " + learnt in card
    assert "- **innocent calls flagged, estimate from checks**: base " in card
    assert "- **callers checked**: " + str(checks) in card
    assert "known innocent: 333 callers, 30,000 calls" in card
    assert ("- **Checks**: too few checks to judge: 20 more are needed" in card) is (checks == 0)
    assert "choose threshold" not in sheet and "- **Folds**: certify " in sheet


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_an_empty_field_is_refused(training_run, tmp_path, value):
    figures = copy.deepcopy(training_run[1])
    figures["data"]["source"] = value
    datasets = {"calls": {"sha256": "0" * 64, "rows": 1}}
    with pytest.raises(ValueError, match="Composition: Source: expected a value, got an empty field"):
        write_documents(figures, datasets, tmp_path / "documents")
    assert not (tmp_path / "documents").exists()


def test_a_field_is_written_on_one_line():
    assert page("T", {"S": {"f": "a\n# b"}}).splitlines()[-1] == "- **f**: a # b"
