"""Own columns at ring time: the values of a caller that were known before its call started.

`serving/batch/own_column_join.py` reads the table from a file, and joins it to a table of calls by the same rule.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from callsieve.features.catalogue import OWN


class OwnColumns:
    """Own columns of numbers in memory, for one call at a time. Needs only the standard library. Immutable.

    Attributes:
        features: names of the columns as features of a model, such as "own_tariff".

    >>> table = OwnColumns(["A", "A"], [1_000, 2_000], {"tariff": [1.0, 2.0]})
    >>> table.row(["own_tariff"], "A", 2_000), table.row(["own_tariff"], "A", 2_001)
    ([1.0], [2.0])
    """

    def __init__(self, number: Sequence[str], known_at: Sequence[int], columns: Mapping[str, Sequence[float]]) -> None:
        """Sorts the rows by number and moment.

        Args:
            number: token of each row, shape (rows,).
            known_at: when each row became known, Unix ms, shape (rows,). Of two rows of a number that became known at
                one moment, the later row of the table counts.
            columns: values of each row by the name of the column, each of shape (rows,); NaN where unknown.
        """
        order = sorted(range(len(number)), key=lambda row: (number[row], known_at[row]))
        self.features = tuple(OWN + name for name in columns)
        self._known = array("q", [known_at[row] for row in order])
        self._values = {OWN + name: array("d", [values[row] for row in order]) for name, values in columns.items()}
        self._rows: dict[str, tuple[int, int]] = {}  # of each number: its first row, and the row after its last one
        for place, row in enumerate(order):
            self._rows[number[row]] = (self._rows.get(number[row], (place,))[0], place + 1)

    def row(self, features: Iterable[str], caller: str, start: int) -> list[float]:
        """Returns the values of a caller as of the start of its call; NaN where nothing was known.

        Args:
            features: names among the attribute `features`.
            caller: token.
            start: Unix ms.
        """
        first, end = self._rows.get(caller, (0, 0))
        place = bisect_left(self._known, start, first, end) - 1
        return [self._values[name][place] if place >= first else math.nan for name in features]
