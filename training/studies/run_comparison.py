"""Two runs on the calls that judged both: which catches more, with an interval, and on which callers they differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from callsieve.features.arrays import Array
from callsieve.training.judging.metrics import threshold_at_rate
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.settings import TARGET, Settings
from callsieve.training.tracking.record import DATASETS, JUDGED, SETTINGS, Judged, read_judged, read_record, settings_of

MOST_CALLERS = 20
DIFFERENCE = 0.1  # of two catch rates: enough callers show one as large
# If one caller in ten differs, 29 callers all agree with a chance below 5 %.
ENOUGH_CALLERS = 29
LEAST_CALLERS = 6  # all of fewer callers prefer one of two equal runs with a chance above 5 %


class Side(TypedDict):
    """A run: its folder and its seeds."""

    run: str
    seed: int
    judge_seed: int


class Shares(TypedDict):
    """Two shares of the same calls, and the 95 % interval of `second` less `first` with callers resampled."""

    first: float
    second: float
    difference: float
    low: float
    high: float


class CallerDifference(TypedDict):
    """A caller, by its code, with its calls and how many of them each run flags."""

    caller: int
    slice: str
    nuisance: bool
    calls: int
    first: int
    second: int


class SliceDifference(TypedDict):
    """A kind of caller, with its calls and callers, the calls that each run flags, and callers flagged by one alone."""

    slice: str
    nuisance: bool
    calls: int
    callers: int
    first: int
    second: int
    only_first: int
    only_second: int


class RunComparison(TypedDict):
    """Two runs on the same calls: `callsieve study compare --json`.

    `catch` is at each run's own threshold, `catch_at_target` at thresholds that flag the target share of these innocent
    calls; of two targets, the stricter one. `false_calls` are the flagged innocent calls. `better` is "first",
    "second", "neither", or "unknown" with too few nuisance callers, by `catch_at_target`. `enough_callers` would show a
    difference of 10 points.
    """

    first: Side
    second: Side
    judged_calls: int
    judged_by_one: list[int]
    nuisance_calls: int
    nuisance_callers: int
    enough_callers: int
    target: float
    catch: Shares
    catch_at_target: Shares
    false_calls: Shares
    better: str
    slices: list[SliceDifference]
    callers: list[CallerDifference]


@dataclass(frozen=True, slots=True)
class Pair:
    """The calls that judged both runs, with the flags of each: at its own threshold, and at the target."""

    caller: Array
    slice: Array
    nuisance: Array
    flagged: tuple[Array, Array]
    at_target: tuple[Array, Array]


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compares two runs of the same folders of calls on the calls that judged both.

    Neither was trained on the groups of these calls.

    `first`, `second`: folders of runs.
    """
    settings = [settings_of(read_record(folder, SETTINGS), 0) for folder in (first, second)]
    require_same_calls(first, second)
    judged = [read_judged(folder / "record" / JUDGED) for folder in (first, second)]
    target = min(run.target for run in settings)
    pair = pair_of(judged[0], judged[1], target)
    if not pair.nuisance.any():
        raise ValueError(
            f"compare: the runs share {len(pair.nuisance):,} test calls, of {len(judged[0].row):,} and "
            f"{len(judged[1].row):,}, and none of them is nuisance; train both with one --seed"
        )
    seed, benign = settings[0].judging_seed, ~pair.nuisance
    at_target = shares(pair.at_target, pair.nuisance, pair.caller, seed)
    callers = len(np.unique(pair.caller[pair.nuisance]))
    return {
        "first": side(first, settings[0]),
        "second": side(second, settings[1]),
        "judged_calls": len(pair.nuisance),
        "judged_by_one": [len(run.row) - len(pair.nuisance) for run in judged],
        "nuisance_calls": int(pair.nuisance.sum()),
        "nuisance_callers": callers,
        "enough_callers": enough_callers(at_target, callers),
        "target": target,
        "catch": shares(pair.flagged, pair.nuisance, pair.caller, seed),
        "catch_at_target": at_target,
        "false_calls": shares(pair.flagged, benign, pair.caller, seed),
        "better": better_run(at_target, callers),
        "slices": by_slice(pair),
        "callers": by_caller(pair),
    }


def enough_callers(catch: Shares, callers: int) -> int:
    """Returns how many nuisance callers would show a difference of DIFFERENCE between two catch rates.

    The interval narrows with the root of their number. It has no width if no caller differs; then ENOUGH_CALLERS do.
    """
    half = (catch["high"] - catch["low"]) / 2
    return max(ENOUGH_CALLERS, math.ceil(callers * (half / DIFFERENCE) ** 2))


