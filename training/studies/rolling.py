"""Rolling origin: repeats the whole training from several starts, to show how much the headline depends on the days.

All origins have the same number of days, and each begins some days after the one before. Folds are planned within each
(`split.fold_plan`). The windows overlap, so their spread is that of one world's weeks, not of independent samples.
Source: Tashman, Out-of-sample tests of forecasting accuracy (2000), "rolling window of fixed size".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import Progress, silent
from callsieve.training.data.dataset import Dataset, as_known
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.judge import summarise
from callsieve.training.judging.leak_probes import check_for_leaks
from callsieve.training.judging.run_figures import RowCounts
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import fold_plan
from callsieve.training.model.train import train
from callsieve.training.oversight.log.looks import Ledger
from callsieve.training.oversight.log.payload_types import Look
from callsieve.training.reports.csv_tables import flatten

LEAST = 3


class Spread(TypedDict):
    """A figure over the origins at which it is known; the standard deviation is that of a sample."""

    origins: int
    mean: float | None
    sd: float | None
    least: float | None
    most: float | None


class Origin(Look):
    """One training of a rolling origin: begin and end of its calls, its row counts and its headline figures."""

    begin: str
    end: str
    rows: RowCounts
    headline: dict[str, float]


class RollingFigures(TypedDict):
    """The trainings from several origins, and the spread of each headline figure."""

    origins: list[Origin]
    spread: dict[str, Spread]


def origins(first: int, last: int, count: int, step_days: int) -> list[tuple[int, int]]:
    """Returns windows `[begin, end)` in Unix ms, all equally long; the last ends with the last whole day.

    Raises:
        ValueError: if `count` is under 3, `step_days` under 1, or the calls span too few days.
    """
    if count < LEAST or step_days < 1:
        raise ValueError(f"origins: expected {LEAST} or more, a day or more apart, got {count}, {step_days} days apart")
    days = (last - first) // DAY + 1
    span = days - step_days * (count - 1)
    if span < 1:
        raise ValueError(
            f"origins: expected fewer than {count}, or less than {step_days} days apart: there are {days} days of calls"
        )
    return [(first + i * step_days * DAY, first + (i * step_days + span) * DAY) for i in range(count)]


def stretch(dataset: Dataset, begin: int, end: int) -> Dataset:
    """Returns the dataset of a time window: its calls, and complaints and findings as known by its end."""
    start = dataset.calls["start"]
    inside = pc.and_(pc.greater_equal(start, begin), pc.less(start, end))
    calls = dataset.calls.filter(inside)
    truth: pa.Table | None = None if dataset.truth is None else dataset.truth.filter(inside)
    known = as_known(dataset, pd.Timestamp(end, unit="ms", tz="UTC"))
    return replace(known, calls=calls, truth=truth, fingerprint=fingerprint(calls))


def rolling(
    dataset: Dataset,
    settings: Settings,
    *,
    count: int,
    step_days: int,
    ledger: Ledger,
    progress: Progress = silent,
) -> RollingFigures:
    """Trains and judges from each origin.

    Args:
        ledger: records the gates before the first training, and a look at the test data before each.
    Returns: plain values for JSON. `origins` has begin, end, rows, looks and headline of each; `spread` has mean,
        standard deviation, least and most of each headline figure over the origins where it is known.
    Raises:
        ValueError: if the calls span too few days, or a training has nothing to learn from.
    """
    start = dataset.calls["start"].to_numpy()
    spans = origins(int(start.min()), int(start.max()), count, step_days)
    trainings: list[Origin] = []
    ledger.begin()
    for place, (begin, end) in enumerate(spans):
        window = stretch(dataset, begin, end)
        folds = fold_plan(window.calls, settings.label_delay_days)
        looks = ledger.touch(dataset.fingerprint, folds.certify, "roll", dataset.folder)
        trained = train(window, settings, part(progress, place, count))
        check_for_leaks(trained)
        figures = summarise(trained)
        trainings.append(
            {
                "begin": str(pd.Timestamp(begin, unit="ms", tz="UTC")),
                "end": str(pd.Timestamp(end, unit="ms", tz="UTC")),
                **looks,
                "rows": figures["rows"],
                "headline": numbers_of(figures["headline"]),
            }
        )
    headlines = [training["headline"] for training in trainings]
    names = dict.fromkeys(name for headline in headlines for name in headline)
    spreads = {name: spread([headline.get(name) for headline in headlines]) for name in names}
    return {"origins": trainings, "spread": spreads}


def part(progress: Progress, place: int, count: int) -> Progress:
    """Returns the progress callback of training number `place` of `count`."""
    return lambda what, done: progress(f"{place + 1}/{count} {what}", (place + done) / count)


def numbers_of(figures: Headline) -> dict[str, float]:
    """Returns the numbers of nested figures by dotted name."""
    values = flatten(figures).items()
    return {
        name: float(value) for name, value in values if isinstance(value, int | float) and not isinstance(value, bool)
    }


def spread(values: list[float | None]) -> Spread:
    """Returns count, mean, standard deviation (n - 1), least and most of the values that are not None."""
    numbers = np.array([value for value in values if value is not None], dtype=float)
    if not len(numbers):
        return {"origins": 0, "mean": None, "sd": None, "least": None, "most": None}
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
    return {
        "origins": len(numbers),
        "mean": float(numbers.mean()),
        "sd": sd,
        "least": float(numbers.min()),
        "most": float(numbers.max()),
    }
