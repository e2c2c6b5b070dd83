"""Counts that give nobody away: which cells of a set of tables may be shown together, and with earlier tables.

A cell counts records (calls) with something in common. A set of records is *small* if fewer callees or fewer callers
than is asked for take part in it. Small cells are not shown; nor is anything shown from which the count of a small set
follows by adding and subtracting, in this release or with earlier ones.

Take the records that stand in exactly the same shown cells: an *atom*. What follows from the shown counts are the
combinations of the rows of the matrix cells x atoms. (That counts are not negative adds nothing: each atom has a
record, so the true counts lie inside of what is allowed, and what equations leave open there stays open.) A set with
an atom that is not small is not small itself. So only combinations that vanish on all other atoms matter. They are a
linear space; it falls into parts that share no atom, mostly of few dimensions. A set that follows has 0 or 1 at each
atom, so in a basis of echelon form it is a sum of basis rows, and all sums are tried. A part of too many dimensions
counts as one that gives somebody away. While there is such a set, the smallest cell that takes part in it is hidden.

pycanon was looked at: it measures the anonymity of records, not of tables, and pins versions of its packages other than
ours. opendp (47 MB) adds noise: a person can make up half of a trunk, so that noise which hides him hides the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .deduction import Matrix, distinct

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LEAST = {"callee": 10, "caller": 5}
"""How many people a cell must hold to be shown."""
MAX_CELLS = 4000
_ROW = 5  # splits of a row that are given up rather than the row


class Cell(NamedTuple):
    """What a count is of: a row of a table in a period, or with `split` the part of that row which is `part`."""

    period: str
    table: str
    row: str
    split: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Partition:
    """Cells that share no record: for each record the index of its cell, or -1."""

    codes: Array
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Count:
    """How many records, and of each kind of people at least how many: rounded down to a multiple of what is asked for.

    Counts of people do not add up, but grow from one release to the next: a difference of rounded ones tells of no one.
    """

    records: int
    people: Mapping[str, int]


def protect(
    tables: Sequence[Partition],
    people: Mapping[str, Array],
    least: Mapping[str, int] = LEAST,
    earlier: Sequence[Partition] = (),
) -> dict[Cell, Count]:
    """The cells that may be shown.

    Args:
        tables: what one wants to show. A row is hidden with all of its splits, a split with all of its parts.
        people: for each record who takes part in it, by kind; numbers from 0.
        least: how many people of each kind a cell must hold; a cell without records may always be shown.
        earlier: what was shown already, of the same records.
    Raises:
        ValueError: if there are more than MAX_CELLS cells.
    """
    counted = {cell: count for one in tables for cell, count in counts(one, people, least)}
    if len(counted) > MAX_CELLS:
        raise ValueError(f"tables: expected at most {MAX_CELLS} cells, got {len(counted)}: choose fewer rows")
    shown = {cell for cell, (_, small) in counted.items() if not small}
    for cell in set(counted) - shown:
        shown -= _together(cell, shown)
    size = {cell: count.records for cell, (count, _) in counted.items()}
    # Each table by itself first: what it gives away alone is found in a small matrix.
    for name in sorted({cell[:2] for cell in counted}):
        _hide([one for one in tables if one.cells and one.cells[0][:2] == name], (), people, least, shown, size)
    _hide(tables, earlier, people, least, shown, size)
    return {cell: count for cell, (count, _) in counted.items() if cell in shown}


def _hide(
    tables: Sequence[Partition],
    earlier: Sequence[Partition],
    people: Mapping[str, Array],
    least: Mapping[str, int],
    shown: set[Cell],
    size: Mapping[Cell, int],
) -> None:
    """Take out of what is shown all that gives a small set away, in these tables and with the earlier ones."""
    matrix = Matrix(tables, earlier, people, least)

    def loss(cell: Cell) -> tuple[int, Cell]:
        """What goes with a cell: records of its row, which counts more than one split of it."""
        row = size.get(cell._replace(split="", part=""), size[cell])
        return row if cell.split else _ROW * row, cell

    while found := list(matrix.revealing(shown)):
        for guilty in found:
            shown -= _together(min(guilty, key=loss), shown)


def counts(
    table: Partition, people: Mapping[str, Array], least: Mapping[str, int]
) -> list[tuple[Cell, tuple[Count, bool]]]:
    """The count of each cell, and whether it is small."""
    many = len(table.cells)
    inside = table.codes >= 0
    records = np.bincount(table.codes[inside], minlength=many)
    held = {kind: distinct(table.codes[inside], who[inside], many) for kind, who in people.items()}
    small = np.zeros(many, dtype=bool)
    for kind, number in held.items():
        small |= (records > 0) & (number < least[kind])
    rounded = {kind: number // least[kind] * least[kind] for kind, number in held.items()}
    return [
        (cell, (Count(int(records[i]), {kind: int(number[i]) for kind, number in rounded.items()}), bool(small[i])))
        for i, cell in enumerate(table.cells)
    ]


def _together(cell: Cell, shown: set[Cell]) -> set[Cell]:
    """What goes when a cell goes: of a row all its splits, of a part all parts of its split."""
    return {
        one for one in shown if one[:3] == cell[:3] and (not cell.split or one.split == cell.split)
    } | {cell}  # fmt: skip
