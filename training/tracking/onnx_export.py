"""Exports the risk model of a bundle as one ONNX file, for handsets: a model of the few features a phone knows itself.

result = export(Path("bundle"), Path("lite.onnx"), signer=Path("signer.pub"))

The file is in double precision with LightGBM's own thresholds (operator TreeEnsemble of ai.onnx.ml 5, ONNX Runtime 1.20
and later). The usual conversion rounds thresholds and values to float32, and a value on the wrong side of a split
reaches another leaf. One difference remains: LightGBM truncates levels that are no whole numbers, ONNX treats them as
unknown. The file is not signed, so put it into a package that is. Its metadata holds what a reader of the scores needs:
the features in order, and the bands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from callsieve.features.arrays import Floats
from callsieve.features.catalogue import catalogue_hash
from callsieve.features.files.atomic import write_atomic
from callsieve.serving.bundle.bundle import Bundle, load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.rules.strata import BUSY, QUIET
from callsieve.training.model.trees import CATEGORICAL, Tree, levels_of, rows_at_thresholds, signed_texts, trees_of

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper
except ImportError as error:
    raise ImportError("the export for handsets needs ONNX: pip install 'callsieve[onnx]'") from error


OPSET, ML_OPSET, IR = 18, 5, 10
LESS_OR_EQUAL, MEMBER = 0, 6  # modes of a node
NAN_MISSING, ZERO_MISSING = 2, 1  # bits 2 and 3 of `Tree.decision`
SUM, NO_TRANSFORM = 1, 0
ROWS = 20_000  # random rows for the comparison
TOLERANCE = 1e-9  # of raw scores; sums of some thousand leaves differ by less


class ScoreDifference(TypedDict):
    """The largest differences between the scores of the file and of the bundle over some rows.

    `bands` counts the rows that reach another band. The `float32` figures are for values rounded to float32.
    """

    rows: int
    raw: float
    probability: float
    bands: int
    float32_raw: float
    float32_bands: int


class Export(TypedDict):
    """The result of an export: model id, features in order, size in bytes, and the comparison with the bundle.

    `golden` compares on the golden rows of the bundle. `thresholds` compares on random rows whose values lie on the
    model's thresholds and next to them, where differences are largest.
    """

    model: str
    features: list[str]
    bytes: int
    golden: ScoreDifference
    thresholds: ScoreDifference


def export(bundle: Path, file: Path, *, signer: Path) -> Export:
    """Writes a verified bundle's risk model as ONNX, whole or not at all, and compares it with the bundle."""
    if file.exists():
        raise FileExistsError(f"{file}: exists already; nothing is overwritten")
    model = load(bundle, [read_public_key(signer)], expected_catalogue=catalogue_hash())
    trees = trees_of(signed_texts(bundle, model)["model"])
    data = as_onnx(model, trees).SerializeToString()
    golden = difference(model, data, np.array(model.golden.rows))
    thresholds = difference(model, data, rows_at_thresholds(trees, len(model.features), ROWS))
    if (largest := max(golden["raw"], thresholds["raw"])) > TOLERANCE:
        raise ValueError(
            f"{file}: expected raw scores within {TOLERANCE} of the bundle's, got a difference of {largest}"
        )
    write_atomic(file, data)
    return {
        "model": model.model_id,
        "features": list(model.features),
        "bytes": len(data),
        "golden": golden,
        "thresholds": thresholds,
    }


