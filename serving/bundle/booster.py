"""Predicts with LightGBM through the C library of LightGBM's own wheel, without importing `lightgbm`.

`import lightgbm` loads scipy, and pandas and scikit-learn if they are installed: 200 to 900 ms and 70 to 190 MB before
the first score. The shared library alone takes 30 ms. The scores equal those of `lightgbm.Booster` bit for bit. The
module calls only functions that LightGBM 4.6 and 4.7 share.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import math
import struct
import sys
import threading
import weakref
from array import array
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FLOAT64 = 1
_RAW_SCORE = 1
_ALL_TREES = (0, -1)
# The first two bytes of an infinity (sign and exponent), which begin at byte _TOP of a float64. A search for all eight
# bytes would find the zeros of an infinity in nearly every row.
_TOP = 6 if sys.byteorder == "little" else 0
_INFINITIES = tuple(struct.pack("=d", value)[_TOP : _TOP + 2] for value in (math.inf, -math.inf))


class Booster:
    """A LightGBM model. Threads can share it.

    The text must have passed `model_text.check_structure`; LightGBM may crash on other texts. NaN is a missing value.
    Infinite values and rows of another width raise ValueError.

    Attributes:
        features: the F feature names, in order.
        trees: number of trees.
        classes: scores per row; 1 for a yes-no model.
    """

    def __init__(self, model_text: str | bytes) -> None:
        """Loads a model from LightGBM's text format.

        Raises:
            ValueError: with LightGBM's message, if LightGBM refuses the text.
        """
        library = _library()
        handle = c_void_p()
        data = model_text.encode() if isinstance(model_text, str) else model_text
        _call("LGBM_BoosterLoadModelFromString", data, byref(c_int()), byref(handle))
        # Not at exit: a daemon thread may still be scoring then, and the process frees the memory anyway.
        weakref.finalize(self, library.LGBM_BoosterFree, handle).atexit = False
        self._handle = handle
        self.classes = self._count("LGBM_BoosterGetNumClasses")
        self.trees = self._count("LGBM_BoosterNumberOfTotalModel")
        self.features = self._feature_names()
        self._pack = struct.Struct(f"={len(self.features)}d").pack
        self._single = library.LGBM_BoosterPredictForMatSingleRowFast
        self._local = threading.local()

    def predict_raw(self, X: NDArray[np.float64], *, threads: int = 1) -> NDArray[np.float64]:  # noqa: N803
        """Returns raw scores of shape (n,), or (n, classes) with more than one class.

        Args:
            X: float64 of shape (n, F); NaN is a missing value.
            threads: threads of LightGBM.
        """
        import numpy as np  # for tables only: importing NumPy doubles the time before a first verdict

        if X.ndim != 2 or X.shape[1] != len(self.features) or X.dtype != np.float64:
            raise ValueError(f"X must be float64 of shape (n, {len(self.features)}), got {X.dtype} {X.shape}")
        if np.isinf(X).any():
            row, column = np.argwhere(np.isinf(X))[0]
            raise ValueError(f"row {row}: {self.features[column]} must be finite or NaN, got {X[row, column]}")
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        rows, scores = np.ascontiguousarray(X), np.empty((len(X), self.classes))
        if len(rows):
            self._predict(rows.ctypes.data, len(rows), scores.ctypes.data, scores.size, threads)
        return scores if self.classes > 1 else scores[:, 0]

    def predict_few(self, rows: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
        """Returns the raw scores of a few rows of F values, one score a class, equal to those of `predict_raw`."""
        values, scores = array("d"), array("d", bytes(8 * len(rows) * self.classes))
        for row in rows:
            values.frombytes(self._packed(row))
        if rows:
            self._predict(values.buffer_info()[0], len(rows), scores.buffer_info()[0], len(scores), 1)
        return list(zip(*[iter(scores)] * self.classes, strict=True))

    def predict_one(self, row: Sequence[float]) -> float:
        """Returns the raw score of one row of F values, by LightGBM's single-row path; only for a yes-no model."""
        packed = self._packed(row)
        local = self._local
        try:
            config, length, score, out = local.fast
        except AttributeError:
            config, length, score, out = local.fast = self._fast()
        if self._single(config.handle, packed, length, out):
            raise ValueError(_last_error())
        return score.value  # type: ignore[no-any-return]

    def _packed(self, row: Sequence[float]) -> bytes:
        if type(row) is array and row.typecode == "d" and len(row) == len(self.features):
            packed = row.tobytes()
        else:
            try:
                packed = self._pack(*row)
            except (struct.error, TypeError, OverflowError) as error:
                raise ValueError(f"row must have {len(self.features)} numbers: {error}") from None
        for top in _INFINITIES:
            at = packed.find(top)
            while at >= 0:
                if at % 8 == _TOP:
                    self._check_finite(row)
                at = packed.find(top, at + 1)
        return packed

    def _check_finite(self, row: Sequence[float]) -> None:
        # A signalling NaN may begin with the same bytes, so the values decide.
        for name, value in zip(self.features, row, strict=True):
            if math.isinf(value):
                raise ValueError(f"{name} must be finite or NaN, got {value!r}")

    def _fast(self) -> tuple[_FastConfig, object, c_double, object]:
        """Returns the settings and the result cell of one thread. Threads that share them wait for each other."""
        if self.classes != 1:
            raise ValueError(f"predict_one needs a model of one class, got {self.classes}; use predict_raw")
        score = c_double()
        return _FastConfig(self), byref(c_int64()), score, byref(score)

    def _predict(self, rows: int, count: int, out: int, size: int, threads: int) -> None:
        """Reads `count` rows of F doubles at address `rows` and writes `size` scores to address `out`."""
        length = c_int64()
        shape = (c_int32(count), c_int32(len(self.features)), c_int(1))
        _call(
            "LGBM_BoosterPredictForMat",
            *(self._handle, rows, _FLOAT64, *shape, _RAW_SCORE, *_ALL_TREES),
            *(f"num_threads={threads}".encode(), byref(length), out),
        )
        if length.value != size:
            raise ValueError(f"LightGBM returned {length.value} scores, expected {size}")

    def _count(self, function: str) -> int:
        count = c_int()
        _call(function, self._handle, byref(count))
        return count.value

    def _feature_names(self) -> tuple[str, ...]:
        count = self._count("LGBM_BoosterGetNumFeature")
        size, needed = 64, c_size_t()
        while True:
            buffers = [ctypes.create_string_buffer(size) for _ in range(count)]
            pointers = (c_char_p * count)(*[ctypes.cast(buffer, c_char_p) for buffer in buffers])
            _call(
                "LGBM_BoosterGetFeatureNames",
                *(self._handle, count, byref(c_int()), c_size_t(size), byref(needed), pointers),
            )
            if needed.value <= size:
                return tuple(buffer.value.decode() for buffer in buffers)
            size = needed.value


