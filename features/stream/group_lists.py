"""What calls that come one by one do to the histories of the block, the trunk and the device that they come from.

A member that is in one group alone has no record of its own: what it has told is what its number has told.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.group_state import CALLS, count, count_member
from callsieve.features.kernel.table_pass import emit_out
from callsieve.features.kernel.windows import PAIR, SLOTS, STATE, SUMS, Ints

from .call_store import FIELDS, Memory
from .key_store import Book


def add(
    kind: int, place: int, window: int, sign: int, key: int, member: int, calls_in: int, m: Memory, book: Book
) -> None:
    """Let an attempt (`kind` 0) or an outcome (1) into a window (`sign` 1) or out of it (-1).

    `member` is the caller's record, 0 if it has none; it has `calls_in` calls in that window then.
    """
    call = place * FIELDS
    count(kind, call, sign, book.state, key * STATE + SUMS + window * SLOTS, m.calls)
    left = calls_in
    if member > 0:
        own = member * PAIR + window * SLOTS
        count(kind, call, sign, book.pairs, own, m.calls)
        left = book.pairs[own + CALLS]
    if kind == 0:
        count_member(sign, left, book.state, key * STATE, window)


def tell(at: int, key: int, own: Ints, pair: int, facts: int, out: Any, row: int, m: Memory, book: Book) -> None:
    """Write what a group tells of a call, from `row` on; the caller's own part stands in `own` from `pair` on."""
    emit_out(at, book.state, key * STATE, m.calls, own, pair, facts, out, row)


def place_of(pair: int) -> int:
    """Where a record begins."""
    return pair * PAIR
