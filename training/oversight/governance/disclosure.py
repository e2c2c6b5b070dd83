"""Disclosure control: a minimum count and rounding decide which counts of a table a report may show.

A cell counts the calls (records) of one row of a table. Two rules protect small groups of people:

1. Minimum: a cell is shown only if at least `least` distinct callees and callers take part in its records. A part of a
   split below the minimum hides the whole split. Where the hidden rows of a table together stay below the minimum, the
   smallest shown row is hidden as well: a total minus the shown rows would otherwise reveal them.
2. Rounding: every shown count is a multiple of `BASE`, totals included, so that differences below `BASE` cannot be
   computed from two cells or from two reports.

Limits: a large group that overlaps several tables or reports may be estimated to within the rounding. Reports of
periods that do not overlap reveal least. For stronger guarantees use tau-argus or differential privacy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from callsieve.features.arrays import Array

LEAST = {"callee": 10, "caller": 5}
"""Minimum of distinct numbers of each kind in a shown cell."""
BASE = 5
"""Shown counts are multiples of this."""


class Cell(NamedTuple):
    """A cell of the report: a row of a table in a period, or, with `split`, the part `part` of that row."""

    period: str
    table: str
    row: str
    split: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Partition:
    """Cells that share no records: the index of the cell of each record, or -1."""

    codes: Array
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Count:
    """Rounded counts of a cell: records to the nearest multiple of BASE, distinct numbers by kind rounded down."""

    records: int
    people: Mapping[str, int]


def protect(
    tables: Sequence[Partition], people: Mapping[str, Array], least: Mapping[str, int] = LEAST
) -> dict[Cell, Count]:
    """Returns the cells that may be shown, with rounded counts."""
    shown: dict[Cell, Count] = {}
    numbers = pd.DataFrame(people)
    minimum = pd.Series({kind: least[kind] for kind in people})
    for table in tables:
        size, inside = len(table.cells), table.codes >= 0
        records = np.bincount(table.codes[inside], minlength=size)
        distinct = numbers[inside].groupby(table.codes[inside]).nunique().reindex(range(size), fill_value=0)
        hidden = (records > 0) & (distinct < minimum).any(axis=1).to_numpy()
        if size and table.cells[0].split:
            splits = {cell[:4] for cell, small in zip(table.cells, hidden, strict=True) if small}
            hidden = np.array([cell[:4] in splits or Cell(*cell[:3]) not in shown for cell in table.cells])
        else:
            _hide_remainder(table.codes, records, hidden, numbers, minimum)
        for i in map(int, np.flatnonzero(~hidden)):
            counts = {kind: int(distinct[kind][i]) // BASE * BASE for kind in people}
            shown[table.cells[i]] = Count((int(records[i]) + BASE // 2) // BASE * BASE, counts)
    return shown


def _hide_remainder(
    codes: Array, records: Array, hidden: Array, numbers: pd.DataFrame, minimum: pd.Series[int]
) -> None:
    while hidden.any() and ((records > 0) & ~hidden).any():
        rest = numbers[(codes >= 0) & hidden[codes]].nunique()
        if (rest >= minimum).all():
            return
        hidden[np.argmin(np.where((records > 0) & ~hidden, records, np.iinfo(np.int64).max))] = True
