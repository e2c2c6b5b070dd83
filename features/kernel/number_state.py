"""What the windows of a number hold: its calls out and in, and whom they joined.

The second part of the kernel (see `windows.py`). Streams: 0 attempts going out, 1 their outcomes, 2 attempts coming in,
3 their outcomes. Places in capitals are set by the layout of a program; NONE means that no feature needs the thing.
"""

from __future__ import annotations

import math

from .windows import (
    ANSWERED,
    BEGUN,
    DAY,
    DAY_MS,
    DAY_SHIFT,
    END_PLACES,
    ENDS,
    FIELDS,
    HOUR,
    HOUR_BITS,
    HOUR_SHIFT,
    NONE,
    OUTCOME_BITS,
    OVER,
    RETURNED_BIT,
    SLOTS,
    SUMS,
    TAIL,
    WINDOWS,
    Ints,
    Parties,
    end_of,
    facts_of,
    grow,
    linked,
    mark,
    put,
    start_of,
    talk_of,
    time_of,
)

SHORT_GAP_MS = 10_000
GAP_BIN_COUNT, TALK_BIN_COUNT = 20, 12
DAYS_KEPT = 28
LOG_UNIT = float(1 << 32)
FORTNIGHT = 14
# What `logs` gives of counts that an hour of the day mostly has.
FEW = 128
LOGS = (0, *(math.floor(count * math.log2(count) * LOG_UNIT + 0.5) for count in range(1, FEW)))
# Weights of a decayed sum, in units of 2^-32: twice as much each fortnight, so that exact integers can be kept.
WEIGHTS = tuple(round(2 ** (32 + day / FORTNIGHT)) for day in range(FORTNIGHT))

# A pair (number, other number): calls out for each window, calls out that were answered in the widest, and the same of
# the other way. A pair of eight places begins where eight are full, so what one party finds at `pair ^ place` the other
# one finds at `pair ^ PAIR_IN ^ place`.
PAIR_OUT, PAIR_ANSWERED, PAIR_IN = 0, 3, 4
PAIR_SIZE = 8

# Sums kept by hand, and one that is read by its name.
CALLS = NONE
CALLEES = RETURNING_CALLEES = MUTUAL_CALLEES = CALLEE_SQUARES = IN_CALLERS = NONE
GAPS = GAP_SQUARES = SHORT_GAPS = RETURNED = NONE
# What is kept beside the windows: calls in the air; histograms of the last 7 days (hour of day, day, gaps, talk); bits
# of the days with calls; decayed sums.
IN_AIR = HOURS = HOUR_LOGS = DAYS = GAP_BINS = TALK_BINS = OUT_DAYS = IN_DAYS = CALL_RING = NONE


