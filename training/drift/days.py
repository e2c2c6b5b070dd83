"""A day of calls in figures: histograms of every feature and of the records themselves, and how much there was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.files.dates import DAY, EPOCH
from callsieve.features.intake.keyed_table import KEYED_OPTIONAL
from callsieve.features.intake.text_columns import dictionary_decoded, factorize
from callsieve.features.kernel.windows import HOUR
from callsieve.features.records import OUTCOMES, RELEASED_BY
from callsieve.serving.rules.strata import strata_of
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.call_choice import day_sample

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from callsieve.serving.bundle.metadata import Band
    from callsieve.training.data.feeds import Feed

    Array = npt.NDArray[Any]

Cuts = Mapping[str, tuple[float, ...]]

BINS = 16
SATURDAY = 5
WORDS = {"record's outcome": ("outcome", OUTCOMES), "record's released by": ("released_by", RELEASED_BY)}
LENGTHS = {"record's ring": "ring", "record's talk": "talk"}  # milliseconds
SCORE = "score"
DELAY = "hours until a report comes in"
MARK = "record "  # begins the names of marks: of a record that is broken, late, not whole or not what it says
NO_YES = ("no", "yes")
YES = NO_YES.index("yes")
NOT_CALLED = "caller whom nobody called this week"
# They remember 28 days: the longer the records go on, the more they tell, whatever the calls are like.
LONG_MEMORY = ("number_days_known", "number_active_days", "out_active_days", "out_days_since_last")
# What is known of a trunk is known of few: one that comes or goes moves them all. Whether it is told is watched.
MONITORED = tuple(
    name for name in NAMES if name not in (*LONG_MEMORY, "call_weekday") and not name.startswith("trunk_")
)
# Categories, and marks that a call has or has not.
LEVELS: dict[str, tuple[str, ...]] = {
    **{feature.name: tuple(feature.levels) for feature in FEATURES if feature.levels},
    **{name: words for name, (_, words) in WORDS.items()},
}
LATE = 60_000  # milliseconds


@dataclass(frozen=True, slots=True)
class ScoredCalls:
    """Keyed calls in order of start, vectors and raw scores (NaN: not scored); reports; the model's bands.

    Vectors and scores are there at least for the `day_sample` of each whole day.
    """

    calls: pa.Table
    vectors: Feed
    raw: Array
    complaints: pd.DataFrame
    bands: Sequence[Band]


@dataclass(frozen=True, slots=True)
class Day:
    """One local day: counts by bin of each histogram, the last of what is missing; logarithms of what was counted."""

    date: date
    calls: int
    counts: Mapping[str, Array]
    amounts: Mapping[str, float]

    @property
    def kind(self) -> str:
        """Weekday or weekend."""
        return "weekend" if self.date.weekday() >= SATURDAY else "weekday"


def histogram_cuts(stretch: ScoredCalls, days: Mapping[date, slice]) -> dict[str, tuple[float, ...]]:
    """Where each ordered histogram is cut: at quantiles of the days' calls."""
    rows = np.concatenate([day_sample(day, span) for day, span in days.items()])
    found = {name: quantiles(column) for name, column in columns(stretch, rows) if name not in LEVELS}
    first, last = min(days.values(), key=lambda span: span.start), max(days.values(), key=lambda span: span.start)
    begin, end = (stretch.calls["start"][row].as_py() for row in (first.start, last.stop - 1))
    return found | {DELAY: quantiles(report_delays(stretch.complaints, begin, end))}


def quantiles(values: Array) -> tuple[float, ...]:
    """Cuts that leave as even parts as the values allow; none if they are all alike or missing."""
    known = values[~np.isnan(values)]
    if not len(known):
        return ()
    # Through the text form of the file, so that cuts are the same before and after.
    cuts = np.unique([float(f"{cut:.6g}") for cut in np.quantile(known, np.arange(1, BINS) / BINS, method="higher")])
    return tuple(cuts[cuts > known.min()].tolist())


def day_figures(day: date, span: slice, stretch: ScoredCalls, cuts: Cuts) -> Day:
    """The figures of one day."""
    counts = {
        name: histogram(column, cuts[name] if name in cuts else between(LEVELS[name]))
        for name, column in columns(stretch, day_sample(day, span))
        if (name in cuts or name in LEVELS) and (name != SCORE or not np.isnan(column).all())
    }
    calls = stretch.calls.slice(span.start, span.stop - span.start)
    counts |= marks_of(calls) | told_of(stretch, day_sample(day, span))
    begin = midnight(day, calls)
    delays = report_delays(stretch.complaints, begin, begin + DAY)
    if len(delays):
        counts[DELAY] = histogram(delays, cuts[DELAY])
    return Day(day, calls.num_rows, counts, amounts(calls, len(delays)))


