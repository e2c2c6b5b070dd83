"""Types of NumPy arrays, for annotations."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]
Floats = np.ndarray[tuple[Any, ...], np.dtype[np.float64]]
Ints = np.ndarray[tuple[Any, ...], np.dtype[np.signedinteger[Any]]]
Int8s = np.ndarray[tuple[Any, ...], np.dtype[np.int8]]
Int32s = np.ndarray[tuple[Any, ...], np.dtype[np.int32]]
Int64s = np.ndarray[tuple[Any, ...], np.dtype[np.int64]]
Bools = np.ndarray[tuple[Any, ...], np.dtype[np.bool_]]
Objects = np.ndarray[tuple[Any, ...], np.dtype[np.object_]]
