"""Rolling origin: the whole training again from several starts, to see how much the headline owes to the days chosen.

Each origin has as many days as the others and begins some days later; within it, the folds are those of every training
(`split.plan`). The stretches overlap, so their spread is that of one world's weeks, not of independent samples.
Tashman, Out-of-sample tests of forecasting accuracy (2000), calls this a rolling window of fixed size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.files.dates import DAY
from callsieve.training.data.dataset import Dataset, as_known
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.judge import summarise
from callsieve.training.judging.leak_probes import check_for_leaks
from callsieve.training.log.looks import Ledger
from callsieve.training.model.split import fold_plan
from callsieve.training.model.train import Settings, train
from callsieve.training.tracking.record import flatten

from .figures import Origin, RollingFigures, Spread

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

LEAST = 3


def origins(first: int, last: int, count: int, step_days: int) -> list[tuple[int, int]]:
    """Stretches `[begin, end)` in Unix ms, all equally long, the last one up to the last whole day.

    Raises:
        ValueError: if fewer than 3 are asked for, they begin at one moment, or the calls are over before the last.
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
    """The dataset of a stretch: its calls, and what was known by its end of numbers."""
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
    progress: Progress | None = None,
) -> RollingFigures:
    """Train and judge from each origin.

    Args:
        ledger: gets the gates before the first training, and a touch before each.
    Returns: `origins`, with begin, end, what was judged, how often it was looked at and the headline of each; and
        `spread`: mean, standard deviation, least and most of each figure of the headline, over the origins where it is
        known. JSON-able.
    Raises:
        ValueError: as `origins` and `train`.
    """
    start = dataset.calls["start"].to_numpy()
    spans = origins(int(start.min()), int(start.max()), count, step_days)
    told: list[Origin] = []
    ledger.begin()
    for place, (begin, end) in enumerate(spans):
        part_of = stretch(dataset, begin, end)
        folds = fold_plan(part_of.calls, settings.label_delay_days)
        touched = ledger.touch(dataset.fingerprint, folds.certify, "roll")
        trained = train(part_of, settings, part(progress, place, count))
        check_for_leaks(trained)
        figures = summarise(trained)
        told.append(
            {
                "begin": str(pd.Timestamp(begin, unit="ms", tz="UTC")),
                "end": str(pd.Timestamp(end, unit="ms", tz="UTC")),
                **touched,
                "rows": figures["rows"],
                "headline": numbers_of(figures["headline"]),
            }
        )
    names = dict.fromkeys(name for one in told for name in one["headline"])
    return {"origins": told, "spread": {name: spread([one["headline"].get(name) for one in told]) for name in names}}


def part(progress: Progress | None, place: int, count: int) -> Progress | None:
    """Progress of one of several trainings."""
    if progress is None:
        return None
    return lambda what, done: progress(f"{place + 1}/{count} {what}", (place + done) / count)


def numbers_of(figures: Headline) -> dict[str, float]:
    """The numbers of nested figures by their dotted names."""
    told = flatten(figures).items()
    return {name: float(one) for name, one in told if isinstance(one, int | float) and not isinstance(one, bool)}


def spread(values: list[float | None]) -> Spread:
    """Of the values that are known: how many, mean, standard deviation (n - 1), least and most."""
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return {"origins": 0, "mean": None, "sd": None, "least": None, "most": None}
    sd = float(known.std(ddof=1)) if len(known) > 1 else None
    return {
        "origins": len(known), "mean": float(known.mean()), "sd": sd, "least": float(known.min()),
        "most": float(known.max()),
    }  # fmt: skip