def as_onnx(bundle: Bundle, trees: Iterable[Tree]) -> onnx.ModelProto:
    """Returns the ONNX model: `features` float64 (n, F), NaN where unknown -> `raw` and `probability`, float64 (n,)."""
    forest = Forest()
    for tree in trees:
        forest.add(tree)
    x, y = bundle.calibration.x, bundle.calibration.y
    slopes = np.diff(y) / np.diff(x)
    constants = {
        "one": _whole([1]),
        "last": _whole([len(x) - 2]),
        "knots": _double(x),
        "from_x": _double(x[:-1]),
        "from_y": _double(y[:-1]),
        "slopes": _double(slopes),
        "low": _double([x[0]], shape=[]),
        "high": _double([x[-1]], shape=[]),
    }
    # The index of the next knot below is the number of knots that are not above, less one.
    steps = [
        ("TreeEnsemble", ["features"], "sums", forest.attributes() | {"domain": "ai.onnx.ml"}),
        ("Squeeze", ["sums", "one"], "raw", {}),
        ("Clip", ["sums", "low", "high"], "within", {}),
        ("GreaterOrEqual", ["within", "knots"], "above", {}),
        ("Cast", ["above"], "each", {"to": TensorProto.INT64}),
        ("ReduceSum", ["each", "one"], "count", {"keepdims": 0}),
        ("Sub", ["count", "one"], "place", {}),
        ("Min", ["place", "last"], "knot", {}),
        ("Squeeze", ["within", "one"], "clipped", {}),
        ("Gather", ["from_x", "knot"], "left", {}),
        ("Gather", ["from_y", "knot"], "base", {}),
        ("Gather", ["slopes", "knot"], "slope", {}),
        ("Sub", ["clipped", "left"], "beyond", {}),
        ("Mul", ["slope", "beyond"], "rise", {}),
        ("Add", ["base", "rise"], "probability", {}),
    ]
    for name, tensor in constants.items():
        tensor.name = name
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in steps],
        "callsieve",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["calls", len(bundle.features)])],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["calls"]) for name in ("raw", "probability")],
        initializer=list(constants.values()),
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, producer_name="callsieve", opset_imports=opsets, ir_version=IR)
    helper.set_model_props(model, {"callsieve": json.dumps(_metadata(bundle), ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass(slots=True)
class Forest:
    """The attributes of the operator TreeEnsemble, filled tree by tree. A child is the index of a node or of a leaf."""

    roots: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    children: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    are_leaves: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    leaves: list[float] = field(default_factory=list)
    members: list[float] = field(default_factory=list)

    def add(self, tree: Tree) -> None:
        """Appends a tree."""
        first_node, first_leaf = len(self.feature), len(self.leaves)
        self.roots.append(first_node)
        self.leaves += tree.leaf_value
        if not tree.left:  # a tree of one leaf: both branches lead to it
            self._node(0, 0.0, LESS_OR_EQUAL, missing_left=True, children=((first_leaf, True), (first_leaf, True)))
        for node, (decision, left, right) in enumerate(zip(tree.decision, tree.left, tree.right, strict=True)):
            if decision >> 2 & 3 == ZERO_MISSING:
                raise ValueError("the model treats zeros as missing values, which ONNX cannot express")
            children = tuple((first_leaf + ~c, True) if c < 0 else (first_node + c, False) for c in (left, right))
            if decision & CATEGORICAL:
                self.members += [*levels_of(tree, int(tree.threshold[node])), np.nan]
                self._node(tree.feature[node], 0.0, MEMBER, missing_left=False, children=children)
                continue
            threshold = tree.threshold[node]
            # At a split without missing values, LightGBM treats NaN as zero.
            left_too = bool(decision & 2) if decision >> 2 & 3 == NAN_MISSING else threshold >= 0
            self._node(tree.feature[node], threshold, LESS_OR_EQUAL, missing_left=left_too, children=children)

    def _node(
        self, feature: int, split: float, mode: int, *, missing_left: bool, children: Sequence[tuple[int, bool]]
    ) -> None:
        self.feature.append(feature)
        self.split.append(split)
        self.mode.append(mode)
        self.missing_left.append(int(missing_left))
        for side, (place, is_leaf) in enumerate(children):
            self.children[side].append(place)
            self.are_leaves[side].append(int(is_leaf))

    def attributes(self) -> dict[str, Any]:
        """Returns the attributes by the operator's names."""
        members = {"membership_values": _double(self.members)} if self.members else {}
        return members | {
            "n_targets": 1,
            "aggregate_function": SUM,
            "post_transform": NO_TRANSFORM,
            "tree_roots": self.roots,
            "nodes_featureids": self.feature,
            "nodes_splits": _double(self.split),
            "nodes_modes": helper.make_tensor("", TensorProto.UINT8, [len(self.mode)], self.mode),
            "nodes_missing_value_tracks_true": self.missing_left,
            "nodes_truenodeids": self.children[0],
            "nodes_falsenodeids": self.children[1],
            "nodes_trueleafs": self.are_leaves[0],
            "nodes_falseleafs": self.are_leaves[1],
            "leaf_targetids": [0] * len(self.leaves),
            "leaf_weights": _double(self.leaves),
        }


def difference(bundle: Bundle, data: bytes, rows: Floats) -> ScoreDifference:
    """Returns the differences between the scores of the file and of the bundle on these rows."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    raw = bundle.model.predict_raw(rows)
    ours = raw, bundle.calibration.probabilities(raw)
    theirs = session.run(["raw", "probability"], {"features": rows})
    with np.errstate(over="ignore"):
        rounded = session.run(["raw"], {"features": rows.astype(np.float32).astype(np.float64)})[0]
    bands = np.array(sorted(band.threshold for band in bundle.thresholds))
    reached = np.searchsorted(bands, raw, "right")
    return {
        "rows": len(rows),
        "raw": float(np.abs(theirs[0] - ours[0]).max()),
        "probability": float(np.abs(theirs[1] - ours[1]).max()),
        "bands": int((np.searchsorted(bands, theirs[0], "right") != reached).sum()),
        "float32_raw": float(np.abs(rounded - raw).max()),
        "float32_bands": int((np.searchsorted(bands, rounded, "right") != reached).sum()),
    }


def _metadata(bundle: Bundle) -> dict[str, object]:
    return {
        "model": bundle.model_id,
        "epoch": bundle.epoch,
        "valid_from": bundle.valid_from,
        "valid_until": bundle.valid_until,
        "catalogue_hash": bundle.catalogue_hash,
        "features": list(bundle.features),
        "bands": {band.name: band.threshold for band in bundle.thresholds},
        "silent": {band.name: list(band.abstains) for band in bundle.thresholds},
        "raised": {band.name: dict(band.raised) for band in bundle.thresholds},
        "strata": {name: {"of": of, "fewer calls in 7 days than": BUSY} for of, name in QUIET.items()},
    }


def _double(values: Iterable[float], shape: Sequence[int] | None = None) -> onnx.TensorProto:
    doubles = list(map(float, values))
    return helper.make_tensor("", TensorProto.DOUBLE, [len(doubles)] if shape is None else shape, doubles)


def _whole(values: Sequence[int]) -> onnx.TensorProto:
    return helper.make_tensor("", TensorProto.INT64, [len(values)], values)
