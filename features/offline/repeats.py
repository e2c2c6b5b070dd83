"""Calls with several records: which record makes the attempt known, and which the outcome.

The rule is in the glossary of the catalogue, under "repeat" and "tie". It does not depend on the order of records, and
`online/call_facts.py` follows it for a stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.codegen.compiled_library import shared_functions
from callsieve.features.kernel import windows
from callsieve.features.kernel.table_pass import LATE, PARTIES, SPARSE
from callsieve.features.kernel.windows import ATTEMPT_FACTS, END, FACTS, NEVER, NONE, START, TALK, WEEK

Texts = Callable[[Array], list[bytes] | list[str]]
"""Returns the tokens of some codes."""


@dataclass(frozen=True)
class Repeats:
    """The records of calls with more than one record.

    Attributes:
        rows: their rows, call by call; all other attributes have a value for each of them.
        call: number of the call, from 0, ascending.
        of_attempt, of_outcome: whether the record is among those that make the attempt or the outcome known first.
        is_end: whether the outcome is read from this record; at most one for each call.
    """

    rows: Array
    call: Array
    of_attempt: Array
    of_outcome: Array
    is_end: Array

    def settle_owners(self, records: Array, owners: Array, texts: Texts) -> None:
        """Gives all records of a call the block, trunk or device (`owners`) of its attempt.

        If the attempt has none, the record of the outcome has the one that came with the outcome, and the call counts
        there from its end on: that record becomes a late one.
        """
        codes = owners[self.rows]
        used = np.unique(codes[codes >= 0])
        calls = int(self.call[-1]) + 1
        if np.count_nonzero(self.of_attempt) > calls or np.count_nonzero(self.of_outcome) > calls:  # ties
            names = texts(used)
            used = used[sorted(range(len(used)), key=lambda i: names[i])]
        rank_of = np.full(int(used.max(initial=NONE)) + 2, len(used))  # the last element is that of NONE
        rank_of[used] = np.arange(len(used))
        attempt, outcome = (
            self._least(rank_of[codes], among, calls, len(used)) for among in (self.of_attempt, self.of_outcome)
        )
        used = np.append(used, NONE)
        late = self.is_end & (attempt[self.call] == len(used) - 1)
        owners[self.rows] = used[np.where(late, outcome[self.call], attempt[self.call])]
        rows = self.rows[late]
        rows = rows[(owners[rows] >= 0) & (records[rows, LATE] == NEVER)]
        records[rows, LATE] = records[rows, END]

    def _least(self, ranks: Array, among: Array, calls: int, missing: int) -> Array:
        least = np.full(calls, missing)
        np.minimum.at(least, self.call[among], ranks[among])
        return least


def settle_repeats(records: Array, tied: Array) -> Repeats | None:
    """Leaves each call one attempt and at most one outcome, in place; returns None if no call has several records.

    All records of a call get the facts of its attempt. Only the record that makes the outcome known first keeps its
    end.

    `records`: int64 (calls, `table_pass.RECORD`).
    """
    rows, call = repeated_rows(records, tied)
    if not len(rows):
        return None
    start, end, talk, facts = (records[rows, field] for field in (START, END, TALK, FACTS))
    is_late, is_over = records[rows, LATE] != NEVER, talk >= 0
    attempt_known, outcome_known = (np.where(is_late, records[rows, LATE], in_time) for in_time in (start, end))
    first = first_of_each(call, (attempt_known, is_over, facts & ATTEMPT_FACTS))
    of_attempt = (attempt_known == attempt_known[first][call]) & (is_over == is_over[first][call])
    counts = is_over & (outcome_known - start < WEEK)
    last = first_of_each(call, (~counts, outcome_known, end, talk, facts & ~ATTEMPT_FACTS))
    of_outcome, is_end = counts.copy(), np.zeros(len(rows), dtype=bool)
    for value in (outcome_known, end, talk):
        of_outcome &= value == value[last][call]
    is_end[last] = counts[last]
    records[rows, FACTS] = facts[first][call] & ATTEMPT_FACTS | facts & ~ATTEMPT_FACTS
    without = rows[~is_end]
    records[without, TALK], records[without, END] = windows.NONE, records[without, START]
    return Repeats(rows, call, of_attempt, of_outcome, is_end)


def repeated_rows(records: Array, tied: Array) -> tuple[Array, Array]:
    """Returns the rows of calls with several records, call by call, and the number of the call of each."""
    start, parties = records[tied, START], records[tied, PARTIES]
    several = tied_places(np.arange(len(tied)), start, parties)
    rows, start, parties = tied[several], start[several], parties[several]
    by_call = np.lexsort((parties, start))
    rows, start, parties = rows[by_call], start[by_call], parties[by_call]
    is_new = np.append(np.ones(min(1, len(rows)), dtype=bool), (np.diff(start) != 0) | (np.diff(parties) != 0))
    return rows, np.cumsum(is_new) - 1


def tied_places(order: Array, start: Array, keys: Array) -> Array:
    """Returns the places in `order`, ascending, of the calls that have start and key of another one.

    `start`, `keys`: int64 of shape (calls,).
    """
    flags = np.zeros(len(order), dtype=np.int32)
    slots = np.empty(max(SPARSE, 1 << (2 * len(order)).bit_length()), dtype=np.int32)
    shared_functions()["find_ties"](order=order, start=start, others=keys, flags=flags, slots=slots)
    return np.flatnonzero(flags != 0)  # integers take it three times as long


def first_of_each(call: Array, keys: tuple[Array, ...]) -> Array:
    """Returns for each call the index of its record with the smallest keys, the first key first."""
    order = np.lexsort((*reversed(keys), call))
    return order[np.flatnonzero(np.diff(call[order], prepend=-1))]
