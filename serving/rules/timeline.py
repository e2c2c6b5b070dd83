"""Rows of a register as of a moment: what held then, as far as it was known before.

A row holds from `valid_from` until `valid_to`, that moment not included, and counts at moments after `known_at`. Of
those with the same key and `valid_from`, the one known last takes the place of the others: so is a row corrected, or
given an end. Of the rows of a key that hold at one moment the one with the latest `valid_from` counts.

Questions are always about "now, as known now", so a key's rows come down to a step function of one time: at each of a
few moments the answer changes. `step_function` makes it; a look-up online is a bisection, an as-of join offline
a `merge_asof`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

NEVER = 1 << 62
NO_ROW = -NEVER


class Span(NamedTuple):
    """When a row holds, and since when it is known: Unix milliseconds; `valid_to` is NEVER for no end known."""

    valid_from: int
    valid_to: int
    known_at: int


StepFunction = tuple[tuple[int, ...], tuple[int, ...]]


def step_function(rows: Iterable[tuple[int, Span]]) -> StepFunction:
    """The moments at which the answer changes, and the answer from each of them on.

    An answer is the place of the row in effect; where none is but some were, `~place` of the one that counted last by
    its `valid_from`; NOTHING before any is known.

    Args:
        rows: of one key, each with its place in the register; a place is a name and orders nothing but equal rows.

    >>> steps([(7, Span(10, 20, 5))])
    ((10, 20), (7, -8))
    """
    told = list(rows)
    if len(told) == 1:
        return _of_one(*told[0])
    entries = sorted((max(span.known_at + 1, span.valid_from), span.known_at, place, span) for place, span in told)
    moments = sorted({moment for entry in entries for moment in (entry[0], entry[3].valid_to) if moment < NEVER})
    newest: dict[int, tuple[int, Span]] = {}
    holding: list[int] = []  # a heap of the negative `valid_from` of rows in effect, ended ones among them
    found: list[tuple[int, int]] = []
    latest, taken = -NEVER, 0
    for moment in moments:
        while taken < len(entries) and entries[taken][0] <= moment:
            _, _, place, span = entries[taken]
            taken += 1
            newest[span.valid_from] = place, span  # of one beginning they come as they were known
            heappush(holding, -span.valid_from)
            latest = max(latest, span.valid_from)
        while holding and newest[-holding[0]][1].valid_to <= moment:
            heappop(holding)
        answer = newest[-holding[0]][0] if holding else ~newest[latest][0] if taken else NO_ROW
        if answer != (found[-1][1] if found else NO_ROW):
            found.append((moment, answer))
    return tuple(moment for moment, _ in found), tuple(answer for _, answer in found)


def as_of(known: StepFunction | None, at: int) -> int:
    """The answer at a moment."""
    if known is None:
        return NO_ROW
    place = bisect_right(known[0], at) - 1
    return known[1][place] if place >= 0 else NO_ROW


def timelines(keys: Iterable[str], spans: Iterable[Span]) -> Mapping[str, StepFunction]:
    """The steps of each key of a register, whose rows come in order of their places."""
    grouped: dict[str, list[tuple[int, Span]]] = {}
    for place, (key, span) in enumerate(zip(keys, spans, strict=True)):
        grouped.setdefault(key, []).append((place, span))
    return {key: step_function(rows) for key, rows in grouped.items()}


def _of_one(place: int, span: Span) -> StepFunction:
    begin = max(span.valid_from, span.known_at + 1)
    if span.valid_to <= begin:
        return (begin,), (~place,)
    return ((begin, span.valid_to), (place, ~place)) if span.valid_to < NEVER else ((begin,), (place,))
