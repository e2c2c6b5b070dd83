"""The features by callsieve: the common ones alone, and all of the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from callsieve.features.catalogue import NAMES as ALL
from callsieve.features.table import vectors
from common import NAMES

Columns = dict[str, npt.NDArray[Any]]


def common(calls: pa.Table, threads: int) -> Columns:
    return with_rows(vectors(calls, features=NAMES, threads=threads), NAMES)


def catalogue(calls: pa.Table, threads: int) -> Columns:
    return with_rows(vectors(calls, threads=threads), ALL)


def with_rows(found, names):
    """Columns as they lie in memory: nothing is copied that a reader of the matrix would not copy."""
    return {"row": np.arange(len(found))} | {name: found[:, i] for i, name in enumerate(names)}
