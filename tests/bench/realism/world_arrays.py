"""A simulated world as arrays, and statistics of it in the terms of the real data sets."""

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
from callsieve.training.world.tables.world_complaints import complained_calls, complaint_zeal

from .march_table import IN, OUT, Records

DAY = 86_400_000
MONTH = 31  # days, as March has
# Callers of local services, whatever the category of a mark. A relay number carries takeaway and ride-hailing.
LIFE_SERVICES = ("courier", "takeaway", "driver", "relay")
PEOPLE = ("ordinary", "elderly", "new_number", "recycled", "second_card")
DRAWS = 400  # of the complaints, because repeats are rare and come from few numbers
MOST_SUBSCRIBERS = 6_000  # whose month is used: enough for two digits


@dataclass(frozen=True, slots=True)
class WorldArrays:
    """A world as arrays: calls (`caller`, `callee` are ids of numbers), numbers by id, and complaints."""

    caller: NDArray[Any]
    callee: NDArray[Any]
    start: NDArray[Any]  # local ms since the world began
    talk: NDArray[Any]  # seconds
    answered: NDArray[np.bool_]
    unanswered: NDArray[np.bool_]  # no answer, rejected or busy
    guilty: NDArray[np.bool_]  # per call
    nuisance: NDArray[np.bool_]  # from here to `died`: per number
    ordinary: NDArray[np.bool_]
    own_mobile: NDArray[np.bool_]
    own: NDArray[np.bool_]
    area: NDArray[Any]
    born: NDArray[Any]
    died: NDArray[Any]
    outcome: NDArray[Any]  # per call, a position in OUTCOMES
    people: NDArray[np.bool_]  # subscribers who may complain
    elderly: NDArray[np.bool_]
    life_service_marks: float
    placeless: float
    duplicates: float
    missed: float
    days: int


def world_arrays(world: World) -> WorldArrays:
    """Returns the arrays of a world whose numbers are not keyed."""
    begin, end = int(world.facts["start"]), int(world.facts["end"])
    # With duplicates removed, a call's row is its id.
    rows = np.flatnonzero(~_array(world.truth, "duplicate"))
    caller, callee = _codes(world.calls, "caller"), _codes(world.calls, "callee")
    strings = world.calls["caller"].combine_chunks().dictionary
    at = _places(world.numbers, strings)
    slices = _words(world.truth, "slice")[rows]
    outcome = _words(world.calls, "outcome")[rows]
    answered = outcome == "answered"
    unanswered = np.isin(outcome, ["no_answer", "rejected", "busy"])
    guilty = _array(world.truth, "nuisance")[rows]
    behind = world.complaints["call"].fill_null(-1).to_numpy()
    of_call, is_mark = behind >= 0, _words(world.complaints, "channel") == "mark"
    of_people = np.isin(slices, [*PEOPLE, "elsewhere"])

    def per(name: str, default: Any) -> NDArray[Any]:
        return _per_number(_array(world.numbers, name), at, len(strings), default)

    slice_of = _per_number(_words(world.numbers, "slice"), at, len(strings), "")
    own_mobile = per("own_mobile", False)
    of_own_mobile = own_mobile[caller[rows]]
    return WorldArrays(
        caller=caller[rows],
        callee=callee[rows],
        start=_moments(world.calls, "start")[rows] - begin,
        talk=_array(world.calls, "talk")[rows],
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
            _codes(world.calls, "outcome")[rows]
        ],
        people=own_mobile & (slice_of != "") & ~per("nuisance", False),
        elderly=slice_of == "elderly",
        life_service_marks=float(np.isin(slices[behind[of_call & is_mark]], LIFE_SERVICES).mean()),
        placeless=float((_codes(world.calls, "place")[rows] < 0)[of_own_mobile].mean()),
        duplicates=1 - len(rows) / world.calls.num_rows,
        missed=float(unanswered[of_people].sum() / max((answered | unanswered)[of_people].sum(), 1)),
        days=(end - begin) // DAY,
    )


