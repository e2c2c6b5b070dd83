"""What the windows of a block, a trunk or a device hold: the calls of its members, in all and of each member.

The second part of the kernel (see `windows.py`), for keys that numbers share. Streams: 0 attempts, 1 outcomes. A pair
is (key, member) and holds the member's own part of every sum, so that a call can be told of the others alone.
"""

from __future__ import annotations

from .windows import FIELDS, NONE, OUTCOME_BITS, SLOTS, SUMS, Ints, Parties, end_of, facts_of, start_of, talk_of

CALLS = MEMBERS = NONE


def add_attempts(facts: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add_outcomes(facts: int, outcome: int, ring: int, talk: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add(node: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, parties: Parties) -> None:
    """Let one event into a window (`sign` 1) or out of it (-1)."""
    own = parties[node >> 1] + window * SLOTS
    count(node & 1, (node >> 1) * FIELDS, sign, pairs, own, calls)
    count(node & 1, (node >> 1) * FIELDS, sign, state, base + SUMS + window * SLOTS, calls)
    if node & 1 == 0:
        count_member(sign, pairs[own + CALLS], state, base, window)


def count(stream: int, call: int, sign: int, sums: Ints, at: int, calls: Ints) -> None:
    """Count one event in the sums of a window that stand at a place (`sign` 1), or no more (-1)."""
    facts = facts_of(call, calls)
    if stream == 0:
        add_attempts(facts, sign, sums, at)
    else:
        talk = talk_of(call, calls)
        ring = end_of(call, calls) - start_of(call, calls) - talk
        add_outcomes(facts, facts & OUTCOME_BITS, ring, talk, sign, sums, at)


def count_member(sign: int, left: int, state: Ints, base: int, window: int) -> None:
    """A member has so many calls in a window now: with its first one it comes, with its last one it goes."""
    if MEMBERS >= 0 and left == max(sign, 0):
        state[base + SUMS + window * SLOTS + MEMBERS] += sign
