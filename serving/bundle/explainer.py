"""Contributions of a bundle's model, made ready when they are first asked for.

NumPy and the plan of all trees (`shapley.py`) take longer than all else that a first verdict needs, and most verdicts
have no reasons. `prepare` takes that time when no call waits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .model_text import Tree

if TYPE_CHECKING:
    from .shapley import Contributions

# So many nodes, in trees that ask for so few features each, never need more memory than `plan.py` allows.
FEW_NODES, FEW_FEATURES = 300_000, 64


class Explainer:
    """Exact contributions to the raw score of a yes-no model. Safe to share between threads."""

    def __init__(self, trees: Sequence[Tree], width: int) -> None:
        """Of rows of `width` values, F.

        Args:
            trees: those of `structure.check_structure`, of a model of one class.

        Raises:
            ValueError: if they would need too much memory, as `shapley.Contributions` says.
        """
        self._trees, self._width = trees, width
        self._lock = threading.Lock()
        self._ready: Contributions | None = None
        nodes, features = sum(len(tree.left) for tree in trees), max(len(set(tree.feature)) for tree in trees)
        if nodes > FEW_NODES or features > FEW_FEATURES:
            self.prepare()

    def __call__(self, row: Sequence[float]) -> list[float]:
        """Contributions of one row of F values, which are finite or NaN."""
        found: list[float] = (self._ready or self.prepare())(row).tolist()
        return found

    def prepare(self) -> Contributions:
        """Make ready, if that is not done yet."""
        from .shapley import Contributions

        with self._lock:
            if self._ready is None:
                self._ready, self._trees = Contributions(self._trees, self._width), ()
            return self._ready
