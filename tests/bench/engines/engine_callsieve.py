"""Computes features with callsieve: the common ones, or the whole catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from callsieve.features.catalogue import NAMES as ALL
from callsieve.features.offline.table import vectors

from .common import NAMES

Columns = dict[str, npt.NDArray[Any]]


def common(calls: pa.Table, threads: int) -> Columns:
    return columns(calls, NAMES, threads)


def catalogue(calls: pa.Table, threads: int) -> Columns:
    return columns(calls, ALL, threads)


def columns(calls: pa.Table, names: tuple[str, ...], threads: int) -> Columns:
    """Returns views of the columns, without a copy."""
    matrix = vectors(calls, features=names, threads=threads)
    return {"row": np.arange(len(matrix))} | {name: matrix[:, i] for i, name in enumerate(names)}
