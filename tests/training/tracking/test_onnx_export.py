"""The ONNX export gives the scores of the bundle and reports differences, including those of float32."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from callsieve.serving.bundle.bundle import BundleError, load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.training.model.trees import rows_at_thresholds, trees_of
from callsieve.training.tracking import onnx_export
from callsieve.training.tracking.onnx_export import ROWS, as_onnx, difference, export
from tests.support import how_to, lite_bundle
from tests.support import small_bundle as small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lite")
    lite_bundle.write_bundle(path)
    return path


@pytest.fixture(scope="module")
def export_result(folder):
    """The reported figures and the path of the ONNX file."""
    return export(folder / "bundle", folder / "lite.onnx", signer=folder / "signer.pub"), folder / "lite.onnx"


def scores(data, rows):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(["raw", "probability"], {"features": rows})


def open_bundle(folder):
    return load(folder / "bundle", [read_public_key(folder / "signer.pub")])


@pytest.mark.system
@pytest.mark.source("L20", by="training/tracking/onnx_export.py")
def test_the_file_gives_the_scores_of_the_bundle(folder, export_result):
    figures, file = export_result
    bundle, rows = open_bundle(folder), lite_bundle.rows(5000, seed=9)
    raw, probability = scores(file.read_bytes(), rows)
    expected = bundle.model.predict_raw(rows)
    assert np.abs(raw - expected).max() < 1e-12
    assert np.abs(probability - bundle.calibration.probabilities(expected)).max() < 1e-12
    # A single call, as on a handset, adds the leaves in the same order as the bundle.
    for row in rows[:200]:
        assert scores(file.read_bytes(), row[None])[0][0] == bundle.model.predict_one(row.tolist())
    assert figures["features"] == list(lite_bundle.LITE)
    assert figures["bytes"] == file.stat().st_size < 100_000


def test_the_differences_are_reported(export_result):
    figures, _ = export_result
    for rows in ("golden", "thresholds"):
        assert figures[rows]["raw"] < 1e-12
        assert figures[rows]["probability"] < 1e-12
        assert figures[rows]["bands"] == 0
    assert figures["thresholds"]["rows"] == 20_000
    # Next to a threshold, a value rounded to float32 takes the other branch.
    assert figures["thresholds"]["float32_raw"] > 0.01


def test_the_metadata_has_features_and_bands(folder, export_result):
    bundle = open_bundle(folder)
    (prop,) = onnx.load(export_result[1]).metadata_props
    metadata = json.loads(prop.value)
    assert tuple(metadata["features"]) == bundle.features
    assert metadata["bands"] == {band.name: band.threshold for band in bundle.thresholds}
    head = (metadata["model"], metadata["epoch"], metadata["valid_until"])
    assert head == (bundle.model_id, bundle.epoch, bundle.valid_until)


@pytest.mark.usefixtures("export_result")
def test_the_code_of_the_how_to_page_runs(folder, capsys):
    names = how_to.run_python("handset", folder)
    expected = open_bundle(folder).model.predict_raw(np.full((1, len(lite_bundle.LITE)), np.nan))
    assert names["raw"] == pytest.approx(expected, abs=1e-12)
    assert lite_bundle.LITE[0] in capsys.readouterr().out


def test_equal_bundles_give_equal_bytes(folder, export_result, tmp_path):
    again = tmp_path / "again.onnx"
    export(folder / "bundle", again, signer=folder / "signer.pub")
    assert again.read_bytes() == export_result[1].read_bytes()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The bundle of small models."""
    folder = tmp_path_factory.mktemp("small") / "bundle"
    small.write_bundle(folder)
    return load(folder, small.TRUSTED)


@pytest.mark.parametrize("trees", [1, 20])
def test_every_kind_of_split_is_exported(bundle, trees):
    """Compares scores with an independent evaluator: missing values, sets of more than a word, a tree of one leaf."""
    forest = trees_of(small.binary_model(trees))
    rows = np.vstack([small.rows(2000, seed=4), rows_at_thresholds(forest, len(small.FEATURES), 500)])
    raw, _ = scores(as_onnx(bundle, forest).SerializeToString(), rows)
    assert np.abs(raw - small.evaluate(forest, rows)[:, 0]).max() < 1e-12


def test_probabilities_agree_at_and_beyond_the_knots(bundle):
    for value in (*bundle.calibration.x, -1e6, 1e6, -1.0, 0.3, 2.999):
        leaf = _one_leaf(value)
        raw, probability = scores(as_onnx(bundle, [leaf]).SerializeToString(), np.zeros((1, len(small.FEATURES))))
        assert raw[0] == value
        assert probability[0] == pytest.approx(bundle.calibration.probability(value), abs=1e-15)


def _one_leaf(value):
    (tree,) = trees_of(small.binary_model(1))
    empty = {name: [] for name in ("feature", "decision", "left", "right")}
    return type(tree)(**empty, threshold=[], leaf_value=[value], leaf_count=[1], cat_boundaries=[], cat_threshold=[])


def test_zeros_as_missing_values_are_refused(bundle):
    (tree,) = trees_of(small.binary_model(1))
    tree.decision[0] = 4
    with pytest.raises(ValueError, match="treats zeros as missing values"):
        as_onnx(bundle, [tree])


def test_the_comparison_detects_a_changed_leaf(folder, export_result):
    """A leaf value changes by a millionth."""
    model = onnx.load(export_result[1])
    (node,) = [node for node in model.graph.node if node.op_type == "TreeEnsemble"]
    (weights,) = [attribute.t for attribute in node.attribute if attribute.name == "leaf_weights"]
    weights.double_data[0] += 1e-6
    rows = rows_at_thresholds(trees_of(lite_bundle.model()), len(lite_bundle.LITE), ROWS)
    assert difference(open_bundle(folder), model.SerializeToString(), rows)["raw"] == pytest.approx(1e-6, rel=1e-3)


def test_no_file_is_overwritten_and_no_invalid_bundle_exported(folder, tmp_path):
    file = tmp_path / "there.onnx"
    file.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        export(folder / "bundle", file, signer=folder / "signer.pub")
    assert file.read_bytes() == b"mine"
    lite_bundle.write_bundle(tmp_path)
    with (tmp_path / "bundle" / "model.txt").open("a") as model:
        model.write("\n")
    with pytest.raises(BundleError):
        export(tmp_path / "bundle", tmp_path / "new.onnx", signer=tmp_path / "signer.pub")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "signer.pub", "there.onnx"}


def test_a_file_that_gives_other_scores_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"expected raw scores within -1\.0 of the bundle's, got a difference of"):
        export(folder / "bundle", tmp_path / "lite.onnx", signer=folder / "signer.pub")
    assert not list(tmp_path.iterdir())
