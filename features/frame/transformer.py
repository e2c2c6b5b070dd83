"""A scikit-learn transformer from calls to feature vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from callsieve.features.arrays import Floats, Objects

from .frame_columns import Columns, Frame, as_data_frame
from .frame_features import call_features, feature_names


class CallFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Turns a table of calls into feature vectors, as the first step of a scikit-learn pipeline.

    It learns nothing: a call's vector comes from the calls of `history` and of the same table that were known before
    it. A part of a table lacks the calls of the other parts. So compute features of a whole table first, and split
    afterwards; no vector depends on later calls.

    The parameters are those of `call_features`. `history` holds numbers as they are written, and a pickled transformer
    contains it.

    >>> import pandas as pd
    >>> from callsieve.features import CallFeatures
    >>> calls = pd.DataFrame({"start": [0.0, 60.0], "caller": ["13800138000"] * 2, "callee": ["95588", "10086"]})
    >>> calls["start"] += 1_772_500_000
    >>> CallFeatures(features=("out_calls_count_1h",)).set_output(transform="pandas").fit_transform(calls)
       out_calls_count_1h
    0                 0.0
    1                 1.0
    """

    def __init__(
        self,
        columns: Columns = None,
        *,
        zone: str | None = None,
        country: str = "CN",
        numbers: Literal["written", "codes"] | None = None,
        features: Sequence[str] | None = None,
        history: Frame | None = None,
        threads: int | None = None,
    ) -> None:
        self.columns = columns
        self.zone = zone
        self.country = country
        self.numbers = numbers
        self.features = features
        self.history = history
        self.threads = threads

    def fit(self, X: Frame, y: object = None) -> Self:  # noqa: ARG002
        """Checks the names of the features and of the columns. Raises TypeError or ValueError, in one line."""
        calls = as_data_frame(X, "X")
        feature_names(self.features)
        validate_data(self, calls, skip_check_array=True)
        return self

    def transform(self, X: Frame) -> Floats:
        """Returns the vectors of the calls, float64 (calls, features); a DataFrame after `set_output`.

        Raises:
            NotFittedError: before `fit`. TypeError, ValueError: as `call_features`.
        """
        check_is_fitted(self, "n_features_in_")
        frame = call_features(
            X,
            self.columns,
            zone=self.zone,
            country=self.country,
            numbers=self.numbers,
            features=self.features,
            history=self.history,
            threads=self.threads,
        )
        return frame.to_numpy()

    def get_feature_names_out(self, input_features: object = None) -> Objects:  # noqa: ARG002
        """Returns the names of the columns of `transform`."""
        return np.asarray(list(feature_names(self.features)), dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags: the input has texts and times, and may lack values."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string, tags.input_tags.allow_nan = False, True, True
        return tags
