"""Contributions of a bundle's model, prepared at the first use.

Importing NumPy and planning all trees (`shapley.py`) takes longer than everything else before a first verdict, and most
verdicts have no reasons. A host can call `prepare` when no call waits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .model_text import Tree

if TYPE_CHECKING:
    from .shapley import Contributions

# A model within these limits never needs more memory than `shapley_plan.py` allows, so its check can wait.
FEW_NODES, FEW_FEATURES = 300_000, 64  # nodes of all trees; features of a tree


class Explainer:
    """Exact contributions to the raw score of a yes-no model. Threads can share it."""

    def __init__(self, trees: Sequence[Tree], width: int) -> None:
        """Keeps the trees; prepares them at once only if their memory must be checked.

        Args:
            trees: the trees of a model of one class, from `model_text.check_structure`.
            width: F, the number of features of a row.

        Raises:
            ValueError: if the contributions would need more memory than `shapley.Contributions` allows.
        """
        self._trees, self._width = trees, width
        self._lock = threading.Lock()
        self._ready: Contributions | None = None
        nodes, features = sum(len(tree.left) for tree in trees), max(len(set(tree.feature)) for tree in trees)
        if nodes > FEW_NODES or features > FEW_FEATURES:
            self.prepare()

    def __call__(self, row: Sequence[float]) -> list[float]:
        """Returns the F contributions of one row of F values, finite or NaN."""
        contributions: list[float] = (self._ready or self.prepare())(row).tolist()
        return contributions

    def prepare(self) -> Contributions:
        """Prepares the trees if that is not done yet, and returns the function behind this object."""
        from .shapley import Contributions

        with self._lock:
            if self._ready is None:
                self._ready, self._trees = Contributions(self._trees, self._width), ()
            return self._ready
