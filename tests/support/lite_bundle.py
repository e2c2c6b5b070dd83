"""A lite bundle: a model of ten features that a handset can compute itself, two of them categories."""

import functools

import lightgbm
import numpy as np

from callsieve.features.catalogue import BY_NAME, NAMES
from callsieve.serving.bundle.bundle import save
from callsieve.serving.bundle.signing import write_public_key
from tests.support import real_bundle
from tests.support import small_bundle as small

LITE = (
    "pair_calls_before_count_7d", "pair_calls_back_count_7d", "pair_answered_count_7d", "call_caller_class",
    "call_route", "call_hour", "call_weekday", "call_same_region", "call_shared_prefix", "callee_strangers_count_7d",
)  # fmt: skip
CATEGORICAL = {name: len(BY_NAME[name].levels) for name in LITE if BY_NAME[name].levels}


def rows(n, seed=0):
    """Returns rows of the ten features, some values missing."""
    return real_bundle.rows(n, seed)[:, [NAMES.index(name) for name in LITE]]


@functools.cache
def model():
    """Returns the text of the model."""
    matrix = rows(3000)
    filled = np.nan_to_num(matrix)
    noise = np.random.default_rng(1).normal(size=len(matrix))
    risk = filled[:, 9] - filled[:, 0] + 2 * np.isin(filled[:, 3], [1, 4, 10]) + (filled[:, 5] > 17) + noise
    data = lightgbm.Dataset(
        matrix, (risk > np.median(risk)).astype(int), feature_name=list(LITE), categorical_feature=list(CATEGORICAL)
    )
    fixed = {"objective": "binary", "num_leaves": 15, "min_data_per_group": 20, "verbose": -1, "num_threads": 1}
    return lightgbm.train(fixed | {"deterministic": True}, data, 30).model_to_string()


def write_bundle(folder):
    """Writes a signed bundle and its signer's key into a folder."""
    card = real_bundle.card(features=LITE, categorical=CATEGORICAL, classes={})
    save(card, {"model": model()}, rows(8, seed=3).tolist(), folder / "bundle", small.KEY)
    write_public_key(small.KEY.public_key(), folder / "signer.pub")
