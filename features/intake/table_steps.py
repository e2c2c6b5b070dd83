"""The dialling distances of a whole table: `dials.dial` for all of its calls, as columns.

The calls of each caller are sorted by the time at which they became known. A call's rank is its place among all calls
by caller, start and callee. So the running maximum of the ranks is the latest call that was known at each place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from callsieve.features.arrays import Ints
from callsieve.features.records import UNKNOWN

from .number_cache import NumberCache, as_columns
from .number_memory import NumberMemory

Distance = Callable[[Ints, Ints], Ints]
FIRST = np.iinfo(np.int64).min


def dial_all(
    memory: NumberMemory,
    numbers: NumberCache,
    times: tuple[Ints, Ints],
    caller: Ints,
    callee: Ints,
    distance: Distance,
) -> Ints:
    """Returns the step of each call, and remembers the calls, like `NumberMemory.dial` in the order of becoming known.

    A repeated record of a call has the step of its first record.

    Args:
        times: start and when the call became known, Unix ms, shape (calls,).
        caller, callee: ids of `numbers`.
        distance: returns the steps between numbers, from two arrays of ids; UNKNOWN is no number.
    """
    (start, known), facts = times, numbers.facts()
    steps = np.full(len(start), UNKNOWN, dtype=np.int64)
    rows = np.argsort(known, kind="stable")
    rows = rows[facts["withheld"][caller[rows]] == 0]
    tokens = facts["token"][caller[rows]]
    order = _stable_order(tokens)
    last = rows[np.sort(order[_ends(tokens[order])])]  # of each caller, in order of their last calls
    callers = facts["token"][caller[last]]
    remembered = _remembered(memory, numbers, caller[last], callers)
    if remembered is None:  # callers may be forgotten on the way: only single steps are exact
        for row in rows.tolist():
            pair = numbers.numbers[caller[row]], numbers.numbers[callee[row]]
            steps[row] = memory.dial(*pair, int(start[row]), int(known[row]))
        return steps
    rows = rows[order]
    calls = tokens[order], callee[rows], start[rows], known[rows]
    steps[rows], after = _dialled(numbers, callers, remembered, calls, distance)
    numbers.last_dialled.put(callers, after)
    return steps


def _remembered(memory: NumberMemory, numbers: NumberCache, ids: Ints, callers: Ints) -> Ints | None:
    """Returns what is remembered of each caller, as `LastDialled.get` does; None if there is no room for all.

    Args:
        ids, callers: the callers, as ids and as codes of their tokens.
    """
    dials = numbers.last_dialled.get(callers)
    new = np.flatnonzero(dials[0, 0] == UNKNOWN)  # not remembered from a table, but perhaps from single calls
    from_calls = memory.last_dialled(numbers.numbers[number].token for number in ids[new].tolist())
    new_callers = from_calls.count(None)
    if not memory.has_room(new_callers):
        return None
    numbers.last_dialled.new_callers += new_callers
    dials[:, :, new] = as_columns(from_calls, numbers.ids_of)
    return dials


def _dialled(
    numbers: NumberCache, callers: Ints, remembered: Ints, calls: tuple[Ints, ...], distance: Distance
) -> tuple[Ints, Ints]:
    """Returns the steps of the calls, and what to remember of the callers, as `LastDialled.put` takes it.

    Args:
        callers: codes of the callers' tokens.
        remembered: what is remembered of them, as `LastDialled.get` returns it.
        calls: caller, callee, start, known of each call, sorted by caller and then by `known`.
    """
    # The remembered calls come first: the settled ones, then the fresh ones.
    old = [np.vstack((callers, remembered[:, slot]))[:, remembered[0, slot] != UNKNOWN] for slot in (1, 0)]
    new = np.vstack((*calls, np.full(len(calls[0]), UNKNOWN)))
    caller, callee, start, known, step = np.concatenate((*old, new), axis=1)
    settled, olds = old[0].shape[1], len(caller) - len(calls[0])
    newest = np.full(int(caller.max(initial=-1)) + 1, FIRST)
    newest[caller[settled:olds]] = known[settled:olds]
    is_behind = known < newest[caller]  # known before the fresh call that is remembered
    moment = known.copy()
    moment[:settled] = FIRST
    order = np.argsort(moment, kind="stable")
    order = order[_stable_order(caller[order])]
    same_caller = caller[order[1:]] == caller[order[:-1]]
    originals, by_rank = None, order
    if np.any(same_caller & (start[order[1:]] <= start[order[:-1]])):
        originals, by_rank = _rank(numbers, caller, callee, start)
        order = order[originals[order] == order]
    rank = np.empty(len(caller), dtype=np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    most = np.maximum.accumulate(rank[order])
    place = np.arange(len(order))
    starts_group = np.ones(len(order), dtype=np.bool_)
    starts_group[1:] = (caller[order[1:]] != caller[order[:-1]]) | (moment[order[1:]] != moment[order[:-1]])
    group = np.maximum.accumulate(np.where(starts_group, place, 0))
    is_new = order >= olds
    rows, at = order[is_new], np.where(is_behind[order], place, group)[is_new] - 1
    before = by_rank[most[at]]
    is_before = (at >= 0) & (caller[before] == caller[rows])
    is_before &= (start[before] < start[rows]) & (known[before] < start[rows])
    step[rows] = distance(np.where(is_before, callee[before], UNKNOWN), callee[rows])
    if originals is not None:
        step = step[originals]
    ends = _ends(caller[order])
    ends = ends[np.searchsorted(caller[order[ends]], callers)]
    fresh = by_rank[np.maximum.reduceat(rank[order], np.flatnonzero(starts_group))[np.cumsum(starts_group)[ends] - 1]]
    earlier = by_rank[most[group[ends] - 1]]
    has_earlier = (group[ends] > 0) & (caller[earlier] == callers)
    places = np.stack((fresh, earlier))
    ids = np.where(np.stack((np.ones_like(has_earlier), has_earlier)), callee[places], UNKNOWN)
    return step[olds:], np.stack((ids, start[places], known[places], step[places]))


def _rank(numbers: NumberCache, caller: Ints, callee: Ints, start: Ints) -> tuple[Ints, Ints]:
    """Returns the first record of each call, and the order of calls by caller, start and the callee's token."""
    order = np.argsort(start, kind="stable")
    order = order[_stable_order(caller[order])]
    same = (caller[order[1:]] == caller[order[:-1]]) & (start[order[1:]] == start[order[:-1]])
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    rows = order[tied]
    codes, token = np.unique(numbers.facts()["token"][callee[rows]], return_inverse=True)
    texts, place = list(numbers.tokens), np.zeros(len(codes), dtype=np.int64)
    place[sorted(range(len(codes)), key=lambda code: texts[codes[code]])] = np.arange(len(codes))
    order[tied] = rows = rows[np.lexsort((place[token], start[rows], caller[rows]))]
    token = numbers.facts()["token"][callee[rows]]
    again = (caller[rows[1:]] == caller[rows[:-1]]) & (start[rows[1:]] == start[rows[:-1]]) & (token[1:] == token[:-1])
    first = np.arange(len(rows))
    first[1:][again] = 0
    originals = np.arange(len(order))
    originals[rows] = rows[np.maximum.accumulate(first)]
    return originals, order


def _ends(keys: Ints) -> Ints:
    """Returns the last index of each run of equal keys."""
    return np.flatnonzero(np.append(keys[1:] != keys[:-1], np.ones(min(1, len(keys)), dtype=np.bool_)))


def _stable_order(keys: Ints) -> Ints:
    """Returns the stable sort order of 32-bit keys, in two passes of 16 bits: NumPy's radix sort makes that three times
    as fast.
    """
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    return order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]
