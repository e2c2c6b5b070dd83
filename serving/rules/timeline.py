"""Register rows over time: which row of a key was in effect at a moment, as known at that moment.

A row is in effect from `valid_from` until just before `valid_to`. It counts only after `known_at`. Several rows of one
key may have the same `valid_from`: the row that became known last replaces the others. This is how a row is corrected
or ended. If several rows of a key are in effect, the row with the latest `valid_from` counts.

A look-up always asks for "now, as known now". So the rows of a key reduce to a step function of one time, which
`step_function` builds. A look-up online is a bisection; an as-of join offline is a `merge_asof`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

NEVER = 1 << 62
NO_ROW = -NEVER
"""The value before any row of the key is known."""


class Span(NamedTuple):
    """When a row is in effect, and since when it is known: Unix ms. `valid_to` is NEVER without a known end."""

    valid_from: int
    valid_to: int
    known_at: int


StepFunction = tuple[tuple[int, ...], tuple[int, ...]]
"""The moments (Unix ms) at which the answer changes, and the answer from each moment on."""


def step_function(rows: Iterable[tuple[int, Span]]) -> StepFunction:
    """Builds the step function of one key.

    An answer is the index of the row in effect. If no row is in effect but one was, the answer is `~index` of the row
    with the latest `valid_from`. Before any row is known, the answer is NO_ROW.

    Args:
        rows: the rows of the key, each with its index in the register. Indexes order only rows with equal spans.

    >>> step_function([(7, Span(10, 20, 5))])
    ((10, 20), (7, -8))
    """
    rows = list(rows)
    if len(rows) == 1:
        return _single_row(*rows[0])
    pending = sorted((max(span.known_at + 1, span.valid_from), span.known_at, index, span) for index, span in rows)
    moments = sorted({moment for entry in pending for moment in (entry[0], entry[3].valid_to) if moment < NEVER})
    newest: dict[int, tuple[int, Span]] = {}  # by valid_from: the row that became known last
    in_effect: list[int] = []  # heap of negative `valid_from`; may still contain rows that have ended
    steps: list[tuple[int, int]] = []
    latest, taken = -NEVER, 0
    for moment in moments:
        while taken < len(pending) and pending[taken][0] <= moment:
            _, _, index, span = pending[taken]
            taken += 1
            newest[span.valid_from] = index, span  # rows with equal `valid_from` come in the order of `known_at`
            heappush(in_effect, -span.valid_from)
            latest = max(latest, span.valid_from)
        while in_effect and newest[-in_effect[0]][1].valid_to <= moment:
            heappop(in_effect)
        answer = newest[-in_effect[0]][0] if in_effect else ~newest[latest][0] if taken else NO_ROW
        if answer != (steps[-1][1] if steps else NO_ROW):
            steps.append((moment, answer))
    return tuple(moment for moment, _ in steps), tuple(answer for _, answer in steps)


def as_of(steps: StepFunction | None, at: int) -> int:
    """Returns the answer of a step function at a moment (Unix ms); NO_ROW for a key without rows."""
    if steps is None:
        return NO_ROW
    moments, answers = steps
    index = bisect_right(moments, at) - 1
    return answers[index] if index >= 0 else NO_ROW


def timelines(keys: Iterable[str], spans: Iterable[Span]) -> Mapping[str, StepFunction]:
    """Returns the step function of each key.

    Args:
        keys: the key of each row of a register, in order.
        spans: the span of each row, in the same order.
    """
    grouped: dict[str, list[tuple[int, Span]]] = {}
    for index, (key, span) in enumerate(zip(keys, spans, strict=True)):
        grouped.setdefault(key, []).append((index, span))
    return {key: step_function(rows) for key, rows in grouped.items()}


def _single_row(index: int, span: Span) -> StepFunction:
    begin = max(span.valid_from, span.known_at + 1)
    if span.valid_to <= begin:
        return (begin,), (~index,)
    return ((begin, span.valid_to), (index, ~index)) if span.valid_to < NEVER else ((begin,), (index,))
