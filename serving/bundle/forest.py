"""Evaluates and explains the trees of a bundle: raw scores and contributions equal to LightGBM's, without LightGBM.

`forest.c` does the work; `setup.py` builds it. Without the compiled library `forest_python.py` gives the same bits.
"""

from __future__ import annotations

import ctypes
import math
import os
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from callsieve.features.codegen.c_interface import address

from .forest_layout import Layout
from .forest_library import DONE, INDEX, NO_MEMORY, Arrays, Functions, library
from .forest_paths import Paths

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats

_ROWS_PER_THREAD = 512  # fewer rows take less time than starting a thread


class Forest:
    """A model of decision trees. Threads can share it.

    NaN is a missing value. Infinite values and rows of another width raise ValueError.

    Attributes:
        features: the F feature names, in order.
        classes: scores per row; 1 for a yes-no model.
    """

    def __init__(self, layout: Layout | Callable[[], Layout], features: Sequence[str], classes: int = 1) -> None:
        """Takes the arrays of a model, or a function that reads them.

        A function is called at the first use, and whatever it raises is raised there.
        """
        self.features, self.classes = tuple(features), classes
        self._reading, self._source = Lock(), layout

    @cached_property
    def _layout(self) -> Layout:
        with self._reading:  # once, and the file that it reads is freed then
            if callable(self._source):
                self._source = self._source()
            return self._source

    @cached_property
    def _packed(self) -> tuple[int, Any]:
        return self._pack()

    @cached_property
    def _address(self) -> int:
        return self._packed[0]

    @cached_property
    def _functions(self) -> Functions:
        if (compiled := library()) is not None:
            return compiled.of
        from .forest_python import NumpyForest

        python = NumpyForest(self._layout)
        return Functions(python.scores, python.score, python.explain)

    @property
    def trees(self) -> int:
        """Number of trees."""
        return self._layout.trees

    def read(self) -> None:
        """Reads the model now, if it was to be read at its first use."""
        _ = self._packed, self._functions

    @property
    def split_features(self) -> set[str]:
        """The features that some split of a tree reads; the others do not change any score."""
        return {self.features[place] for place in self._layout.source}

    def predict_raw(self, X: Floats, *, threads: int = 1) -> Floats:
        """Returns raw scores of shape (n,), or (n, classes) with more than one class.

        `X`: float64 of shape (n, F); NaN is a missing value.
        """
        import numpy as np  # for tables only: importing NumPy doubles the time before a first verdict

        rows = self._rows(X)
        if threads < 0:
            raise ValueError(f"threads must be 0 or more, got {threads}")
        scores = np.empty((len(rows), self.classes))
        parts = max(1, min(threads or os.cpu_count() or 1, len(rows) // _ROWS_PER_THREAD))
        bounds = [len(rows) * part // parts for part in range(parts + 1)]

        def score(first: int, end: int) -> None:
            part = rows[first:end]
            code = self._functions.scores(self._address, part.ctypes.data, len(part), scores[first:end].ctypes.data)
            self._check(code, part, f"row {first + code}: ")

        if parts == 1:
            score(0, len(rows))
        else:
            # Threads of this call alone: those of a pool that outlives it would be missing after a fork.
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(parts) as pool:
                list(pool.map(score, bounds, bounds[1:]))
        return scores if self.classes > 1 else scores[:, 0]

    def predict_few(self, rows: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
        """Returns the raw scores of a few rows of F values, one score a class, equal to those of `predict_raw`."""
        values, scores = array("d"), array("d", bytes(8 * len(rows) * self.classes))
        for row in rows:
            values.extend(self._values(row))
        if rows:
            places = values.buffer_info()[0], len(rows), scores.buffer_info()[0]
            self._check(self._functions.scores(self._address, *places), rows)
        return list(zip(*[iter(scores)] * self.classes, strict=True))

    def predict_one(self, row: Sequence[float]) -> float:
        """Returns the raw score of one row of F values; only for a yes-no model."""
        if self.classes != 1:
            raise ValueError(f"predict_one needs a model of one class, got {self.classes}; use predict_raw")
        values, score = self._values(row), array("d", (0.0,))
        code = self._functions.score(self._address, values.buffer_info()[0], score.buffer_info()[0])
        if code != DONE:
            self._check(code, [row])
        return score[0]

    def contributions(self, row: Sequence[float]) -> list[tuple[float, ...]]:
        """Returns the F contributions of one row to the score of each class, equal to LightGBM's `pred_contrib`.

        With the mean score of the training calls, the contributions of a row add up to its raw score.
        """
        values, (forest, _) = self._values(row)[:], self._explained  # a copy: other threads run meanwhile
        contributions = array("d", bytes(8 * len(values) * self.classes))
        code = self._functions.explain(forest, values.buffer_info()[0], 1, contributions.buffer_info()[0])
        self._check(code, [row])
        return list(zip(*[iter(contributions)] * len(values), strict=True))

    def contributions_of(self, X: Floats) -> Floats:
        """Returns the contributions of n rows, shape (n, classes, F), equal to those of `contributions`."""
        import numpy as np

        rows = self._rows(X)
        contributions = np.empty((len(rows), self.classes, len(self.features)))
        forest, _ = self._explained
        code = self._functions.explain(forest, rows.ctypes.data, len(rows), contributions.ctypes.data)
        self._check(code, rows, f"row {code}: ")
        return contributions

    def prepare(self) -> None:
        """Computes what explanations need, so that the first one does not take longer than the others."""
        _ = self._explained

    @cached_property
    def _explained(self) -> tuple[int, Any]:
        return self._pack(Paths(self._layout, self._address))

    def _pack(self, paths: Paths | None = None) -> tuple[int, Any]:
        forest, arrays = self._layout.forest(paths)
        return ctypes.addressof(forest), (forest, arrays, self._add_index(forest) if paths is None else None)

    def _add_index(self, forest: Arrays) -> Any:
        """Gives the forest an index for single rows if its trees are small. Returns its arrays, to outlive it."""
        compiled, layout = library(), self._layout
        nodes = len(layout.node) // 4
        spans = sum(
            columns * (bounds + 1) for bounds, columns in zip(layout.number[2::5], layout.number[4::5], strict=True)
        )
        sizes = (4 * nodes, 8 * spans, 8 * nodes, len(layout.leaf))
        arrays = [array("b", bytes(size + 1)) for size in sizes]
        places, counts = list(map(address, arrays)), address(layout.leaf_count)
        sets = -1 if compiled is None else compiled.cuts(ctypes.addressof(forest), counts, *places)
        if sets == NO_MEMORY:
            raise MemoryError("no memory for the index of the trees")
        if sets < 0:
            return None
        forest.sets = sets
        for name, place in zip(INDEX, places, strict=True):
            setattr(forest, name, place)
        return arrays

    def _rows(self, X: Floats) -> Floats:
        import numpy as np

        if X.ndim != 2 or X.shape[1] != len(self.features) or X.dtype != np.float64:
            raise ValueError(f"X must be float64 of shape (n, {len(self.features)}), got {X.dtype} {X.shape}")
        return np.ascontiguousarray(X)

    def _values(self, row: Sequence[float]) -> array[float]:
        if not (type(row) is array and row.typecode == "d"):
            try:
                row = array("d", row)
            except (TypeError, OverflowError) as error:
                raise ValueError(f"row must have {len(self.features)} numbers: {error}") from None
        if len(row) != len(self.features):
            raise ValueError(f"row must have {len(self.features)} numbers, got {len(row)}")
        return row

    def _check(self, code: int, rows: Any, where: str = "") -> None:
        if code == NO_MEMORY:
            raise MemoryError("no memory for the ranks of rows")
        if code != DONE:
            name, value = next(pair for pair in zip(self.features, rows[code], strict=True) if math.isinf(pair[1]))
            raise ValueError(f"{where}{name} must be finite or NaN, got {float(value)!r}")
