"""A bundle whose model has an own column, and a table of that column with changes between the calls."""

import functools

import lightgbm
import numpy as np
import pandas as pd

from callsieve.serving.bundle.bundle import save
from callsieve.serving.bundle.signing import write_public_key
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
    data = lightgbm.Dataset(
        matrix,
        (risk > np.median(risk)).astype(int),
        feature_name=list(FEATURES),
        categorical_feature=list(lite_bundle.CATEGORICAL),
    )
    fixed = {"objective": "binary", "num_leaves": 7, "min_data_per_group": 20, "verbose": -1, "num_threads": 1}
    return lightgbm.train(fixed | {"deterministic": True}, data, 20).model_to_string()


def write_bundle(folder):
    """Writes a signed bundle and its signer's key into a folder."""
    card = real_bundle.card(features=FEATURES, categorical=lite_bundle.CATEGORICAL, classes={})
    save(card, {"model": model()}, rows(8, seed=3).tolist(), folder / "bundle", small.KEY)
    write_public_key(small.KEY.public_key(), folder / "signer.pub")


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
