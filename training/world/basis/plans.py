"""Planned calls of populations, before the network rejects calls without a free line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from callsieve.features.arrays import Array, Floats, Int8s, Int32s, Int64s
from callsieve.features.records import OUTCOMES, RELEASED_BY

from .draws import lognormal
from .scenario import Manner, Spread, Talk
from .timing import MINUTE, SECOND, Calendar

LONGEST_RING = 60 * SECOND
LONGEST_TALK = 3 * 60 * MINUTE
ANSWERED, NO_ANSWER, BUSY, REJECTED, UNWANTED, INVALID, FAILED = (
    OUTCOMES.index(name)
    for name in ("answered", "no_answer", "busy", "rejected", "unwanted", "invalid_number", "failed")
)
CALLER, CALLEE, NETWORK = (RELEASED_BY.index(name) for name in ("caller", "callee", "network"))
Ends = tuple[Array, Array, Array, Array]
"""Ring (ms), talk (ms), outcome and releasing side of calls."""


@dataclass
class Plan:
    """Planned calls, one array a column: `start` in Unix ms, `ring` and `talk` in ms, `campaign` -1 if benign."""

    start: Int64s
    caller: Int32s
    callee: Int32s
    ring: Int32s
    talk: Int32s
    outcome: Int8s
    released: Int8s
    campaign: Int32s
    via: Int32s  # true number of a spoofed caller, as the network sees it; -1: the caller

    def __len__(self) -> int:
        return len(self.start)

    @property
    def end(self) -> Int64s:
        """End of each call in Unix ms."""
        return self.start + self.ring + self.talk

    @property
    def carrier(self) -> Int32s:
        """The number whose line each call occupies."""
        return np.where(self.via >= 0, self.via, self.caller)

    def keep(self, rows: Array) -> None:
        """Keeps only the calls of a mask or of positions, in that order; one column at a time, to save memory."""
        for column in fields(self):
            setattr(self, column.name, getattr(self, column.name)[rows])

    def take(self, rows: Array | slice) -> Plan:
        """Returns the calls of a mask, of positions or of a slice."""
        return Plan(*(getattr(self, column.name)[rows] for column in fields(self)))


def join(plans: Iterable[Plan]) -> Plan:
    """Concatenates plans and consumes them: each column is released as soon as it is joined, to save memory."""
    parts = list(plans)
    if not parts:
        empty = np.empty(0, dtype=np.int64)
        return planned_calls(empty, empty, empty, (empty,) * 4)
    columns = []
    for column in fields(Plan):
        columns.append(np.concatenate([getattr(part, column.name) for part in parts]))
        for part in parts:
            setattr(part, column.name, None)
    return Plan(*columns)


def planned_calls(start: Int64s, caller: Array, callee: Array, ends: Ends, campaign: Array | int = -1) -> Plan:
    """Makes a plan of calls from one number to another, of no campaign by default."""
    ring, talk, outcome, released = ends
    return Plan(
        start=start,
        caller=caller.astype(np.int32),
        callee=callee.astype(np.int32),
        ring=ring.astype(np.int32),
        talk=talk.astype(np.int32),
        outcome=outcome.astype(np.int8),
        released=released.astype(np.int8),
        campaign=np.broadcast_to(np.asarray(campaign, dtype=np.int32), len(start)).copy(),
        via=np.full(len(start), -1, dtype=np.int32),
    )


def draw_outcomes(
    rng: np.random.Generator, manner: Manner, count: int, answer: Floats | float = 1.0, talk: Floats | float = 1.0
) -> Ends:
    """Draws the ends of `count` calls; `answer` and `talk` are factors on the chance of an answer and the talk time."""
    luck = rng.random(count, dtype=np.float32)
    chance = np.minimum(np.asarray(manner.answer_share * answer, dtype=np.float32), np.float32(0.97))
    answered = luck < chance
    # The rest of the same draw decides how an unanswered call ends.
    rest = (luck - chance) / (1 - chance)
    outcome = np.full(count, NO_ANSWER, dtype=np.int8)
    bounds = np.cumsum([manner.reject_share, manner.unwanted_share, manner.failed_share])
    for bound, code in zip(bounds[::-1], (FAILED, UNWANTED, REJECTED), strict=True):
        outcome[rest < bound] = code
    outcome[answered] = ANSWERED
    ring = _ring(rng, manner, outcome)
    talked = np.where(answered, _talk(rng, manner.talk, count, talk), 0)
    return ring, talked, outcome, _released(rng, manner, outcome, ring)


def _ring(rng: np.random.Generator, manner: Manner, outcome: Int8s) -> Int32s:
    deviate = rng.standard_normal(len(outcome), dtype=np.float32)
    waited = outcome == NO_ANSWER
    spread = np.where(waited, np.float32(manner.patience.sigma), np.float32(manner.ring.sigma))
    median = np.where(waited, np.float32(manner.patience.median), np.float32(manner.ring.median))
    seconds = median * np.exp(spread * deviate)
    ring: Int32s = np.clip(seconds * SECOND, 300, LONGEST_RING).astype(np.int32)
    ring[outcome == FAILED] = 0
    return ring


def _talk(rng: np.random.Generator, talk: Talk, count: int, factor: Floats | float) -> Int32s:
    deviate = rng.standard_normal(count, dtype=np.float32)
    spread = np.where(deviate < 0, np.float32(talk.low), np.float32(talk.high))
    seconds = np.float32(talk.median) * np.exp(spread * deviate) * np.asarray(factor, dtype=np.float32)
    return np.clip(seconds * SECOND, SECOND, LONGEST_TALK).astype(np.int32)


def _released(rng: np.random.Generator, manner: Manner, outcome: Int8s, ring: Int32s) -> Int8s:
    hung_up = rng.random(len(outcome), dtype=np.float32)
    released = np.full(len(outcome), CALLER, dtype=np.int8)
    released[(outcome == ANSWERED) & (hung_up < manner.callee_release_share)] = CALLEE
    released[(outcome == REJECTED) | (outcome == UNWANTED)] = CALLEE
    by_network = (outcome == FAILED) | ((outcome == NO_ANSWER) & (ring >= LONGEST_RING)) | (hung_up > 0.992)
    released[by_network] = NETWORK
    return released


def callbacks(
    rng: np.random.Generator,
    plan: Plan,
    days: Calendar,
    manner: Manner,
    share: Floats | float,
    delay: Spread,
    talk: Floats | None = None,
) -> Plan:
    """Draws calls back after missed calls, in the daytime."""
    missed = np.flatnonzero((plan.outcome == NO_ANSWER) & (rng.random(len(plan)) < share))
    calls = plan.take(missed)
    start = calls.end + (MINUTE * lognormal(rng, delay, len(calls))).astype(np.int64)
    hour = days.hour(start)
    awake = (hour >= 7) & (hour < 23)
    longer = 1.0 if talk is None else talk[missed[awake]]
    ends = draw_outcomes(rng, manner, int(awake.sum()), talk=longer)
    return planned_calls(start[awake], calls.callee[awake], calls.caller[awake], ends)
