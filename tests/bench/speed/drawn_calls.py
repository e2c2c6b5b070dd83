"""Draws calls of plausible sizes and shapes for the benches; plausible people are in `callsieve.training.world`.

By default 25 calls a number over 14 days. The top 1 % of callers make half of the calls; they dial strangers, sometimes
two at once, and the others mostly the same few numbers. Times are whole seconds, as in records. So ties are common, and
an engine that treats them wrongly is detected.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from callsieve.features.records import (
    ATTESTATIONS,
    KEYED_CATEGORIES,
    KEYED_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    STEPS,
)

DAY, EAST_8 = 86_400, 8 * 3600
MONDAY = 1_699_804_800 - EAST_8
CALLS_PER_NUMBER, NUMBERS_PER_BLOCK, NUMBERS_PER_TRUNK, POOL = 25, 20, 1000, 32
HEAVY, POOLED, UNENDED, AT_ONCE = 0.01, 0.05, 0.01, 0.05
# A caller of rank r has weight (r + 5) ** -0.95: the first 1 % of 200,000 make half of the calls, the first 1.5 %.
FIRST_RANK, TAIL = 5, -0.95
BUSY_HOURS = np.array([1, 1, 1, 1, 1, 1, 2, 4, 9, 12, 12, 10, 7, 8, 10, 10, 10, 9, 8, 7, 6, 5, 3, 2], dtype=float)


def draw_calls(calls: int, seed: int, numbers: int | None = None, days: int = 14) -> pa.Table:
    """Returns a keyed table of `calls` rows in order of start, without repeats and late records."""
    rng = np.random.default_rng(seed)
    numbers = numbers or max(calls // CALLS_PER_NUMBER, 40)
    rank = rng.permutation(numbers)
    heavy = rank < HEAVY * numbers
    start, caller, callee = parties(rng, calls, numbers, rank, days)
    from_heavy, has_end = heavy[caller], rng.random(calls) >= UNENDED
    answered = has_end & (rng.random(calls) < np.where(from_heavy, 0.35, 0.65))
    talk = np.where(answered, 1 + rng.exponential(np.where(from_heavy, 25, 90)).astype(np.int64), 0)
    other = rng.choice(len(OUTCOMES), calls, p=[0, 0.6, 0.12, 0.12, 0.01, 0.08, 0.04, 0.01, 0.02])
    outcome = np.where(has_end, np.where(answered, 0, other), OUTCOMES.index("unknown"))
    local = start + EAST_8
    kind = np.where(heavy, NUMBER_CLASSES.index("95_call_centre"), NUMBER_CLASSES.index("mobile"))
    of_caller = group_columns(rng, numbers)
    codes = {
        "outcome": outcome,
        "released_by": np.where(has_end, rng.integers(0, 3, calls), RELEASED_BY.index("unknown")),
        "caller_class": kind[caller],
        "callee_class": kind[callee],
        "attestation": rng.integers(0, len(ATTESTATIONS), calls),
        "route": rng.integers(0, len(ROUTES), calls),
        "step": rng.choice(len(STEPS), calls, p=[0.2, 0.02, 0.08, 0.7]),
    }
    names = tokens(rng, numbers)
    columns = {
        "start": pa.array(1000 * start),
        "caller": pa.DictionaryArray.from_arrays(pa.array(caller.astype(np.int32)), names),
        "callee": pa.DictionaryArray.from_arrays(pa.array(callee.astype(np.int32)), names),
        "ring": pa.array(1000 * rng.integers(1, 31, calls), mask=~has_end),
        "talk": pa.array(1000 * talk, mask=~has_end),
        "recorded": pa.nulls(calls, pa.int64()),
        "hour": pa.array((local // 3600 % 24).astype(np.int8)),
        "day": pa.array((local // DAY).astype(np.int32)),
        "same_region": pa.array(rng.integers(0, 2, calls).astype(np.int8), mask=rng.random(calls) < 0.1),
        "shared_prefix": pa.array(rng.integers(0, 8, calls).astype(np.int8)),
        "presented_differs": pa.array((rng.random(calls) < 0.01).astype(np.int8)),
    }
    columns |= {name: coded(column, KEYED_CATEGORIES[name]) for name, column in codes.items()}
    for name, (group, of_number) in of_caller.items():
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(of_number[caller].astype(np.int32)), group)
    return pa.table({name: columns[name] for name in KEYED_COLUMNS})


def parties(rng, calls, numbers, rank, days):
    """Returns start (Unix seconds), caller and callee of each call, in order of start and without repeats."""
    weight = (np.arange(numbers) + FIRST_RANK) ** TAIL
    order = np.argsort(rank)
    caller = order[rng.choice(numbers, calls, p=weight / weight.sum())]
    hours = np.tile(BUSY_HOURS, days)
    start = MONDAY + 3600 * rng.choice(len(hours), calls, p=hours / hours.sum()) + rng.integers(0, 3600, calls)
    start = with_bursts(rng, start, caller, rank < HEAVY * numbers)
    friend = (caller * 40_503 + 7919 * rng.geometric(0.2, calls)) % numbers
    knows = rng.random(calls) < np.where(rank[caller] < HEAVY * numbers, 0.05, 0.7)
    callee = np.where(knows, friend, rng.integers(0, numbers, calls))
    callee = np.where(callee == caller, (callee + 1) % numbers, callee)
    while len(repeated := repeats(start, caller, callee, numbers)):
        start[repeated] += 1
    order = np.argsort(start, kind="stable")
    return start[order], caller[order], callee[order]


def with_bursts(rng, start, caller, heavy):
    """Returns starts in which some calls of heavy callers start together with the call before."""
    order = np.lexsort((start, caller))
    first, second = order[:-1], order[1:]
    burst = (caller[first] == caller[second]) & heavy[caller[first]] & (rng.random(len(first)) < AT_ONCE)
    start = start.copy()
    start[second[burst]] = start[first[burst]]
    return start


def repeats(start, caller, callee, numbers):
    """Returns the rows that repeat the start, caller and callee of another row."""
    key = ((start - MONDAY) * numbers + caller) * numbers + callee
    order = np.argsort(key, kind="stable")
    return order[1:][np.diff(key[order]) == 0]


def group_columns(rng, numbers):
    """Returns the tokens of blocks, trunks, operators, devices and places, and the group of each number."""
    number = np.arange(numbers)
    pooled = int(POOLED * numbers)
    device = np.where(number < pooled, number // POOL, number)
    sizes = {
        "caller_block": number // NUMBERS_PER_BLOCK,
        "trunk": number // NUMBERS_PER_TRUNK,
        "operator": number % 3,
        "device": np.unique(device, return_inverse=True)[1],
        "place": number % 300,
    }
    return {name: (tokens(rng, int(group.max()) + 1), group) for name, group in sizes.items()}


def tokens(rng, count):
    """Returns random tokens in the form of `features.keys.tokens`."""
    letters = rng.integers(ord("a"), ord("p") + 1, (count, 35), dtype=np.uint8)
    letters[:, :3] = np.frombuffer(b"e1.", dtype=np.uint8)
    offsets = np.arange(0, 35 * count + 1, 35, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(letters.tobytes()))


def coded(codes, words):
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(words))
