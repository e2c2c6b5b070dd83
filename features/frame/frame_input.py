"""Tables of other libraries as pandas DataFrames, and warnings about calls that are valid but unlikely."""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.reading.checked_cells import LONG

MOST = 0.5  # share of rows from which a column is unlikely


class ArrowTable(Protocol):
    """A table of polars, pyarrow or another library that hands its columns on in Arrow's format."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Returns the rows as a stream of Arrow."""


Frame = pd.DataFrame | ArrowTable


def as_data_frame(table: Frame, name: str) -> pd.DataFrame:
    """Returns a table as a pandas DataFrame.

    Args:
        name: the argument that an error names.
    Raises:
        TypeError, ValueError: in one line, unless the value is a table whose column names differ.
    """
    if isinstance(table, pd.DataFrame):
        frame = table
    else:
        try:
            frame = pa.RecordBatchReader.from_stream(table).read_all().to_pandas()
        except (TypeError, pa.ArrowException):  # a column alone is a stream, too
            kind = type(table).__name__
            raise TypeError(f"{name}: expected a DataFrame or an Arrow table of calls, got {kind}") from None
    if frame.columns.map(str).has_duplicates:
        raise ValueError("DataFrame: expected each column name once")
    return frame


def warn_of_unlikely_calls(calls: pa.Table, keyed: pa.Table) -> None:
    """Warns of calls that were probably misread; each warning says what to change.

    Args:
        calls: columns `records.CALL_COLUMNS`.
        keyed: the same calls after the intake.
    """
    if not calls.num_rows:
        return
    withheld = _share(keyed, "caller_class", "withheld")
    if withheld > MOST:
        _warn(
            f"{withheld:.0%} of the calls have no caller, so they count as calls of withheld numbers: check the "
            "caller's column, and the merge that made it"
        )
    irregular = sum(_share(keyed, name, "irregular") for name in ("caller_class", "callee_class")) / 2
    if irregular > MOST:
        _warn(
            f"{irregular:.0%} of the callers and callees are not telephone numbers: if they are codes or tokens, pass "
            'numbers="codes"; if they are numbers without a country code, pass their country'
        )
    for name, longest in LONG.items():
        seconds = calls[name].to_numpy()
        lasting = seconds[seconds > 0]
        if len(lasting) and np.median(lasting) > longest:
            _warn(
                f"half of the calls with a {name} time have one of more than {np.median(lasting):,.0f} s: {name} is in "
                "seconds, so divide milliseconds by 1000"
            )


def _share(keyed: pa.Table, name: str, number_class: str) -> float:
    codes = keyed[name].combine_chunks()
    words = codes.dictionary.to_pylist()
    if number_class not in words:
        return 0.0
    return float(np.mean(codes.indices.to_numpy() == words.index(number_class)))


def _warn(message: str) -> None:
    warnings.warn(f"DataFrame: {message}", UserWarning, stacklevel=4)
