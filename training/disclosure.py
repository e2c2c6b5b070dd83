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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LEAST = {"callee": 10, "caller": 5}
"""How many people a cell must hold to be shown."""
MAX_CELLS = 4000
_DIMENSIONS = 12  # of a part of which all sums are tried
_TOLERANCE = 1e-7  # of values that are whole numbers, or quotients of small ones, but for rounding


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
    matrix = _Matrix([*tables, *earlier], people, least)
    new = np.arange(len(matrix.cells)) < len(counted)
    while True:
        there = np.array(
            [not fresh or cell in shown for cell, fresh in zip(matrix.cells, new, strict=True)], dtype=bool
        )
        found = list(matrix.revealing(there, new))
        if not found:
            return {cell: count for cell, (count, _) in counted.items() if cell in shown}
        for guilty in found:
            shown -= _together(min(guilty, key=lambda cell: (counted[cell][0].records, cell)), shown)


def counts(
    table: Partition, people: Mapping[str, Array], least: Mapping[str, int]
) -> list[tuple[Cell, tuple[Count, bool]]]:
    """The count of each cell, and whether it is small."""
    many = len(table.cells)
    inside = table.codes >= 0
    records = np.bincount(table.codes[inside], minlength=many)
    held = {kind: _distinct(table.codes[inside], who[inside], many) for kind, who in people.items()}
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


