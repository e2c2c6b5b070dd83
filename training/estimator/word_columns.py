"""Columns of text and of categories as numeric codes, which LightGBM learns as categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from callsieve.features.frame.frame_columns import as_data_frame

Categories = dict[str, list[str]]
"""The words of each column of text or categories, in order of their codes."""


def word_columns(X: Any) -> tuple[Any, Categories]:
    """Returns X with codes in place of words, and the words of each such column; X itself if it is not a table."""
    frame = as_frame(X)
    if not isinstance(frame, pd.DataFrame):
        return X, {}
    if frame.columns.has_duplicates or not len(frame.columns):
        raise ValueError(f"X: expected each column name once, got {len(frame.columns)} columns")
    categories = {
        str(name): sorted(map(str, pd.unique(column.dropna())))
        for name, column in frame.items()
        if _holds_words(column)
    }
    return as_codes(frame, categories), categories


def as_codes(X: Any, categories: Mapping[str, list[str]]) -> Any:
    """Returns a table with codes in place of the words of these columns; NaN for a missing or unknown word."""
    frame = as_frame(X)
    if not isinstance(frame, pd.DataFrame):
        return X
    for name in set(frame.columns) - categories.keys():
        check_numbers(frame[name])
    codes = {}
    for name in categories.keys() & set(frame.columns):
        column = frame[name]
        words = column.astype(object).where(column.notna(), None).map(str, na_action="ignore")
        place = pd.Index(categories[name], dtype=object).get_indexer(pd.Index(words, dtype=object))
        codes[name] = np.where(place < 0, np.nan, place)
    return frame.assign(**codes) if codes else frame


def check_numbers(column: pd.Series[Any]) -> None:
    """Raises ValueError if a column holds something else than numbers. The message shows no value."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return
    kind = pd.api.types.infer_dtype(column, skipna=True)
    expected = "numbers, text or categories"
    if kind in ("datetime64", "datetime", "date", "timedelta64", "timedelta", "period", "time"):
        raise ValueError(
            f"X: column {column.name!r} holds times, expected {expected}: leave it out, also where it is the start of "
            "a ForwardGroupSplit, or turn it into a number such as the hour"
        )
    if _holds_words(column):
        raise ValueError(f"X: column {column.name!r} holds text, expected numbers, as in `fit`")
    if kind not in ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty"):
        raise ValueError(f"X: column {column.name!r} holds {kind} values, expected {expected}")


def as_frame(X: Any) -> Any:
    """Returns a table of an Arrow library as a DataFrame; other values as they are."""
    is_arrow_table = hasattr(X, "__arrow_c_stream__") and len(getattr(X, "shape", ())) == 2
    return as_data_frame(X, "X") if is_arrow_table and not isinstance(X, pd.DataFrame) else X


def _holds_words(column: pd.Series[Any]) -> bool:
    if isinstance(column.dtype, (pd.CategoricalDtype, pd.StringDtype)):
        return True
    return column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "string"
