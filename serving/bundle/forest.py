"""Evaluates and explains the trees of a bundle: raw scores and contributions equal to LightGBM's, without LightGBM.

`forest.c` does the work; `setup.py` builds it. Without the compiled library `forest_python.py` gives the same bits.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from callsieve.features.codegen.compiled_library import address

from .forest_layout import Layout
from .forest_library import DONE, LAYOUT, NO_MEMORY, PATHS, Arrays, Functions, library
from .forest_paths import Paths
from .model_text import Tree, check_structure

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats

_ROWS_PER_THREAD = 512  # fewer rows take less time than starting a thread


class Forest:
    """A model of decision trees. Threads can share it.

    NaN is a missing value. Infinite values and rows of another width raise ValueError.

    Attributes:
        features: the F feature names, in order.
        classes: scores per row; 1 for a yes-no model.
        trees: number of trees.
    """

    def __init__(self, trees: Sequence[Tree], features: Sequence[str], classes: int = 1) -> None:
        """Packs the trees of a model, from `model_text.check_structure`.

        Raises:
            ValueError: if a tree or a feature is too large.
        """
        self.features, self.classes, self.trees = tuple(features), classes, len(trees)
        self._trees, self._layout = trees, Layout(trees)
        self._address, self._arrays = self._pack()
        functions = library()
        if functions is None:
            try:
                from .forest_python import NumpyForest
            except ImportError as error:
                raise ImportError("without its compiled library a model needs NumPy: pip install numpy") from error

            python = NumpyForest(trees, self._layout, len(self.features), classes)
            functions = Functions(python.scores, python.score, python.explain)
        self._functions = functions

    @property
    def split_features(self) -> set[str]:
        """The features that some split of a tree reads; the others do not change any score."""
        return {self.features[place] for place in self._layout.source}

    def predict_raw(self, X: Floats, *, threads: int = 1) -> Floats:
        """Returns raw scores of shape (n,), or (n, classes) with more than one class.

        Args:
            X: float64 of shape (n, F); NaN is a missing value.
            threads: number of threads.
        """
        import numpy as np  # for tables only: importing NumPy doubles the time before a first verdict

        if X.ndim != 2 or X.shape[1] != len(self.features) or X.dtype != np.float64:
            raise ValueError(f"X must be float64 of shape (n, {len(self.features)}), got {X.dtype} {X.shape}")
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        rows, scores = np.ascontiguousarray(X), np.empty((len(X), self.classes))
        parts = max(1, min(threads, len(rows) // _ROWS_PER_THREAD))
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
        code = self._functions.explain(forest, values.buffer_info()[0], contributions.buffer_info()[0])
        self._check(code, [row])
        return list(zip(*[iter(contributions)] * len(values), strict=True))

    def prepare(self) -> None:
        """Computes what explanations need, so that the first one does not take longer than the others."""
        _ = self._explained

    @cached_property
    def _explained(self) -> tuple[int, Any]:
        """The forest with what explanations need, computed at the first one: most verdicts have no reasons."""
        return self._pack(Paths(self._trees))

    def _pack(self, paths: Paths | None = None) -> tuple[int, Any]:
        """Returns the address of the arrays as `forest.c` takes them, and the objects that must outlive its use."""
        layout = self._layout
        arrays = {name: getattr(layout, name) for name in LAYOUT}
        arrays |= {name: getattr(paths, name) for name in PATHS if paths is not None}
        number = {"numbers": len(layout.number) // 5, "categories": len(layout.category) // 3}
        number |= {"columns": len(layout.source), "numeric": layout.numeric, "most_nodes": layout.most_nodes}
        number |= {"width": len(self.features), "classes": self.classes, "trees": self.trees}
        forest = Arrays(**number, **{name: address(values) for name, values in arrays.items()})
        return ctypes.addressof(forest), (forest, arrays)

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
        """Raises the error of a result of `forest.c`, which names the first of `rows` with an infinite value."""
        if code == NO_MEMORY:
            raise MemoryError("no memory for the ranks of rows")
        if code != DONE:
            name, value = next(pair for pair in zip(self.features, rows[code], strict=True) if math.isinf(pair[1]))
            raise ValueError(f"{where}{name} must be finite or NaN, got {float(value)!r}")


def read_forest(text: str) -> Forest:
    """Returns the forest of a model text with the features and classes that its own header names.

    Raises:
        ValueError: in one line that states where the text differs from a model of LightGBM.
    """
    header = dict(line.partition("=")[::2] for line in text[: text.find("\n\n")].split("\n"))
    features, classes = header.get("feature_names", "").split(" "), int(header.get("num_class", "1"))
    return Forest(check_structure(text, features, classes=classes), features, classes)
