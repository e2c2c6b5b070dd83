"""What follows from counts: sets of records whose number is a combination of other numbers.

Rows are cells, columns are atoms: records that stand in the same cells. See `disclosure.py` for what is done with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    import numpy.typing as npt

    from .disclosure import Cell, Partition

    Array = npt.NDArray[Any]

_DIMENSIONS = 12  # of a part of which all sums are tried
_TOLERANCE = 1e-7  # of values that are whole numbers, or quotients of small ones, but for rounding


class Matrix:
    """Which cells each finest atom stands in, and who is in the small ones.

    Cells without records are left out, and of a split that adds up to its row the largest part, for it follows from the
    others. Cells of the same atoms are one row of the matrix.
    """

    def __init__(
        self,
        tables: Sequence[Partition],
        earlier: Sequence[Partition],
        people: Mapping[str, Array],
        least: Mapping[str, int],
    ) -> None:
        atoms, atom = _unique_rows(np.stack([one.codes for one in (*tables, *earlier)], axis=1))
        size = np.bincount(atom, minlength=len(atoms))
        fresh = list(_cells(tables, atoms[:, : len(tables)], size))
        known = list(_cells(earlier, atoms[:, len(tables) :], size))
        rows: dict[bytes, int] = {}
        self._names: list[list[Cell]] = []
        old = []
        for cell, held, new in [*((*one, False) for one in known), *((*one, True) for one in fresh)]:
            place = rows.setdefault(held.tobytes(), len(rows))
            if place == len(self._names):
                self._names.append([])
                old.append(not new)
            if new and not old[place]:  # what was shown already cannot be hidden
                self._names[place].append(cell)
        self._old = np.array(old, dtype=bool)
        lists = [np.frombuffer(text, dtype=np.int64) for text in rows]
        ends = np.cumsum([0, *map(len, lists)])
        columns = np.concatenate(lists) if lists else np.zeros(0, dtype=np.int64)
        self._in = sparse.csr_array((np.ones(len(columns)), columns, ends), shape=(len(lists), len(atoms)))
        self._least = least
        self._small = np.zeros(len(atoms), dtype=bool)
        for kind, who in people.items():
            self._small |= distinct(atom, who, len(atoms)) < least[kind]
        lines = np.flatnonzero(self._small[atom])
        self._people = {kind: np.unique(np.stack([atom[lines], who[lines]]), axis=1) for kind, who in people.items()}
        self._weight = np.random.default_rng(0).integers(1, 1 << 62, len(lists), dtype=np.int64)
        self._before = Span(self._in[np.flatnonzero(self._old)])

    def revealing(self, cells: set[Cell]) -> Iterator[list[Cell]]:
        """For small sets that follow from these cells and earlier ones, not from the earlier alone: guilty cells."""
        shown = self._old | np.array([any(cell in cells for cell in names) for names in self._names], dtype=bool)
        small = np.flatnonzero(self._small_atoms(shown))
        if not len(small):
            return
        rows = np.flatnonzero(shown)
        inside = self._in[rows]
        rest = np.setdiff1d(np.flatnonzero(inside.sum(axis=0)), small)
        basis = _echelon(Span(inside[:, rest]).kernel @ inside[:, small])
        span = Span(inside)
        for part in _parts(basis):
            guilt = np.zeros(len(shown))
            guilt[rows] = self._guilt(basis[part], small, span)
            guilt[self._old] = 0.0
            if guilt.any():
                told = np.flatnonzero(guilt >= guilt.max() / 2)
                yield [cell for i in told for cell in self._names[i] if cell in cells]

    def _guilt(self, basis: Array, small: Array, span: Span) -> Array:
        """How much each cell takes part in a small set of a part that does not follow from earlier cells; else 0."""
        if len(basis) > _DIMENSIONS:
            touched = span.inside[:, small[np.abs(basis).max(axis=0) > 0]]
            return (np.asarray(touched.sum(axis=1)) > 0).astype(float)
        for one in self._small_sums(basis, small):
            wanted = np.zeros(self._in.shape[1])
            wanted[small] = one
            if self._before.weights(wanted) is None:
                weight = span.weights(wanted)
                return np.ones(span.inside.shape[0]) if weight is None else weight
        return np.zeros(span.inside.shape[0])

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
            small |= distinct(group[atom], who, len(small)) < self._least[kind]
        small[group[~self._small]] = False
        return small[group] & (columns @ shown.astype(np.int64) > 0)


class Span:
    """Combinations of the rows of a matrix."""

    def __init__(self, inside: sparse.csr_array) -> None:
        self.inside = inside
        self._values, self._vectors = np.linalg.eigh((inside @ inside.T).toarray())

    @property
    def kernel(self) -> Array:
        """The combinations that vanish, as rows of an orthonormal basis."""
        return self._vectors[:, self._values < _TOLERANCE].T

    def weights(self, wanted: Array) -> Array | None:
        """How much of each row is in what follows, least of all in square; None if it does not follow."""
        kept = self._values >= _TOLERANCE
        vectors = self._vectors[:, kept]
        weight = vectors @ ((vectors.T @ (self.inside @ wanted)) / self._values[kept])
        follows = np.abs(self.inside.T @ weight - wanted).max(initial=0.0) < _TOLERANCE**0.5
        return np.abs(weight) if follows else None


def distinct(codes: Array, who: Array, many: int) -> Array:
    """How many different people each code has."""
    if not len(codes):
        return np.zeros(many, dtype=np.int64)
    pairs = np.unique(codes.astype(np.int64) * (int(who.max()) + 1) + who)
    return np.bincount(pairs // (int(who.max()) + 1), minlength=many)


def _cells(tables: Sequence[Partition], atoms: Array, size: Array) -> Iterator[tuple[Cell, Array]]:
    """The cells that need a row of their own, and the atoms that each holds."""
    held: dict[Cell, Array] = {}
    for one, codes in zip(tables, atoms.T, strict=True):
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(one.cells) + 1))
        for place, cell in enumerate(one.cells):
            if edges[place] < edges[place + 1]:
                held[cell] = order[edges[place] : edges[place + 1]].astype(np.int64)
    splits: dict[tuple[str, ...], list[Cell]] = {}
    for cell in held:
        if cell.split:
            splits.setdefault(cell[:4], []).append(cell)
    for parts in splits.values():
        row = held.get(parts[0]._replace(split="", part=""))
        if row is not None and sum(len(held[cell]) for cell in parts) == len(row):
            del held[max(parts, key=lambda cell: int(size[held[cell]].sum()))]
    yield from held.items()


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


def _unique_rows(codes: Array) -> tuple[Array, Array]:
    """The different rows, and for each row which it is."""
    name = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        name = np.unique(name * (int(column.max(initial=0)) + 2) + column + 1, return_inverse=True)[1]
    _, first, atom = np.unique(name, return_index=True, return_inverse=True)
    return codes[first], atom
