"""Changes of the histories of block, trunk and device when calls arrive one by one. A part of the kernel.

A member that belongs to only one group has no record there, because its part of the sums equals the sums of its number.
"""

from __future__ import annotations

from callsieve.features.kernel.group_state import CALLS, count, count_member
from callsieve.features.kernel.table_pass import emit_out
from callsieve.features.kernel.windows import PAIR, SLOTS, STATE, SUMS, Ints

from .call_store import FIELDS, Memory
from .key_store import KeyStore


def count_event(
    kind: int, place: int, window: int, sign: int, key: int, member: int, calls_in: int, m: Memory, store: KeyStore
) -> None:
    """Adds an attempt (`kind` 0) or an outcome (1) to a window (`sign` 1) or removes it (-1)."""
    call = place * FIELDS
    count(kind, call, sign, store.state, key * STATE + SUMS + window * SLOTS, m.calls)
    left = calls_in
    if member > 0:
        own = member * PAIR + window * SLOTS
        count(kind, call, sign, store.pairs, own, m.calls)
        left = store.pairs[own + CALLS]
    if kind == 0:
        count_member(sign, left, store.state, key * STATE, window)


def emit_values(at: int, key: int, own: Ints, pair: int, facts: int, row: int, m: Memory, store: KeyStore) -> None:
    """Writes a group's values of a call into the vector, from `row` on; the caller's part begins at `pair` in `own`."""
    emit_out(at, store.state, key * STATE, m.calls, own, pair, facts, m.row, row)


def pair_offset(pair: int) -> int:
    """Returns where the record of a pair begins."""
    return pair * PAIR