class _FastConfig:
    """A handle of the single-row path, freed with its thread or its model."""

    def __init__(self, booster: Booster) -> None:
        self.handle = c_void_p()
        _call(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            *(booster._handle, _RAW_SCORE, *_ALL_TREES, _FLOAT64, c_int32(len(booster.features))),
            *(b"num_threads=1", byref(self.handle)),
        )
        weakref.finalize(self, _library().LGBM_FastConfigFree, self.handle).atexit = False


_SIGNATURES = {
    "LGBM_BoosterLoadModelFromString": [c_char_p, POINTER(c_int), POINTER(c_void_p)],
    "LGBM_BoosterFree": [c_void_p],
    "LGBM_BoosterGetNumClasses": [c_void_p, POINTER(c_int)],
    "LGBM_BoosterNumberOfTotalModel": [c_void_p, POINTER(c_int)],
    "LGBM_BoosterGetNumFeature": [c_void_p, POINTER(c_int)],
    "LGBM_BoosterGetFeatureNames": [
        *(c_void_p, c_int, POINTER(c_int), c_size_t, POINTER(c_size_t), POINTER(c_char_p)),
    ],
    "LGBM_BoosterPredictForMat": [
        *(c_void_p, c_void_p, c_int, c_int32, c_int32, c_int, c_int, c_int, c_int),
        *(c_char_p, POINTER(c_int64), c_void_p),
    ],
    "LGBM_BoosterPredictForMatSingleRowFastInit": [
        *(c_void_p, c_int, c_int, c_int, c_int, c_int32, c_char_p, POINTER(c_void_p)),
    ],
    "LGBM_BoosterPredictForMatSingleRowFast": [c_void_p, c_char_p, POINTER(c_int64), POINTER(c_double)],
    "LGBM_FastConfigFree": [c_void_p],
}


@functools.cache
def _library() -> ctypes.CDLL:
    # find_spec locates a top-level package without running it.
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("scoring needs LightGBM's wheel: pip install lightgbm")
    name = {"win32": "lib_lightgbm.dll", "darwin": "lib_lightgbm.dylib"}.get(sys.platform, "lib_lightgbm.so")
    root = Path(spec.submodule_search_locations[0])
    paths = [path for path in (root / "lib" / name, root / "bin" / name, root / name) if path.is_file()]
    if not paths:
        raise ImportError(
            f"{root}: LightGBM's wheel has no {name}; reinstall it: pip install --force-reinstall lightgbm"
        )
    library = ctypes.CDLL(str(paths[0]))
    for function, arguments in _SIGNATURES.items():
        entry = getattr(library, function)
        entry.argtypes, entry.restype = arguments, c_int
    library.LGBM_GetLastError.restype = c_char_p
    return library


def _call(function: str, *arguments: object) -> None:
    if getattr(_library(), function)(*arguments):
        raise ValueError(_last_error())


def _last_error() -> str:
    message: bytes = _library().LGBM_GetLastError()
    return "LightGBM: " + " ".join(message.decode(errors="replace").split())
