"""A number that the intake has read, the last calls of a caller, and the dialling distance of its next call.

A call is known at its start, or when its record came if that was later. Two calls of each caller are remembered: the
latest of those that became known last, and the latest of all that were known before. With these two, the call before
is exact for calls that come in the order in which they became known, also if several of them became known at one
moment. It does not depend on the order at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from callsieve.features.records import NUMBER_CLASSES, UNKNOWN

from . import numbers as plan

_CLASS_CODES = {name: code for code, name in enumerate(NUMBER_CLASSES)}


@dataclass(slots=True)
class KeyedNumber:
    """A number with its tokens, as read in one period of the number plan.

    `token` and `block` are the tokens of the number and of its block. `class_code` is an index into NUMBER_CLASSES,
    `significant` its country code and national significant number. `cache_id` is its id in the last `NumberCache` that
    took it.
    """

    number: plan.Number
    token: str
    block: str
    period: int = field(repr=False, compare=False)
    class_code: int = field(init=False)
    cache_id: int = field(init=False, repr=False, compare=False, default=0)
    significant: tuple[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.class_code = _CLASS_CODES[self.number.kind]
        self.significant = plan.significant(self.number)


@dataclass(slots=True)
class Dial:
    """One call of a caller: start and when it became known (Unix ms), the number dialled, and its step."""

    start: int
    known: int
    callee: KeyedNumber
    step: int


@dataclass(slots=True)
class Dials:
    """The two calls of a caller that are remembered.

    Attributes:
        fresh: the latest call of those that became known last.
        settled: the latest call of those that became known before; None if there is none.
    """

    fresh: Dial
    settled: Dial | None

    def tokens(self) -> list[str]:
        """Returns the tokens of the numbers dialled."""
        return [call.callee.token for call in (self.fresh, self.settled) if call is not None]


def dial(last: Dials | None, start: int, known: int, callee: KeyedNumber) -> tuple[int, Dials]:
    """Returns the step of a call, and what to remember of its caller.

    The call before is the latest one that was known before this record. The step is unknown if that call did not start,
    or was not known, before this call started. A call that is remembered has the same step again.

    `last`: what is remembered of the caller; None for a new caller. `start`, `known`: start of the call, and when it
    became known (Unix ms).
    """
    if last is None:
        return UNKNOWN, Dials(Dial(start, known, callee, UNKNOWN), None)
    fresh, settled = last.fresh, last.settled
    for again in (fresh, settled):
        if again is not None and again.start == start and again.callee.token == callee.token:
            return again.step, last
    before = latest(fresh, settled) if known > fresh.known else settled
    is_before = before is not None and before.start < start and before.known < start
    step = plan.step(before.callee.number if before is not None and is_before else None, callee.number)
    new = Dial(start, known, callee, step)
    if known > fresh.known:
        return step, Dials(new, before)
    if known == fresh.known:
        return step, Dials(latest(fresh, new), settled)
    return step, Dials(fresh, latest(new, settled))


def latest(first: Dial, second: Dial | None) -> Dial:
    """Returns the later of two calls; of calls at one moment, the one with the greater token."""
    if second is None or (first.start, first.callee.token) > (second.start, second.callee.token):
        return first
    return second
