"""Reproduction of a run from its record, byte for byte on any number of threads, with named differences."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.training.data import sources
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.model.matrix import array_hash
from callsieve.training.model.settings import Settings
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.run_paths import default_store, run_paths
from callsieve.training.tracking import reproduce as module
from callsieve.training.tracking.record import settings_json, settings_of
from callsieve.training.tracking.reproduce import different, reproduce
from tests.support import lite_bundle

pytestmark = pytest.mark.system

DATASETS = {
    "calls", "complaints", "findings", "recycled", "lists", "campaigns", "exclusions", "truth", "vectors",
    "labelled train",
}  # fmt: skip


@pytest.fixture
def run_copy(training_run, tmp_path):
    """A copy of the run's bundle and record that a test may change."""
    for name in ("bundle", "record"):
        shutil.copytree(training_run[0] / name, tmp_path / "run" / name)
    return tmp_path / "run"


def test_a_run_is_unchanged_and_reproduced_on_two_threads(training_run, world_folder):
    folder, figures = training_run
    paths = run_paths(folder, None, None)
    assert verify(paths.log, uri=paths.uri).faults == ()
    result = reproduce(figures["tracking"]["run"], [world_folder], uri=paths.uri, threads=2)  # trained on one thread
    assert result.differences == []
    assert result.model == figures["model"]["id"]
    assert {f"dataset {name}" for name in DATASETS} < set(result.equal)
    assert {"bundle.json", "model.txt", "MANIFEST.json"} < set(result.equal)
    assert any(name.startswith("MANIFEST.sig") for name in result.equal)
    assert any(name.startswith("metrics: ") for name in result.equal) and result.same_bundle


def test_every_difference_is_named(run_copy, world_folder, tmp_path):
    settings = json.loads((run_copy / "record" / "settings.json").read_text())
    (run_copy / "record" / "settings.json").write_text(json.dumps(settings | {"valid_days": 91}))
    model = run_copy / "bundle" / "model.txt"
    model.write_bytes(model.read_bytes() + b"\n")
    calls = shutil.copytree(world_folder, tmp_path / "world")
    findings = pq.read_table(calls / "findings.parquet")
    pq.write_table(findings.slice(0, findings.num_rows - 1), calls / "findings.parquet")
    versions = json.loads((run_copy / "record" / "versions.json").read_text())
    versions["decisive"]["numpy"] = "1.0"
    (run_copy / "record" / "versions.json").write_text(json.dumps(versions))
    result = reproduce(str(run_copy), [calls], threads=1)
    named = {difference.partition(":")[0]: difference for difference in result.differences}
    assert {"dataset findings", "model.txt", "bundle.json", "MANIFEST.json", "MANIFEST.sig"} <= set(named)
    assert "valid_until" in named["bundle.json"]
    assert "does not fit" in named["MANIFEST.sig"]
    assert not result.same_bundle and "has no audit log" in named["metrics"]
    assert named["version of numpy"].startswith("version of numpy: recorded 1.0, here ")
    assert {"dataset calls", "dataset complaints", "dataset truth", "dataset vectors"} <= set(result.equal)


def test_an_incomplete_record_is_refused(run_copy):
    recorded = json.loads((run_copy / "record" / "datasets.json").read_text())
    recorded["calls"]["source"] = "simulated"
    (run_copy / "record" / "datasets.json").write_text(json.dumps(recorded))
    with pytest.raises(ValueError, match=r"expected --data FOLDER for each of 1 folders of calls; recorded: simulated"):
        reproduce(str(run_copy))
    with pytest.raises(ValueError, match="expected the folder of a run, or --tracking-uri"):
        reproduce("0" * 32)
    (run_copy / "record" / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json: expected the record of a run"):
        reproduce(str(run_copy))
    (run_copy / "record" / "settings.json").write_text('{"seed": 1}')
    with pytest.raises(ValueError, match=r"settings\.json: expected the settings of this version"):
        reproduce(str(run_copy))


def test_settings_are_read_as_recorded():
    settings = Settings(seed=3, epoch=2, parameters={"num_leaves": 7}, features=("out_calls_count_1h",))
    assert settings_of(json.loads(json.dumps(settings_json(settings))), 0) == settings


words = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "long word"])), min_size=1, max_size=20)


