"""The features by callsieve: the common ones alone, and all of the catalogue."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import pyarrow as pa
from common import NAMES

from callsieve.features.catalogue import NAMES as ALL
from callsieve.features.catalogue import select_features
from callsieve.features.offline.table import vectors_by_caller

Columns = dict[str, npt.NDArray[Any]]


def common(calls: pa.Table, threads: int) -> Columns:
    return columns(calls, NAMES, threads)


def catalogue(calls: pa.Table, threads: int) -> Columns:
    return columns(calls, ALL, threads)


def columns(calls: pa.Table, names: tuple[str, ...], threads: int) -> Columns:
    """Columns as they lie in memory: nothing is copied that a reader of the matrix would not copy."""
    rows, found = vectors_by_caller(calls, features=names, threads=threads)
    return {"row": rows} | {feature.name: found[:, i] for i, feature in enumerate(select_features(names))}
