"""Computes the figures of one day of calls: histograms of features and of record fields, and amounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.files.dates import DAY, EPOCH
from callsieve.features.intake.keyed_table import KEYED_OPTIONAL
from callsieve.features.intake.text_columns import dictionary_decoded, factorize
from callsieve.features.kernel.windows import HOUR
from callsieve.features.online.feeds import COMPLETE, feed_of_table
from callsieve.features.records import OUTCOMES, RELEASED_BY
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import strata_of
from callsieve.training.data.feeds import Feed
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.folds import day_sample

Cuts = Mapping[str, tuple[float, ...]]

BINS = 16
SATURDAY = 5
WORDS = {"record's outcome": ("outcome", OUTCOMES), "record's released by": ("released_by", RELEASED_BY)}
LENGTHS = {"record's ring": "ring", "record's talk": "talk"}  # milliseconds
SCORE = "score"
DELAY = "hours until a complaint arrives"
MARK = "record "  # prefix of the names of marks: records that are broken, late, incomplete or misleading
NO_YES = ("no", "yes")
YES = NO_YES.index("yes")
NOT_CALLED = "caller without an incoming call this week"
# These features have a memory of 28 days, so they drift with the length of the records even if the calls are alike.
LONG_MEMORY = ("number_days_known", "number_active_days", "out_active_days", "out_days_since_last")
# Trunk features describe few trunks: a trunk that appears or disappears shifts all of them. Whether a trunk is recorded
# is monitored.
MONITORED = tuple(
    name for name in NAMES if name not in (*LONG_MEMORY, "call_weekday") and not name.startswith("trunk_")
)
# Words of the categories.
LEVELS: dict[str, tuple[str, ...]] = {
    **{feature.name: tuple(feature.levels) for feature in FEATURES if feature.levels},
    **{name: words for name, (_, words) in WORDS.items()},
}
LATE = 60_000  # ms after the end of the call


@dataclass(frozen=True, slots=True)
class ScoredCalls:
    """Keyed calls in order of start with their vectors and raw scores (NaN: not scored), complaints, and the bands.

    Vectors and scores exist at least for the `day_sample` of each whole day.
    """

    calls: pa.Table
    vectors: Feed
    raw: Array
    complaints: pd.DataFrame
    bands: Sequence[Band]


@dataclass(frozen=True, slots=True)
class Day:
    """One local day: counts by bin of each histogram, missing values in the last bin; logarithms of amounts; feed."""

    date: date
    calls: int
    counts: Mapping[str, Array]
    amounts: Mapping[str, float]
    feed: str = COMPLETE

    @property
    def kind(self) -> str:
        """Weekday or weekend."""
        return "weekend" if self.date.weekday() >= SATURDAY else "weekday"


def histogram_cuts(scored: ScoredCalls, days: Mapping[date, slice]) -> dict[str, tuple[float, ...]]:
    """Returns the cuts of each ordered histogram: quantiles over the days' calls."""
    rows = np.concatenate([day_sample(day, span) for day, span in days.items()])
    cuts = {name: quantiles(column) for name, column in columns(scored, rows) if name not in LEVELS}
    first, last = min(days.values(), key=lambda span: span.start), max(days.values(), key=lambda span: span.start)
    begin, end = (scored.calls["start"][row].as_py() for row in (first.start, last.stop - 1))
    return cuts | {DELAY: quantiles(complaint_delays(scored.complaints, begin, end))}


def quantiles(values: Array) -> tuple[float, ...]:
    """Returns cuts into parts as equal as the values permit; none if all values are equal or missing."""
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    # Rounded as in the file, so that cuts are the same before writing and after reading.
    cuts = np.unique([float(f"{cut:.6g}") for cut in np.quantile(present, np.arange(1, BINS) / BINS, method="higher")])
    return tuple(cuts[cuts > present.min()].tolist())


def day_figures(day: date, span: slice, scored: ScoredCalls, cuts: Cuts) -> Day:
    """Computes the figures of one day."""
    counts = {
        name: histogram(column, cuts[name] if name in cuts else between(LEVELS[name]))
        for name, column in columns(scored, day_sample(day, span))
        if (name in cuts or name in LEVELS) and (name != SCORE or not np.isnan(column).all())
    }
    calls = scored.calls.slice(span.start, span.stop - span.start)
    counts |= marks_of(calls) | call_flags(scored, day_sample(day, span))
    begin = midnight(day, calls)
    delays = complaint_delays(scored.complaints, begin, begin + DAY)
    if len(delays):
        counts[DELAY] = histogram(delays, cuts[DELAY])
    return Day(day, calls.num_rows, counts, amounts(calls, len(delays)), feed_of_table(calls))


def between(levels: Sequence[str]) -> tuple[float, ...]:
    """Returns cuts between the codes of a category."""
    return tuple(code + 0.5 for code in range(len(levels) - 1))


