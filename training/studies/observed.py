"""What a simulated world looks like to somebody with its records, in the terms of the real data beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from callsieve.features.records import OUTCOMES
from callsieve.training.world import Scenario, World
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.tables.complaints import reported_calls, zeal_of

from .march import IN, OUT, Records

DAY = 86_400_000
MONTH = 31  # days, as March has
# Whatever the mark says: about which callers it is. A relay number carries takeaway and ride-hailing.
LIFE_SERVICES = ("courier", "takeaway", "driver", "relay")
PEOPLE = ("ordinary", "elderly", "new_number", "recycled", "second_card")
DRAWS = 400  # of the complaints: repeats are of few numbers, and rare
AT_MOST = 6_000  # subscribers whose month is taken: enough for two digits


@dataclass(frozen=True, slots=True)
class Observed:
    """A world as arrays: calls (`caller`, `callee` are ids of numbers), numbers by id, and reports."""

    caller: NDArray[Any]
    callee: NDArray[Any]
    start: NDArray[Any]  # local ms since the world began
    talk: NDArray[Any]  # seconds
    answered: NDArray[np.bool_]
    unanswered: NDArray[np.bool_]  # rang in vain, declined or engaged
    guilty: NDArray[np.bool_]  # per call
    nuisance: NDArray[np.bool_]  # per number, as the following
    ordinary: NDArray[np.bool_]
    own_mobile: NDArray[np.bool_]
    own: NDArray[np.bool_]
    area: NDArray[Any]
    born: NDArray[Any]
    died: NDArray[Any]
    outcome: NDArray[Any]  # per call, a position in OUTCOMES
    people: NDArray[np.bool_]  # per number: a subscriber who may report
    elderly: NDArray[np.bool_]
    life_service_marks: float
    placeless: float
    duplicates: float
    missed: float
    days: int


def observe(world: World) -> Observed:
    """Arrays of a world whose numbers are not keyed."""
    begin, end = int(world.facts["start"]), int(world.facts["end"])
    # Without its twins, a call's row is its number.
    kept = np.flatnonzero(~_array(world.truth, "duplicate"))
    caller, callee = _codes(world.calls, "caller"), _codes(world.calls, "callee")
    strings = world.calls["caller"].combine_chunks().dictionary
    at = _places(world.numbers, strings)
    slices = _words(world.truth, "slice")[kept]
    outcome = _words(world.calls, "outcome")[kept]
    answered = outcome == "answered"
    unanswered = np.isin(outcome, ["no_answer", "rejected", "busy"])
    guilty = _array(world.truth, "nuisance")[kept]
    behind = world.complaints["call"].fill_null(-1).to_numpy()
    known, is_mark = behind >= 0, _words(world.complaints, "channel") == "mark"
    of_people = np.isin(slices, [*PEOPLE, "elsewhere"])

    def per(name: str, default: Any) -> NDArray[Any]:
        return _per_number(_array(world.numbers, name), at, len(strings), default)

    slice_of = _per_number(_words(world.numbers, "slice"), at, len(strings), "")
    own_mobile = per("own_mobile", False)
    placed = own_mobile[caller[kept]]
    return Observed(
        caller=caller[kept],
        callee=callee[kept],
        start=_moments(world.calls, "start")[kept] - begin,
        talk=_array(world.calls, "talk")[kept],
        answered=answered,
        unanswered=unanswered,
        guilty=guilty,
        nuisance=per("nuisance", False),
        ordinary=np.isin(slice_of, PEOPLE),
        own_mobile=own_mobile,
        own=per("own", False),
        area=per("area", 0),
        born=_per_number(_moments(world.numbers, "active_from"), at, len(strings), begin) - begin,
        died=_per_number(_moments(world.numbers, "active_to"), at, len(strings), end) - begin,
        outcome=np.array([*map(OUTCOMES.index, world.calls["outcome"].combine_chunks().dictionary.to_pylist())])[
            _codes(world.calls, "outcome")[kept]
        ],
        people=own_mobile & (slice_of != "") & ~per("nuisance", False),
        elderly=slice_of == "elderly",
        life_service_marks=float(np.isin(slices[behind[known & is_mark]], LIFE_SERVICES).mean()),
        placeless=float((_codes(world.calls, "place")[kept] < 0)[placed].mean()),
        duplicates=1 - len(kept) / world.calls.num_rows,
        missed=float(unanswered[of_people].sum() / max((answered | unanswered)[of_people].sum(), 1)),
        days=(end - begin) // DAY,
    )


def month_records(seen: Observed) -> Records:
    """Answered calls of a month as records of this network's mobiles: all nuisance ones, some of the others."""
    last = min(seen.days, MONTH) * DAY
    benign = np.flatnonzero(seen.own_mobile & ~seen.nuisance)
    chosen = seen.own_mobile & seen.nuisance
    chosen[benign[:: max(1, len(benign) // AT_MOST)]] = True
    calls = np.flatnonzero(seen.answered & (seen.start < last))
    out, back = (calls[chosen[side[calls]]] for side in (seen.caller, seen.callee))
    rows = np.concatenate((out, back))
    return Records(
        subject=np.concatenate((seen.caller[out], seen.callee[back])),
        peer=np.concatenate((seen.callee[out], seen.caller[back])),
        kind=np.repeat((OUT, IN), (len(out), len(back))),
        day=seen.start[rows] // DAY,
        talk=np.maximum(np.rint(seen.talk[rows]), 1),
    )


def _of(seen: Observed, numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Number and start of the answered calls, made and taken, of some numbers."""
    chosen = np.zeros(len(seen.nuisance), dtype=bool)
    chosen[numbers] = True
    sides = [(side, np.flatnonzero(seen.answered & chosen[side])) for side in (seen.caller, seen.callee)]
    number = np.concatenate([side[rows] for side, rows in sides])
    start = np.concatenate([seen.start[rows] for _, rows in sides])
    order = np.lexsort((start, number))
    return number[order], start[order]


def gaps(seen: Observed, numbers: NDArray[Any]) -> NDArray[Any]:
    """Seconds from one answered call of a number to its next."""
    number, start = _of(seen, numbers)
    return np.asarray(np.diff(start)[number[1:] == number[:-1]] / 1000)


def hours(seen: Observed, numbers: NDArray[Any]) -> NDArray[Any]:
    """Local hour of day, with its fraction, of the answered calls of some numbers."""
    return np.asarray(_of(seen, numbers)[1] % DAY / (DAY / 24))


def nuisance_lives(seen: Observed) -> dict[str, float]:
    """Means over nuisance numbers whose life lies within the world: days, calls, callees; and of all their talk."""
    whole = seen.nuisance & (seen.born > 0) & (seen.died < seen.days * DAY)
    rows = np.flatnonzero(seen.guilty)
    made = np.bincount(seen.caller[rows], minlength=len(whole))
    pairs = np.unique(seen.caller[rows].astype(np.int64) << 32 | seen.callee[rows])
    people = np.bincount(pairs >> 32, minlength=len(whole))
    whole &= made > 0
    spoken = rows[seen.answered[rows]]
    return {
        "life": float((seen.died - seen.born)[whole].mean() / DAY),
        "calls": float(made[whole].mean()),
        "callees": float(people[whole].mean()),
        "talk": float(seen.talk[spoken].mean()),
    }


@dataclass(frozen=True, slots=True)
class Complaints:
    """Complaints about nuisance, of many draws one after the other: `number` differs from draw to draw."""

    call: NDArray[Any]
    number: NDArray[Any]
    at: NDArray[Any]
    days: int


def complaints(seen: Observed, scenario: Scenario) -> Complaints:
    """Complaints drawn anew, many times over: a world has so few that a share of them would mean nothing."""
    table = scenario.table("complaints")
    rows = np.flatnonzero(seen.guilty)
    start, caller, callee, outcome = (each[rows] for each in (seen.start, seen.caller, seen.callee, seen.outcome))
    nothing, released = np.zeros(len(rows), dtype=np.int32), np.zeros(len(rows), dtype=np.int8)
    plan = Plan(start, caller, callee, nothing, nothing, outcome, released, nothing, nothing)
    found = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        zeal = zeal_of(rng, table, seen.people, seen.elderly)
        found.append(reported_calls(rng, table["complaints"], zeal, plan))
    which = np.repeat(np.arange(DRAWS), [len(one) for one in found])
    calls = np.concatenate(found)
    number = which * len(seen.nuisance) + caller[calls]
    return Complaints(rows[calls], number, start[calls], seen.days)


def churn(told: Complaints, days: int, least: int) -> float:
    """Share of the complaints whose number had at least so many in the days before."""
    order = np.lexsort((told.at, told.number))
    number, at = told.number[order], told.at[order]
    # What the world's first days cannot know is not asked of them.
    asked = at >= min(days, told.days / 2) * DAY
    before = np.arange(len(at)) - least
    known = (before >= 0) & (number[before] == number) & (at - at[before] <= days * DAY)
    return float(known[asked].mean()) if asked.any() else float("nan")


def weekend_ratio(told: Complaints) -> float:
    """Complaints of a weekend day over those of a weekday; the world begins on a Monday."""
    day = told.at // DAY
    counts = np.bincount(day[day < told.days // 7 * 7] % 7, minlength=7)
    return float(counts[5:].mean() / max(counts[:5].mean(), 1e-9))


def local_share(seen: Observed, told: Complaints) -> float:
    """Share of the complaints about a number of the callee's area, where both areas are known."""
    one, other = seen.area[seen.caller[told.call]], seen.area[seen.callee[told.call]]
    known = (one > 0) & (other > 0)
    return float((one == other)[known].mean()) if known.any() else float("nan")


def _array(table: pa.Table, column: str) -> NDArray[Any]:
    return np.asarray(table[column].combine_chunks().to_numpy(zero_copy_only=False))


def _moments(table: pa.Table, column: str) -> NDArray[Any]:
    return np.asarray(table[column].cast(pa.int64()).to_numpy())


def _codes(table: pa.Table, column: str) -> NDArray[Any]:
    indices = table[column].combine_chunks().indices
    return np.asarray(indices.fill_null(-1).to_numpy(zero_copy_only=False))


def _words(table: pa.Table, column: str) -> NDArray[Any]:
    words = np.array([*table[column].combine_chunks().dictionary.to_pylist(), ""])
    return np.asarray(words[_codes(table, column)])


def _places(numbers: pa.Table, strings: pa.Array) -> NDArray[Any]:
    """Of each row of the table of numbers: the code that the calls have for it."""
    same = numbers["number"].combine_chunks()
    if same.dictionary.equals(strings):
        return _codes(numbers, "number")
    return np.asarray(pc.index_in(same.dictionary_decode(), value_set=strings).to_numpy(zero_copy_only=False))


def _per_number(values: NDArray[Any], at: NDArray[Any], count: int, default: Any) -> NDArray[Any]:
    found = np.full(count, default, dtype=values.dtype)
    found[at] = values
    return found