@given(words, st.integers(0, 20))
def test_a_fingerprint_depends_on_values_only(column, cut):
    """Chunks, dictionaries and metadata do not change a fingerprint; every value does."""
    plain = pa.table({"word": pa.array(column, pa.string()), "n": pa.array(range(len(column)))})
    whole = plain["word"].combine_chunks()
    encoded = pa.table({
        "word": pa.chunked_array([whole[:cut], whole[cut:]]).dictionary_encode(),
        "n": plain["n"],
    }).replace_schema_metadata({"made": "by hand"})  # fmt: skip
    assert fingerprint(encoded) == fingerprint(plain)
    other = [*column[:-1], "another"]
    assert fingerprint(plain.set_column(0, "word", [pa.array(other, pa.string())])) != fingerprint(plain)
    nullified = [None if word == "" else word for word in column]
    changed = fingerprint(plain.set_column(0, "word", [pa.array(nullified, pa.string())]))
    assert (changed == fingerprint(plain)) is (nullified == column)
    assert fingerprint(plain.rename_columns(["other", "n"])) != fingerprint(plain)


def test_the_value_under_a_null_does_not_change_a_fingerprint():
    missing = pa.array([True, False]).buffers()[1]
    columns = [pa.Array.from_buffers(pa.float64(), 2, [missing, pa.py_buffer(np.array(pair).data)]) for pair in
            ([1.0, 2.0], [1.0, 3.0])]  # fmt: skip
    assert columns[0].null_count == columns[1].null_count == 1
    assert fingerprint(pa.table({"x": columns[0]})) == fingerprint(pa.table({"x": columns[1]}))
    assert fingerprint(pa.table({"x": columns[0]})) != fingerprint(pa.table({"x": [1.0, 0.0]}))


def test_a_hash_of_arrays_depends_on_values_and_shape():
    table = np.arange(12.0).reshape(3, 4)
    assert array_hash([table]) == array_hash([np.asfortranarray(table)]) == array_hash([table[::1]])
    assert array_hash([table]) != array_hash([table.reshape(4, 3)]) != array_hash([table.astype(np.float32)])
    assert array_hash([np.array(["a", None], dtype=object)]) != array_hash([np.array(["a", "b"], dtype=object)])


def test_differences_of_nested_values_are_listed_by_path():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert different(nested, {"a": {"b": 1, "c": [1, 3]}, "e": 2}) == ["a.c", "d", "e"]
    assert different(nested, nested) == []


def test_every_dataset_of_a_run_is_in_mlflow(training_run):
    from mlflow import MlflowClient

    folder, figures = training_run
    inputs = MlflowClient(default_store(folder)).get_run(figures["tracking"]["run"]).inputs.dataset_inputs
    recorded = json.loads((folder / "record" / "datasets.json").read_text())
    datasets = [entry.dataset for entry in inputs]
    assert {dataset.name for dataset in datasets} == set(recorded) == DATASETS
    for dataset in datasets:
        assert json.loads(dataset.profile)["sha256"] == recorded[dataset.name]["sha256"]


def test_files_of_only_one_bundle_are_listed(tmp_path):
    lite_bundle.write_bundle(tmp_path)
    (tmp_path / "record").mkdir()
    shutil.copy(tmp_path / "signer.pub", tmp_path / "record")
    rebuilt = shutil.copytree(tmp_path / "bundle", tmp_path / "made")
    (rebuilt / "bundle.json").rename(rebuilt / "card.json")
    equal, differences = module.compare_bundles(tmp_path, rebuilt)
    assert differences == ["bundle.json: not made again", "card.json: not in the record"]
    assert "model.txt" in equal and equal[-1].startswith("MANIFEST.sig: ")


def test_calls_are_read_from_the_recorded_source(monkeypatch, tmp_path):
    class Read(Exception):  # noqa: N818 - no error
        pass

    def read(folder, **_):
        raise Read(folder)

    monkeypatch.setattr(sources, "read_dataset", read)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps({"training": {"folders": [{"role": "both"}]}}))
    (tmp_path / "record").mkdir()
    (tmp_path / "calls").mkdir()
    (tmp_path / "record" / "settings.json").write_text(json.dumps(settings_json(Settings())))
    source = {"calls": {"source": str(tmp_path / "calls"), "sha256": "0"}}
    (tmp_path / "record" / "datasets.json").write_text(json.dumps(source))
    with pytest.raises(Read) as error:
        reproduce(str(tmp_path))
    assert error.value.args == (tmp_path / "calls",)
