"""Small models, metadata and a key for bundle tests, and an evaluator that shares no code with LightGBM."""

import functools
import hashlib
import json
import math

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle import forest, forest_layout, forest_paths
from callsieve.serving.bundle.metadata import Band, BundleMetadata, Calibration, Certificate
from callsieve.serving.bundle.signing import sign
from callsieve.training.model.trees import pack, save_bundle, trees_of

FEATURES = ("calls_1h", "answered_24h", "seconds_mean_7d", "class", "route")
LEVELS = {"class": 40, "route": 4}
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TRUSTED = (KEY.public_key(),)
ZERO = float(np.float32(1e-35))
CONTENT = ("sales", "fraud", "debt")
CATALOGUE = "ab" * 32


def rows(n, seed=0):
    """Returns feature rows with missing values, zeros, and levels that no training row has."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, len(FEATURES)))
    matrix[:, 3] = rng.integers(0, 40, n)
    matrix[:, 4] = rng.integers(0, 4, n)
    matrix[rng.random(n) < 0.2, 1] = np.nan
    matrix[rng.random(n) < 0.1, 3] = np.nan
    matrix[rng.random(n) < 0.3, 2] = 0.0
    return matrix


def awkward_rows():
    """Returns edge cases: all missing, zeros of both signs, huge values, levels out of range."""
    edge = [0.0, -0.0, 1e-36, -1e-36, 1e300, -1e300, np.nan, 41.0, -3.0, 2.7, 1e10]
    return np.array([[value] * len(FEATURES) for value in edge])


def train_text(matrix, y, names, categorical, trees, **parameters):
    """Returns the text of a model that LightGBM trains, on one thread by default."""
    import lightgbm

    fixed = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True}
    data = lightgbm.Dataset(matrix, y, feature_name=list(names), categorical_feature=list(categorical))
    return lightgbm.train(fixed | parameters, data, trees).model_to_string()


FEW_ROWS = {"num_leaves": 7, "min_data_per_group": 5, "min_data_in_leaf": 10}


@functools.cache
def binary_model(trees=20):
    """Returns the text of a binary model over FEATURES."""
    matrix = rows(3000)
    noise = np.random.default_rng(1).normal(size=len(matrix))
    risk = matrix[:, 0] + np.nan_to_num(matrix[:, 1]) + 2 * np.isin(matrix[:, 3], [1, 5, 9, 33]) + (matrix[:, 4] == 2)
    return train_text(matrix, (risk + noise > 1).astype(int), FEATURES, LEVELS, trees, **FEW_ROWS)


@functools.cache
def multiclass_model(rounds=4):
    """Returns the text of a model with the three classes of CONTENT."""
    matrix = rows(2000, seed=2)
    kind = (np.abs(matrix[:, 0] * 2 + matrix[:, 4]) % 3).astype(int)
    several = {"objective": "multiclass", "num_class": 3}
    return train_text(matrix, kind, FEATURES, LEVELS, rounds, **several, **FEW_ROWS)


def certificate(**changes):
    """Returns the certificate of a band; `changes` override its fields."""
    values = {"fold": "week 8", "benign_calls": 30_000, "false_calls": 0, "bound": 1 - 0.05 ** (1 / 30_000)}
    return Certificate(**{**values, "confidence": 0.95, "target": 1e-4, "certified": True, **changes})


def card(**changes):
    """Returns bundle metadata; `changes` override its fields."""
    loose = certificate(false_calls=90, bound=0.0036, certified=False)
    values = {
        "features": FEATURES,
        "categorical": LEVELS,
        "catalogue_hash": CATALOGUE,
        "calibration": Calibration((-4.0, -1.5, 0.25, 3.0), (0.001, 0.02, 0.6, 0.97)),
        "thresholds": (Band("certified", 1.5, certificate(), {"route=domestic": loose}), Band("watch", 0.25, loose)),
        "feeds": {"answered only": (Band("certified", 2.0, certificate()), Band("watch", 0.5, loose))},
        "label_policy": {"version": 3, "sources": ["report", "decision"]},
        "training": {"seed": 7, "auc": 0.93, "note": "réseau 骚扰"},
        "valid_from": "2026-03-01T00:00:00Z",
        "valid_until": "2026-04-01T00:00:00Z",
        "epoch": 5,
        "classes": {"content": CONTENT},
    }
    return BundleMetadata(**{**values, **changes})


def golden_rows():
    """Returns the rows whose scores a bundle records."""
    return np.vstack([rows(6, seed=3), awkward_rows()]).tolist()


def write_bundle(folder, **changes):
    """Writes a complete bundle into `folder`; returns its model id."""
    texts = {"model": binary_model(), "content": multiclass_model()}
    return save_bundle(card(**changes), texts, golden_rows(), folder, KEY)


def sign_again(folder, key=KEY):
    """Updates and signs the manifest of changed files, as an attacker with the key would."""
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        entry.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    data = json.dumps(manifest).encode()
    (folder / "MANIFEST.json").write_bytes(data)
    (folder / "MANIFEST.sig").write_bytes(sign(data, key))


def packed(text, features=FEATURES, classes=1):
    """Returns the packed trees of a text, to be changed by `sections`."""
    return bytearray(pack(trees_of(text), len(features), classes))


def sections(data):
    """Returns the sections of packed trees by name, as arrays that write through to the bytes."""
    at = 8

    def take(kind, *shape):
        nonlocal at
        values = np.frombuffer(data, kind, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values

    part = {"header": take("<i4", 6)}
    numbers, categories, trees = part["header"][3:].tolist()
    part |= {"number": take("<i4", numbers, 3), "category": take("<i4", categories, 2), "tree": take("<i4", trees, 2)}
    part |= {"bound": take("<f8", part["number"][:, 1].sum())}
    leaves = part["tree"][:, 1].sum()
    part |= {"leaf": take("<f8", leaves), "leaf_count": take("<i4", leaves)}
    part |= {"missing": take("<i2", part["number"][:, 2].sum(), 2), "node": take("<i2", part["tree"][:, 0].sum(), 4)}
    assert at == len(data)
    return part


def without_library(patch):
    """Makes forests work without the compiled library."""
    for module in (forest, forest_layout, forest_paths):
        patch.setattr(module, "library", lambda: None)


def evaluate_packed(part, matrix, classes=1):
    """Returns raw scores from the sections of packed trees by the rules of the layout, shape (n, classes)."""
    columns, first = [], 0
    for feature, bounds, count in part["number"].tolist():
        columns += [(feature, part["bound"][first : first + bounds], None)] * count
        first += bounds
    numeric = len(columns)
    columns += [(feature, None, i) for feature, count in part["category"].tolist() for i in range(count)]
    out = np.zeros((len(matrix), classes))
    for i, row in enumerate(matrix.tolist()):
        node = leaf = 0
        for t, (nodes, leaves) in enumerate(part["tree"].tolist()):
            at = 0 if nodes else -1
            while at >= 0:
                column, bound, left, right = part["node"][node + at].tolist()
                feature, bounds, block = columns[column]
                value = 0.0 if abs(row[feature]) <= ZERO else row[feature]
                if column < numeric:
                    nan, zero = part["missing"][column].tolist()
                    rank = nan if math.isnan(value) else zero if value == 0 and zero >= 0 else (bounds < value).sum()
                    at = right if rank > bound else left
                else:
                    bit = int(value) - 16 * block if -1 < value < 2**31 else -1
                    at = left if 0 <= bit < 16 and bound >> bit & 1 else right
            out[i, t % classes] += part["leaf"][leaf + ~at]
            node, leaf = node + nodes, leaf + leaves
    return out


def evaluate(trees, matrix, classes=1):
    """Returns raw scores from the arrays of trees by LightGBM's published rules, shape (n, classes)."""
    out = np.zeros((len(matrix), classes))
    for i, row in enumerate(matrix.tolist()):
        for t, tree in enumerate(trees):
            node = 0 if tree.left else -1
            while node >= 0:
                node = tree.left[node] if _goes_left(tree, node, row[tree.feature[node]]) else tree.right[node]
            out[i, t % classes] += tree.leaf_value[~node]
    return out


def _goes_left(tree, node, value):
    if abs(value) <= ZERO:  # LightGBM drops zeros from rows, and treats tiny values as zeros
        value = 0.0
    kind, threshold = tree.decision[node], tree.threshold[node]
    missing = kind >> 2 & 3
    if kind & 1:
        # LightGBM casts to a 32-bit integer; values out of range become the smallest one.
        if math.isnan(value) or not -1 < value < 2**31:
            return False
        begin, end = tree.cat_boundaries[int(threshold)], tree.cat_boundaries[int(threshold) + 1]
        word, bit = divmod(int(value), 32)
        return begin + word < end and bool(tree.cat_threshold[begin + word] >> bit & 1)
    if math.isnan(value) and missing != 2:
        value = 0.0
    if math.isnan(value) or (missing == 1 and value == 0):
        return bool(kind & 2)
    return value <= threshold