def between(levels: Sequence[str]) -> tuple[float, ...]:
    """Cuts between the codes of a category."""
    return tuple(code + 0.5 for code in range(len(levels) - 1))


def histogram(values: Array, cuts: Sequence[float]) -> Array:
    """Counts between cuts, and of what is missing."""
    missing = np.isnan(values)
    place = np.where(missing, len(cuts) + 1, np.searchsorted(np.asarray(cuts), values, side="right"))
    return np.asarray(np.bincount(place, minlength=len(cuts) + 2))


def columns(stretch: ScoredCalls, rows: Array) -> Iterator[tuple[str, Array]]:
    """What histograms are made of, by name: features, facts of the records, the raw score."""
    told = [name for name, _ in WORDS.values()] + list(LENGTHS.values())
    calls = stretch.calls.select(told).take(rows)
    for name in MONITORED:
        yield name, stretch.vectors.values(rows, NAMES.index(name))  # one by one: all together are large
    for name, (column, words) in WORDS.items():
        yield name, levels_of(calls[column], words)
    for name, column in LENGTHS.items():
        yield name, calls[column].to_numpy().astype(float)
    yield SCORE, stretch.raw[rows]


def levels_of(column: pa.ChunkedArray, words: Sequence[str]) -> Array:
    """A column of words as places among `words`; NaN where it is null."""
    held = dictionary_decoded(column.combine_chunks())
    codes_of = pc.index_in(held, value_set=pa.array(words, held.type))
    return np.asarray(codes_of.to_numpy(zero_copy_only=False).astype(float))


def marks_of(calls: pa.Table) -> dict[str, Array]:
    """How many of all of a day's records do not and do have a mark; none is missing."""
    found = {
        "stands twice": twice(calls),
        "came late": late(calls),
        "shows another number than the network's": another(calls),
        **{f"without {name}": calls[name].null_count for name in sorted(KEYED_OPTIONAL)},
    }
    return {MARK + name: np.array([calls.num_rows - some, some, 0]) for name, some in found.items()}


def told_of(stretch: ScoredCalls, rows: Array) -> dict[str, Array]:
    """How many of a day's sample are not and are by such a caller, and in each band; none is missing."""
    raw = stretch.raw[rows]
    age, callers = (stretch.vectors.values(rows, NAMES.index(name)) for name in ("number_age", "in_callers_count_7d"))
    found = {"caller new this week": int(np.isnan(age).sum()), NOT_CALLED: int((~(callers > 0)).sum())}
    if not np.isnan(raw).all():
        stratum = strata_of(stretch.vectors.at(rows))
        for band in stretch.bands:
            held = aligned_scores(raw, stratum, band)
            found[f"score in band {band.name}"] = int((held >= band.threshold).sum())
    return {name: np.array([len(rows) - some, some, 0]) for name, some in found.items()}


def amounts(calls: pa.Table, reports: int) -> dict[str, float]:
    """Logarithms of how much there was on a day."""
    found = {"calls": calls.num_rows, "reports that came in": reports}
    found |= {f"{name}s": factorize(calls[name])[1] for name in ("caller", "callee")}
    return {name: float(np.log(n + 1)) for name, n in found.items()}


def twice(calls: pa.Table) -> int:
    """Records that say the same of caller, callee and start as another one."""
    keys = np.stack([factorize(calls["caller"])[0], factorize(calls["callee"])[0], calls["start"].to_numpy()])
    keys = keys[:, np.lexsort(keys)]
    return int((keys[:, 1:] == keys[:, :-1]).all(axis=0).sum())


def late(calls: pa.Table) -> int:
    """Records that were known more than a minute after the call's end."""
    names = ("start", "ring", "talk", "recorded")
    start, ring, talk, recorded = (calls[name].to_numpy().astype(float) for name in names)
    return int((recorded - start > np.nan_to_num(ring) + np.nan_to_num(talk) + LATE).sum())


def another(calls: pa.Table) -> int:
    """Records whose number shown is known to be another than the network's."""
    return int(pc.sum(pc.equal(calls["presented_differs"], 1)).as_py() or 0)


def report_delays(reports: pd.DataFrame, begin: int, end: int) -> Array:
    """Hours from report to arrival, of the reports that came in from one moment to another (Unix ms)."""
    at, known = (
        reports[name].dt.tz_convert(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
        for name in ("at", "known_at")
    )
    inside = (known >= begin) & (known < end)
    return np.asarray((known - at)[inside] / HOUR)


def midnight(day: date, calls: pa.Table) -> int:
    """The Unix ms at which a local day begins, by a call of it whose local hour is known."""
    begin = (day - EPOCH).days * DAY
    ahead = begin + calls["hour"][0].as_py() * HOUR - calls["start"][0].as_py() // HOUR * HOUR
    return int(begin - ahead)