def add_out_attempts(facts: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add_out_outcomes(facts: int, outcome: int, ring: int, talk: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add_in_attempts(facts: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def add_in_outcomes(facts: int, outcome: int, ring: int, talk: int, sign: int, sums: Ints, at: int) -> None:
    """Written by `program.py`."""


def log_bin(seconds: int, bins: int) -> int:
    """Bin b holds 2^b - 1 up to 2^(b + 1) - 2 seconds."""
    return min(math.frexp(float(seconds + 1))[1], bins) - 1


def logs(count: int) -> int:
    """count * log2(count) in units of 2^-32, rounded, so that sums of it are exact."""
    if count < FEW:
        return LOGS[count]
    return int(math.floor(count * math.log2(count) * LOG_UNIT + 0.5)) if count > 1 else 0  # noqa: RUF046 - Numba's is a float


def returning(pairs: Ints, pair: int, window: int) -> int:
    """1 if the callee was called both in the window and in the 7 days before it began."""
    return 1 if 0 < pairs[pair ^ window] < pairs[pair ^ 2] else 0


def count_out(window: int, sign: int, state: Ints, base: int, pairs: Ints, pair: int) -> None:
    """One call more (or less) to this callee in this window."""
    before = pairs[pair ^ window]
    if RETURNING_CALLEES >= 0:
        # The widest window holds the narrower ones, so a change of it moves what counts as returning in both.
        first = 0 if window == 2 else window
        last = 1 if window == 2 else window
        for w in range(first, last + 1):
            state[base + SUMS + w * SLOTS + RETURNING_CALLEES] -= returning(pairs, pair, w)
        pairs[pair ^ window] = before + sign
        for w in range(first, last + 1):
            state[base + SUMS + w * SLOTS + RETURNING_CALLEES] += returning(pairs, pair, w)
    else:
        pairs[pair ^ window] = before + sign
    slot = base + SUMS + window * SLOTS
    if CALLEE_SQUARES >= 0:
        grow(state, slot + CALLEE_SQUARES, 2 * before * sign + 1)
    if before == 0 or before + sign == 0:
        if CALLEES >= 0:
            state[slot + CALLEES] += sign
        if MUTUAL_CALLEES >= 0 and pairs[pair ^ PAIR_IN ^ window] > 0:
            state[slot + MUTUAL_CALLEES] += sign


def count_in(window: int, sign: int, state: Ints, base: int, pairs: Ints, pair: int) -> None:
    """One call more (or less) from this caller in this window."""
    before = pairs[pair ^ PAIR_IN ^ window]
    pairs[pair ^ PAIR_IN ^ window] = before + sign
    if before == 0 or before + sign == 0:
        slot = base + SUMS + window * SLOTS
        if IN_CALLERS >= 0:
            state[slot + IN_CALLERS] += sign
        if MUTUAL_CALLEES >= 0 and pairs[pair ^ window] > 0:
            state[slot + MUTUAL_CALLEES] += sign


def add(node: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, parties: Parties) -> None:
    """Let one event into a window (`sign` 1) or out of it (-1)."""
    count(node & 3, (node >> 2) * FIELDS, window, sign, state, base, calls, pairs, parties[node >> 1])


def count(
    stream: int, call: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, pair: int
) -> None:
    """Count one event in a window (`sign` 1), or no more (-1)."""
    facts = facts_of(call, calls)
    slot = base + SUMS + window * SLOTS
    if stream == 0:
        add_out_attempts(facts, sign, state, slot)
        count_out(window, sign, state, base, pairs, pair)
        if window == 2:
            if HOURS >= 0:
                hour = base + HOURS + (facts >> HOUR_SHIFT & HOUR_BITS)
                if HOUR_LOGS >= 0:
                    grow(state, base + HOUR_LOGS, logs(state[hour] + sign) - logs(state[hour]))
                state[hour] += sign
            if DAYS >= 0:
                state[base + DAYS + (facts >> DAY_SHIFT & 7)] += sign
        elif IN_AIR >= 0 and window == 1 and not facts >> OVER & 1:
            state[base + IN_AIR] += sign
        return
    if stream == 2:
        add_in_attempts(facts, sign, state, slot)
        count_in(window, sign, state, base, pairs, pair)
        return
    outcome = facts & OUTCOME_BITS
    talk = talk_of(call, calls)
    ring = end_of(call, calls) - start_of(call, calls) - talk
    if stream == 3:
        add_in_outcomes(facts, outcome, ring, talk, sign, state, slot)
        return
    add_out_outcomes(facts, outcome, ring, talk, sign, state, slot)
    if RETURNED >= 0 and facts >> RETURNED_BIT & 1:
        state[slot + RETURNED] += sign
    if window == 2 and outcome == ANSWERED:
        pairs[pair ^ PAIR_ANSWERED] += sign
        if TALK_BINS >= 0:
            state[base + TALK_BINS + log_bin(talk // 1000, TALK_BIN_COUNT)] += sign


def add_gap(gap: int, window: int, sign: int, state: Ints, base: int) -> None:
    """The time between two neighbouring outgoing calls that are both in the window."""
    slot = base + SUMS + window * SLOTS
    if GAPS >= 0:
        grow(state, slot + GAPS, sign * gap)
    if GAP_SQUARES >= 0:
        grow(state, slot + GAP_SQUARES, sign * gap * gap)
    if SHORT_GAPS >= 0 and gap < SHORT_GAP_MS:
        state[slot + SHORT_GAPS] += sign
    if GAP_BINS >= 0 and window == 2:
        state[base + GAP_BINS + log_bin(gap // 1000, GAP_BIN_COUNT)] += sign


def join(time: int, before: int, after: int, edge: int, window: int, state: Ints, base: int, calls: Ints) -> None:
    """A call came between two neighbours: one gap becomes two."""
    later = start_of((after >> 2) * FIELDS, calls) if after >= 0 else time
    if before >= 0:
        earlier = start_of((before >> 2) * FIELDS, calls)
        if earlier >= edge:
            add_gap(time - earlier, window, 1, state, base)
            if after >= 0:
                add_gap(later - earlier, window, -1, state, base)
    if after >= 0:
        add_gap(later - time, window, 1, state, base)


def part(node: int, following: int, window: int, state: Ints, base: int, calls: Ints) -> None:
    """A call left the window: so does the gap to the next one."""
    gap = start_of((following >> 2) * FIELDS, calls) - start_of((node >> 2) * FIELDS, calls)
    add_gap(gap, window, -1, state, base)


def notice(stream: int, call: int, clock: int, state: Ints, base: int, calls: Ints) -> None:
    """Mark the day of an attempt; an outgoing call that is over is no longer in the air."""
    if stream == 0:
        mark(call, BEGUN, calls)
    if stream == 1:
        mark(call, OVER, calls)
        if IN_AIR >= 0 and start_of(call, calls) >= clock - DAY_MS:
            state[base + IN_AIR] -= 1
    elif stream != 3:
        mark_day(stream, facts_of(call, calls) >> DAY_SHIFT, state, base)


def mark_day(stream: int, day: int, state: Ints, base: int) -> None:
    """An attempt on a local day, today or earlier."""
    if DAY < 0:
        return
    turn(day, state, base)
    ago = state[base + DAY] - day
    days = OUT_DAYS if stream == 0 else IN_DAYS
    if days >= 0 and ago < DAYS_KEPT:
        state[base + days] |= 1 << ago
    fortnight = day // FORTNIGHT
    if stream == 0 and CALL_RING >= 0 and fortnight > state[base + DAY] // FORTNIGHT - 4:
        grow(state, base + CALL_RING + 2 * (fortnight & 3), WEIGHTS[day % FORTNIGHT])


def turn(day: int, state: Ints, base: int) -> None:
    """A local day has begun: days move on, and the oldest fortnight makes room for a new one."""
    if DAY < 0:
        return
    passed = day - state[base + DAY]
    if passed <= 0:
        return
    kept = min(passed, DAYS_KEPT)
    if OUT_DAYS >= 0:
        state[base + OUT_DAYS] = state[base + OUT_DAYS] << kept & (1 << DAYS_KEPT) - 1
    if IN_DAYS >= 0:
        state[base + IN_DAYS] = state[base + IN_DAYS] << kept & (1 << DAYS_KEPT) - 1
    if CALL_RING >= 0:
        begun = state[base + DAY] // FORTNIGHT
        for fortnight in range(begun + 1, min(day // FORTNIGHT, begun + 4) + 1):
            put(state, base + CALL_RING + 2 * (fortnight & 3), 0)
    state[base + DAY] = day


def settle(
    node: int, time: int, clock: int, state: Ints, base: int, calls: Ints, links: Ints, parties: Parties
) -> None:
    """Find the missed calls that their callee returned within an hour; whichever of the two became known last."""
    if RETURNED < 0:
        return
    stream = node & 3
    if stream == 1:
        outcome = facts_of((node >> 2) * FIELDS, calls) & OUTCOME_BITS
        if 0 < outcome < 4:
            other = state[base + ENDS + END_PLACES * 2 + TAIL]
            later = NONE
            while other >= 0 and time_of(other, calls) > time:
                if time_of(other, calls) <= time + HOUR and same_party(node, other, parties):
                    give_back(node, clock, state, base, calls)
                    return
                earlier = links[linked(other)] ^ later
                later = other
                other = earlier
    elif stream == 2:
        other = state[base + ENDS + END_PLACES + TAIL]
        later = NONE
        while other >= 0 and time_of(other, calls) >= time - HOUR:
            facts = facts_of((other >> 2) * FIELDS, calls)
            if (
                time_of(other, calls) < time
                and 0 < (facts & OUTCOME_BITS) < 4
                and not facts >> RETURNED_BIT & 1
                and same_party(other, node, parties)
            ):
                give_back(other, clock, state, base, calls)
            earlier = links[linked(other)] ^ later
            later = other
            other = earlier


def same_party(outgoing: int, incoming: int, parties: Parties) -> bool:
    """Whether an event of a call that went out and one of a call that came in have the same other party."""
    return bool(parties[outgoing >> 1] == parties[incoming >> 1])


def give_back(node: int, clock: int, state: Ints, base: int, calls: Ints) -> None:
    """A missed call was returned: count it in every window that holds it."""
    mark((node >> 2) * FIELDS, RETURNED_BIT, calls)
    for window in range(3):
        if time_of(node, calls) >= clock - WINDOWS[window]:
            state[base + SUMS + window * SLOTS + RETURNED] += 1