def better_run(catch: Shares, callers: int) -> str:
    """Returns the run that catches more, as in `RunComparison`."""
    if callers >= LEAST_CALLERS and (catch["low"] > 0 or catch["high"] < 0):
        return "second" if catch["low"] > 0 else "first"
    return "neither" if callers >= enough_callers(catch, callers) else "unknown"


def side(folder: Path, settings: Settings) -> Side:
    """Returns the entry of a run."""
    return {"run": str(folder), "seed": settings.seed, "judge_seed": settings.judging_seed}


def require_same_calls(first: Path, second: Path) -> None:
    """Raises ValueError unless both runs read the same tables of calls and labels, in the same order."""
    tables = [
        {
            name: entry["sha256"]
            for name, entry in read_record(folder, DATASETS).items()
            if not name.startswith(("vectors", "labelled"))
        }
        for folder in (first, second)
    ]
    names = tables[0].keys() | tables[1].keys()
    different = sorted(name for name in names if tables[0].get(name) != tables[1].get(name))
    if different:
        raise ValueError(f"compare: the runs read other data, {', '.join(different)}; train both on the same folders")


def pair_of(first: Judged, second: Judged, target: float = TARGET) -> Pair:
    """Returns the calls that judged both runs."""
    keys = [run.folder.astype(np.int64) << 40 | run.row for run in (first, second)]
    _, *places = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    nuisance = first.nuisance[places[0]]
    raw = [run.raw[rows] for run, rows in zip((first, second), places, strict=True)]
    own = tuple(run.flagged[rows] for run, rows in zip((first, second), places, strict=True))
    at_target = tuple(scores >= threshold_at_rate(scores[~nuisance], target) for scores in raw)
    return Pair(
        caller=first.caller[places[0]],
        slice=first.slice[places[0]],
        nuisance=nuisance,
        flagged=(own[0], own[1]),
        at_target=(at_target[0], at_target[1]),
    )


def shares(flags: tuple[Array, Array], rows: Array, caller: Array, seed: int) -> Shares:
    """Returns the shares of some calls (bool) that each run flags, and the interval of their difference."""
    first, second = (flag[rows] for flag in flags)
    if not len(first):
        return {"first": 0.0, "second": 0.0, "difference": 0.0, "low": -1.0, "high": 1.0}
    low, high = difference_interval(second, first, caller[rows], seed=seed)
    shares_of = float(first.mean()), float(second.mean())
    difference = shares_of[1] - shares_of[0]
    return {"first": shares_of[0], "second": shares_of[1], "difference": difference, "low": low, "high": high}


def by_caller(pair: Pair) -> list[CallerDifference]:
    """Returns the callers of whose calls the runs flag most differently many, at their own thresholds."""
    codes, place, index = np.unique(pair.caller, return_index=True, return_inverse=True)
    calls = np.bincount(index)
    first, second = (np.bincount(index, weights=flag).astype(int) for flag in pair.flagged)
    order = np.lexsort((codes, -np.abs(second - first)))
    return [
        {
            "caller": int(codes[i]),
            "slice": str(pair.slice[place[i]]),
            "nuisance": bool(pair.nuisance[place[i]]),
            "calls": int(calls[i]),
            "first": int(first[i]),
            "second": int(second[i]),
        }
        for i in order[:MOST_CALLERS].tolist()
        if first[i] != second[i]
    ]


def by_slice(pair: Pair) -> list[SliceDifference]:
    """Returns the flagged calls of each kind of caller, nuisance first, and callers that one run alone flags at all."""
    rows: list[SliceDifference] = []
    for nuisance in (True, False):
        for name in np.unique(pair.slice[pair.nuisance == nuisance]).tolist():
            inside = (pair.nuisance == nuisance) & (pair.slice == name)
            flags = [flag & inside for flag in pair.flagged]
            callers = [np.unique(pair.caller[flag]) for flag in flags]
            rows.append(
                {
                    "slice": name,
                    "nuisance": nuisance,
                    "calls": int(inside.sum()),
                    "callers": len(np.unique(pair.caller[inside])),
                    "first": int(flags[0].sum()),
                    "second": int(flags[1].sum()),
                    "only_first": len(np.setdiff1d(callers[0], callers[1])),
                    "only_second": len(np.setdiff1d(callers[1], callers[0])),
                }
            )
    return rows