def histogram(values: Array, cuts: Sequence[float]) -> Array:
    """Counts the values between cuts, and the missing values in the last bin."""
    missing = np.isnan(values)
    bin_of = np.where(missing, len(cuts) + 1, np.searchsorted(np.asarray(cuts), values, side="right"))
    return np.asarray(np.bincount(bin_of, minlength=len(cuts) + 2))


def columns(scored: ScoredCalls, rows: Array) -> Iterator[tuple[str, Array]]:
    """Yields the columns that histograms count, by name: features, record fields, the raw score."""
    fields = [name for name, _ in WORDS.values()] + list(LENGTHS.values())
    calls = scored.calls.select(fields).take(rows)
    for name in MONITORED:
        yield name, scored.vectors.values(rows, NAMES.index(name))  # one column at a time bounds memory
    for name, (column, words) in WORDS.items():
        yield name, levels_of(calls[column], words)
    for name, column in LENGTHS.items():
        yield name, calls[column].to_numpy().astype(float)
    yield SCORE, scored.raw[rows]


def levels_of(column: pa.ChunkedArray, words: Sequence[str]) -> Array:
    """Returns a column of words as places among `words`; NaN where it is null."""
    texts = dictionary_decoded(column.combine_chunks())
    places = pc.index_in(texts, value_set=pa.array(words, texts.type))
    return np.asarray(places.to_numpy(zero_copy_only=False).astype(float))


def marks_of(calls: pa.Table) -> dict[str, Array]:
    """Counts the records of a day without and with each mark; no value is missing."""
    marked = {
        "stands twice": duplicate_records(calls),
        "came late": late_records(calls),
        "shows another number than the network's": int(pc.sum(pc.equal(calls["presented_differs"], 1)).as_py() or 0),
        **{f"without {name}": calls[name].null_count for name in sorted(KEYED_OPTIONAL)},
    }
    return {MARK + name: np.array([calls.num_rows - count, count, 0]) for name, count in marked.items()}


def call_flags(scored: ScoredCalls, rows: Array) -> dict[str, Array]:
    """Counts the sampled calls without and with each property of the caller and each band; no value is missing."""
    raw = scored.raw[rows]
    age, callers = (scored.vectors.values(rows, NAMES.index(name)) for name in ("number_age", "in_callers_count_7d"))
    flagged = {"caller new this week": int(np.isnan(age).sum()), NOT_CALLED: int((~(callers > 0)).sum())}
    if not np.isnan(raw).all():
        stratum = strata_of(scored.vectors.at(rows))
        for band in scored.bands:
            aligned = aligned_scores(raw, stratum, band)
            flagged[f"score in band {band.name}"] = int((aligned >= band.threshold).sum())
    return {name: np.array([len(rows) - count, count, 0]) for name, count in flagged.items()}


def amounts(calls: pa.Table, complaints: int) -> dict[str, float]:
    """Returns the logarithms of a day's amounts: calls, complaints that arrived, callers, callees."""
    counts = {"calls": calls.num_rows, "complaints that arrived": complaints}
    counts |= {f"{name}s": factorize(calls[name])[1] for name in ("caller", "callee")}
    return {name: float(np.log(n + 1)) for name, n in counts.items()}


def duplicate_records(calls: pa.Table) -> int:
    """Counts the records that repeat caller, callee and start of another record."""
    keys = np.stack([factorize(calls["caller"])[0], factorize(calls["callee"])[0], calls["start"].to_numpy()])
    keys = keys[:, np.lexsort(keys)]
    return int((keys[:, 1:] == keys[:, :-1]).all(axis=0).sum())


def late_records(calls: pa.Table) -> int:
    """Counts the records that arrived more than a minute after the call's end."""
    names = ("start", "ring", "talk", "recorded")
    start, ring, talk, recorded = (calls[name].to_numpy().astype(float) for name in names)
    return int((recorded - start > np.nan_to_num(ring) + np.nan_to_num(talk) + LATE).sum())


def complaint_delays(complaints: pd.DataFrame, begin: int, end: int) -> Array:
    """Returns the hours from call to arrival of the complaints that arrived in `[begin, end)` (Unix ms)."""
    at, arrival = (
        complaints[name].dt.tz_convert(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
        for name in ("at", "known_at")
    )
    inside = (arrival >= begin) & (arrival < end)
    return np.asarray((arrival - at)[inside] / HOUR)


def midnight(day: date, calls: pa.Table) -> int:
    """Returns the Unix ms at which a local day begins, from one call of that day and its local hour."""
    begin = (day - EPOCH).days * DAY
    ahead = begin + calls["hour"][0].as_py() * HOUR - calls["start"][0].as_py() // HOUR * HOUR
    return int(begin - ahead)
