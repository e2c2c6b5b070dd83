"""Groups of rows as whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import column_or_1d

from callsieve.features.arrays import Array


def group_codes(groups: Any) -> Array:
    """Returns the code of each row's group, shape (rows,)."""
    try:
        values = column_or_1d(groups)
    except ValueError:
        shape = np.shape(groups)
        raise ValueError(f"groups: expected the caller of each row, got an array of shape {shape}") from None
    missing = int(pd.isna(values).sum())
    if missing:
        raise ValueError(f"groups: expected the caller of each row, {missing} of {len(values)} rows have none")
    try:
        return np.asarray(np.unique(values, return_inverse=True)[1])
    except TypeError:
        raise ValueError("groups: expected all text or all numbers, got a mixture") from None
