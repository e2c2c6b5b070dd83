"""What the windows of a block, a trunk or a device hold: the calls of its members, in all and of each member.

The second part of the kernel (see `windows.py`), for keys that numbers share. Streams: 0 attempts, 1 outcomes. A pair
is (key, member) and holds the member's own part of every sum, so that a call can be told of the others alone.
"""

from __future__ import annotations

from .windows import FACTS, FIELDS, NONE, OUTCOME_BITS, SLOTS, SUMS, TALK, Ints

CALLS = MEMBERS = NONE


def add_attempts(facts: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add_outcomes(facts: int, outcome: int, ring: int, talk: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add(node: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, pair_of: Ints) -> None:
    """Let one event into a window (`sign` 1) or out of it (-1)."""
    call = (node >> 1) * FIELDS
    facts = calls[call + FACTS]
    slot = base + SUMS + window * SLOTS
    own = pair_of[node >> 1] + window * SLOTS
    if node & 1 == 0:
        add_attempts(facts, sign, state, slot)
        add_attempts(facts, sign, pairs, own)
        if MEMBERS >= 0 and pairs[own + CALLS] == max(sign, 0):  # the first call in, or the last one out
            state[slot + MEMBERS] += sign
    else:
        outcome = facts & OUTCOME_BITS
        talk = calls[call + TALK]
        ring = calls[call + 1] - calls[call] - talk
        add_outcomes(facts, outcome, ring, talk, sign, state, slot)
        add_outcomes(facts, outcome, ring, talk, sign, pairs, own)
