"""A lite bundle: a model of ten features that a handset can compute itself, two of them categories."""

import functools

import numpy as np

from callsieve.features.catalogue import BY_NAME, NAMES
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
    high = (risk > np.median(risk)).astype(int)
    return small.train_text(matrix, high, LITE, CATEGORICAL, 30, num_leaves=15, min_data_per_group=20)


def write_bundle(folder):
    """Writes a signed bundle and its signer's key into a folder."""
    real_bundle.write_own_signed(folder, model(), rows(8, seed=3), features=LITE, categorical=CATEGORICAL)