def month_records(world: WorldArrays) -> Records:
    """Returns the answered calls of a month as records of own mobiles: all nuisance numbers, a sample of the others."""
    last = min(world.days, MONTH) * DAY
    benign = np.flatnonzero(world.own_mobile & ~world.nuisance)
    chosen = world.own_mobile & world.nuisance
    chosen[benign[:: max(1, len(benign) // MOST_SUBSCRIBERS)]] = True
    calls = np.flatnonzero(world.answered & (world.start < last))
    out, back = (calls[chosen[side[calls]]] for side in (world.caller, world.callee))
    rows = np.concatenate((out, back))
    return Records(
        subject=np.concatenate((world.caller[out], world.callee[back])),
        peer=np.concatenate((world.callee[out], world.caller[back])),
        kind=np.repeat((OUT, IN), (len(out), len(back))),
        day=world.start[rows] // DAY,
        talk=np.maximum(np.rint(world.talk[rows]), 1),
    )


def _answered_calls(world: WorldArrays, numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns number and start of the answered calls of these numbers, made or received."""
    chosen = np.zeros(len(world.nuisance), dtype=bool)
    chosen[numbers] = True
    sides = [(side, np.flatnonzero(world.answered & chosen[side])) for side in (world.caller, world.callee)]
    number = np.concatenate([side[rows] for side, rows in sides])
    start = np.concatenate([world.start[rows] for _, rows in sides])
    order = np.lexsort((start, number))
    return number[order], start[order]


def gaps(world: WorldArrays, numbers: NDArray[Any]) -> NDArray[Any]:
    """Returns the seconds from each answered call of a number to its next."""
    number, start = _answered_calls(world, numbers)
    return np.asarray(np.diff(start)[number[1:] == number[:-1]] / 1000)


def hours(world: WorldArrays, numbers: NDArray[Any]) -> NDArray[Any]:
    """Returns the local hour of day, with its fraction, of the answered calls of these numbers."""
    return np.asarray(_answered_calls(world, numbers)[1] % DAY / (DAY / 24))


def nuisance_lives(world: WorldArrays) -> dict[str, float]:
    """Returns means over nuisance numbers whose life lies within the world: days, calls, callees, seconds of talk."""
    whole = world.nuisance & (world.born > 0) & (world.died < world.days * DAY)
    rows = np.flatnonzero(world.guilty)
    calls = np.bincount(world.caller[rows], minlength=len(whole))
    pairs = np.unique(world.caller[rows].astype(np.int64) << 32 | world.callee[rows])
    people = np.bincount(pairs >> 32, minlength=len(whole))
    whole &= calls > 0
    answered = rows[world.answered[rows]]
    return {
        "life": float((world.died - world.born)[whole].mean() / DAY),
        "calls": float(calls[whole].mean()),
        "callees": float(people[whole].mean()),
        "talk": float(world.talk[answered].mean()),
    }


@dataclass(frozen=True, slots=True)
class Complaints:
    """Complaints about nuisance calls, many draws in a row: a number in another draw has another id."""

    call: NDArray[Any]
    number: NDArray[Any]
    at: NDArray[Any]
    days: int


def complaints(world: WorldArrays, scenario: Scenario) -> Complaints:
    """Draws the complaints many times: one world has too few for a share to mean anything."""
    table = scenario.table("complaints")
    rows = np.flatnonzero(world.guilty)
    start, caller, callee, outcome = (
        column[rows] for column in (world.start, world.caller, world.callee, world.outcome)
    )
    nothing, released = np.zeros(len(rows), dtype=np.int32), np.zeros(len(rows), dtype=np.int8)
    plan = Plan(start, caller, callee, nothing, nothing, outcome, released, nothing, nothing)
    draws = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        zeal = complaint_zeal(rng, table, world.people, world.elderly)
        draws.append(complained_calls(rng, table["office"], zeal, plan))
    draw_of_call = np.repeat(np.arange(DRAWS), [len(rows_of_draw) for rows_of_draw in draws])
    calls = np.concatenate(draws)
    number = draw_of_call * len(world.nuisance) + caller[calls]
    return Complaints(rows[calls], number, start[calls], world.days)


def churn(complaints: Complaints, days: int, least: int) -> float:
    """Returns the share of complaints whose number had at least `least` others in the `days` before."""
    order = np.lexsort((complaints.at, complaints.number))
    number, at = complaints.number[order], complaints.at[order]
    # The first days of the world have no earlier complaints.
    counted = at >= min(days, complaints.days / 2) * DAY
    before = np.arange(len(at)) - least
    repeats = (before >= 0) & (number[before] == number) & (at - at[before] <= days * DAY)
    return float(repeats[counted].mean()) if counted.any() else float("nan")


def weekend_ratio(complaints: Complaints) -> float:
    """Returns the mean complaints of a weekend day over those of a weekday; the world begins on a Monday."""
    day = complaints.at // DAY
    counts = np.bincount(day[day < complaints.days // 7 * 7] % 7, minlength=7)
    return float(counts[5:].mean() / max(counts[:5].mean(), 1e-9))


def local_share(world: WorldArrays, complaints: Complaints) -> float:
    """Returns the share of complaints about a number of the callee's area, where both areas are known."""
    caller, callee = world.area[world.caller[complaints.call]], world.area[world.callee[complaints.call]]
    both_known = (caller > 0) & (callee > 0)
    return float((caller == callee)[both_known].mean()) if both_known.any() else float("nan")


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
    """Returns, for each row of the table of numbers, the code of that number in the calls."""
    same = numbers["number"].combine_chunks()
    if same.dictionary.equals(strings):
        return _codes(numbers, "number")
    return np.asarray(pc.index_in(same.dictionary_decode(), value_set=strings).to_numpy(zero_copy_only=False))


def _per_number(values: NDArray[Any], at: NDArray[Any], count: int, default: Any) -> NDArray[Any]:
    column = np.full(count, default, dtype=values.dtype)
    column[at] = values
    return column
