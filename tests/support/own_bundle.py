"""A bundle whose model has an own column, and a table of that column with changes between the calls."""

import functools

import numpy as np
import pandas as pd

from tests.support import lite_bundle, real_bundle
from tests.support import small_bundle as small

FEATURES = (*lite_bundle.LITE, "own_tariff")


def rows(n, seed=0):
    """Returns rows of the features, some values missing."""
    tariff = np.random.default_rng(seed + 100).normal(size=n)
    tariff[::5] = np.nan
    return np.column_stack([lite_bundle.rows(n, seed), tariff])


@functools.cache
def model():
    """Returns the text of the model, which rests on the own column above all."""
    matrix = rows(2000)
    filled = np.nan_to_num(matrix)
    risk = 3 * filled[:, -1] + filled[:, 9] / 5 + np.random.default_rng(1).normal(size=len(matrix))
    high = (risk > np.median(risk)).astype(int)
    return small.train_text(matrix, high, FEATURES, lite_bundle.CATEGORICAL, 20, num_leaves=7, min_data_per_group=20)


def write_bundle(folder):
    """Writes a signed bundle and its signer's key into a folder."""
    features = {"features": FEATURES, "categorical": lite_bundle.CATEGORICAL}
    real_bundle.write_own_signed(folder, model(), rows(8, seed=3), **features)


def table(calls):
    """Returns own columns of all callers but the last one: a first tariff, and another one at each 20th call."""
    keyed = real_bundle.key_calls(calls)
    tokens, moments = [call.caller for call in keyed], [call.start for call in keyed]
    known = [(token, moments[0] - 1000) for token in sorted(set(tokens))[:-1]]
    known += [(tokens[i], moments[i] + step) for i in range(20, len(tokens), 20) for step in (-1, 0)]
    number, known_at = zip(*known, strict=True)
    tariff = np.random.default_rng(4).normal(size=len(known))
    at = pd.to_datetime(pd.Series(known_at), unit="ms", utc=True)
    return pd.DataFrame({"number": number, "known_at": at, "tariff": tariff})