def _distinct(codes: Array, who: Array, many: int) -> Array:
    """How many different people each code has."""
    if not len(codes):
        return np.zeros(many, dtype=np.int64)
    pairs = np.unique(codes.astype(np.int64) * (int(who.max()) + 1) + who)
    return np.bincount(pairs // (int(who.max()) + 1), minlength=many)


class _Matrix:
    """Which cells each finest atom stands in, and who is in the small ones."""

    def __init__(self, tables: Sequence[Partition], people: Mapping[str, Array], least: Mapping[str, int]) -> None:
        self.cells = [cell for one in tables for cell in one.cells]
        offsets = np.cumsum([0, *(len(one.cells) for one in tables)])
        codes = np.stack([np.asarray(one.codes, dtype=np.int64) for one in tables], axis=1)
        atoms, atom = _unique_rows(codes)
        row = (atoms + offsets[:-1])[atoms >= 0]
        column = np.broadcast_to(np.arange(len(atoms))[:, None], atoms.shape)[atoms >= 0]
        shape = (len(self.cells), len(atoms))
        self._in = sparse.csr_array((np.ones(len(row)), (row, column)), shape=shape)
        self._least = least
        small = np.zeros(len(atoms), dtype=bool)
        for kind, who in people.items():
            small |= _distinct(atom, who, len(atoms)) < least[kind]
        self._small = small
        lines = np.flatnonzero(small[atom])
        self._people = {kind: np.unique(np.stack([atom[lines], who[lines]]), axis=1) for kind, who in people.items()}
        self._weight = np.random.default_rng(0).integers(1, 1 << 62, len(self.cells), dtype=np.int64)

    def revealing(self, shown: Array, new: Array) -> Iterator[list[Cell]]:
        """For small sets that follow from what is shown, but not without new cells: new cells that they follow from."""
        small = np.flatnonzero(self._small_atoms(shown))
        if not len(small):
            return
        inside = self._in[np.flatnonzero(shown)]
        rest = np.setdiff1d(np.flatnonzero(inside.sum(axis=0)), small)
        basis = _echelon(_kernel(inside[:, rest]) @ inside[:, small])
        for rows in _parts(basis):
            weight = self._guilt(basis[rows], small, shown, new)
            if weight.any():
                yield [self.cells[i] for i in np.flatnonzero(weight >= weight.max() / 2)]

    def _guilt(self, basis: Array, small: Array, shown: Array, new: Array) -> Array:
        """How much each new cell takes part in a small set of a part; nowhere, if there is none that needs one."""
        guilt = np.zeros(len(shown))
        fresh = np.flatnonzero(shown & new)
        if len(basis) > _DIMENSIONS:
            guilt[fresh] = self._in[fresh][:, small[np.abs(basis).max(axis=0) > 0]].sum(axis=1) > 0
            return guilt
        for one in self._small_sums(basis, small):
            wanted = np.zeros(self._in.shape[1])
            wanted[small] = one
            if _weights(self._in[np.flatnonzero(shown & ~new)], wanted) is None:
                weight = _weights(self._in[np.flatnonzero(shown)], wanted)
                guilt[shown] = 1.0 if weight is None else weight
                return np.where(new, guilt, 0.0)
        return guilt

    def _small_sums(self, basis: Array, atoms: Array) -> Iterator[Array]:
        """Sums of basis rows that are sets, and small."""
        chosen = np.array([[n >> i & 1 for i in range(len(basis))] for n in range(1, 1 << len(basis))], dtype=float)
        sums = chosen @ basis
        sets = (np.minimum(np.abs(sums), np.abs(sums - 1)) < _TOLERANCE).all(axis=1)
        for one in np.round(sums[sets]):
            held = np.zeros(self._in.shape[1], dtype=bool)
            held[atoms] = one > 0
            if any(len(np.unique(who[held[atom]])) < self._least[kind] for kind, (atom, who) in self._people.items()):
                yield one

    def _small_atoms(self, shown: Array) -> Array:
        """Which atoms are small, now that cells which are not shown no longer tell them apart from others."""
        columns = self._in.T.astype(np.int64)
        name = columns @ np.where(shown, self._weight, 0)
        group = np.unique(name, return_inverse=True)[1]
        small = np.zeros(int(group.max(initial=-1)) + 1, dtype=bool)
        for kind, (atom, who) in self._people.items():
            small |= _distinct(group[atom], who, len(small)) < self._least[kind]
        small[group[~self._small]] = False
        return small[group] & (columns @ shown.astype(np.int64) > 0)


def _kernel(matrix: sparse.csr_array) -> Array:
    """Combinations of rows that vanish, as rows of an orthonormal basis."""
    values, vectors = np.linalg.eigh((matrix @ matrix.T).toarray())
    return vectors[:, values < _TOLERANCE].T


def _echelon(rows: Array) -> Array:
    """A basis of what the rows span, in reduced echelon form."""
    basis, done = rows.copy(), 0
    while done < len(basis):
        place = np.unravel_index(np.argmax(np.abs(basis[done:])), basis[done:].shape)
        line, column = int(place[0]) + done, int(place[1])
        if abs(basis[line, column]) < _TOLERANCE:
            break
        basis[[done, line]] = basis[[line, done]]
        basis[done] /= basis[done, column]
        others = np.arange(len(basis)) != done
        basis[others] -= np.outer(basis[others, column], basis[done])
        done += 1
    found = basis[:done]
    found[np.abs(found) < _TOLERANCE] = 0.0
    return found


def _parts(basis: Array) -> list[Array]:
    """Indices of the rows of each part that shares no column with another."""
    if not len(basis):
        return []
    touched = sparse.csr_array(basis != 0).astype(np.int64)
    many, part = connected_components(touched @ touched.T, directed=False)
    return [np.flatnonzero(part == i) for i in range(many)]


def _weights(inside: sparse.csr_array, wanted: Array) -> Array | None:
    """With how much of each cell something follows, least of all in square; None if it does not follow."""
    weight = np.linalg.lstsq((inside @ inside.T).toarray(), inside @ wanted, rcond=None)[0]
    follows = np.abs(inside.T @ weight - wanted).max() < _TOLERANCE**0.5
    return np.abs(weight) if follows else None


def _unique_rows(codes: Array) -> tuple[Array, Array]:
    """The different rows, and for each row which it is."""
    name = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        name = np.unique(name * (int(column.max(initial=0)) + 2) + column + 1, return_inverse=True)[1]
    _, first, atom = np.unique(name, return_index=True, return_inverse=True)
    return codes[first], atom
