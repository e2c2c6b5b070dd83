"""The model card and the datasheet of a run have no empty field."""

import copy
import hashlib
import json
import re
import shutil

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from callsieve.training.language import moment
from callsieve.training.reports.ml_bom import write_ml_bom
from callsieve.training.reports.model_card import page, write_documents
from callsieve.training.reports.wording import in_markdown
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
        "no: the model may label calls, but must not block them",
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


def test_annex_iv_has_each_field_of_both_documents_and_names_records_that_exist(training_run):
    folder = training_run[0]
    annex = json.loads((documents(training_run) / "annex_iv.json").read_bytes())
    assert annex["model"] == training_run[1]["model"]["id"] and [*annex["points"]] == [*"123456789"]
    fields = {}
    for point, content in annex["points"].items():
        assert bool(content["sections"] or content["records"]) is (point not in "78")
        for section, values in content["sections"].items():
            fields |= {(section, name): " ".join(str(value).split()) for name, value in values.items()}
        for record in content["records"]:
            assert record.startswith("callsieve ") or (folder / record).exists(), record
    texts = [(documents(training_run) / name).read_text() for name in ("model_card.md", "datasheet.md")]
    written = [line for text in texts for line in text.splitlines() if line.startswith("- **")]
    assert sorted(written) == sorted(
        f"- **{in_markdown(name)}**: {in_markdown(value)}" for (_, name), value in fields.items()
    )


def test_the_ml_bom_is_of_the_bundle_and_repeats_the_card_and_the_tables(training_run):
    """Against the schema of CycloneDX by the project's own library, and against files that other code wrote."""
    text = (documents(training_run) / "ml_bom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill, bundle = json.loads(text), training_run[0] / "bundle"
    model = bill["metadata"]["component"]
    assert (model["type"], model["version"]) == ("machine-learning-model", training_run[1]["model"]["id"])
    hashes = {entry["name"]: entry["hashes"][0]["content"] for entry in model["components"]}
    assert hashes == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir()}
    card = (documents(training_run) / "model_card.md").read_text()
    fields = [field["value"] for field in model["modelCard"]["properties"]]
    assert fields == [in_plain(line) for line in card.splitlines() if line.startswith("- **")]
    record = json.loads((training_run[0] / "record/datasets.json").read_text())
    tables = {entry["name"]: entry["properties"][0]["value"] for entry in bill["components"] if entry["type"] == "data"}
    assert tables == {name: entry["sha256"] for name, entry in record.items()}
    metrics = {entry["type"]: entry for entry in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    catch = training_run[1]["headline"]["model"]["catch"]["call"]
    assert float(metrics["catch_by_call"]["value"]) == catch["rate"]
    assert float(metrics["catch_by_call"]["confidenceInterval"]["lowerBound"]) == catch["low"]
    assert str(training_run[0]) not in text


def in_plain(line):
    """Returns the value of a line of the card, without the escapes of Markdown."""
    return re.sub(r"\\(.)", r"\1", line.partition("**: ")[2])


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
    assert "- **nuisance calls caught, probably**: base 42.0%; adapted " in card
    assert "- **callers checked**: " + str(checks) in card
    assert "known innocent: 333 callers, 30,000 calls" in card
    assert ("- **Checks**: too few checks to judge: 20 more are needed" in card) is (checks == 0)
    assert "choose threshold" not in sheet and "- **Folds**: certify " in sheet
    shutil.copytree(training_run[0] / "bundle", tmp_path / "bundle")
    write_ml_bom(figures, {}, tmp_path)
    bill = (tmp_path / "documents" / "ml_bom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    (base,) = json.loads(bill)["metadata"]["component"]["pedigree"]["ancestors"]
    assert (base["version"], base["hashes"][0]["content"]) == ("70764091aeb0", figures["adapted"]["manifest"])


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
