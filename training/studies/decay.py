"""How a model ages, period by period, beside a model that is retrained; and how much figures vary over training times.

Both models judge the same calls at the thresholds of their own trainings. Vectors of a period are those of a service:
they rest on the 28 days before it. "Unseen" calls are of groups (block, trunk, device, campaign) that the model did not
train on. The area under time is from Pendlebury et al., TESSERACT (USENIX Security 2019). A threshold chosen on few
innocent calls varies, so the catch is also given at the threshold that flags 1 in 10,000 innocent calls of the period.

Rolling origins repeat the whole training from several starts, each some days after the one before. Their windows
overlap, so their spread is that of one world's weeks, not of independent samples (Tashman, Out-of-sample tests of
forecasting accuracy, 2000: "rolling window of fixed size").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.text_columns import factorize
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.batch.fill_memory import HISTORY_DAYS
from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.dataset import Dataset, as_known, campaigns_of
from callsieve.training.data.feeds import Feed, vectors_on
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.evidence.judging_labels import judging_labels
from callsieve.training.judging.figures import Headline, Rate
from callsieve.training.judging.headline import NO_RATE
from callsieve.training.judging.judge import summarise
from callsieve.training.judging.leak_probes import check_for_leaks
from callsieve.training.judging.metrics import catch, threshold_at_rate
from callsieve.training.judging.run_figures import RowCounts
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import FalseCalls, upper_bound
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.scores import score_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import fold_plan, fold_rows, groups
from callsieve.training.model.train import train
from callsieve.training.oversight.log.looks import Ledger
from callsieve.training.oversight.log.payload_types import Look
from callsieve.training.reports.csv_tables import flatten
from callsieve.training.reports.drawing import BLUE, GREY, RC, shares, svg

Way = Literal["once", "anew"]
STYLES: dict[Way, tuple[str, str, str, str]] = {
    "once": (GREY, "--", "s", "trained once"),
    "anew": (BLUE, "-", "o", "retrained each period"),
}
LEAST = 3


class PeriodCatch(TypedDict):
    """Catch rate of the nuisance calls of a period, by call and by caller."""

    calls: int
    callers: int
    call: Rate
    caller: Rate


class PeriodFigures(FalseCalls):
    """A model on the calls of a period after its training.

    `all`: calls of all groups. `unseen`: of groups that it was not trained on. `at_target`: of these, at the threshold
    that flags 1 in 10,000 of the innocent calls.
    """

    all: PeriodCatch
    unseen: PeriodCatch
    at_target: PeriodCatch


class DecayPeriod(Look):
    """A period in days after the training, for the model trained once and for the one trained anew."""

    days_after_training: list[int]
    once: PeriodFigures
    anew: PeriodFigures


class Areas(TypedDict):
    """Mean catch rate over time of both models; None where a period has no rate."""

    once: float | None
    anew: float | None


class DecayFigures(TypedDict):
    """Ageing of a model: each period, and the area under the catch rate over time."""

    train_days: int
    days: int
    periods: list[DecayPeriod]
    area_under_time: Areas
    area_at_target: Areas


@dataclass(frozen=True, slots=True)
class Model:
    """The model, its certified band, and the ids of the groups that it was trained on."""

    model: str
    band: Band
    trained_groups: Array


@dataclass(frozen=True, slots=True)
class Period:
    """The calls of a period and of the history before it, with the vectors of a live service."""

    dataset: Dataset
    feed: Feed
    begin: int
    group: Array


def decay(
    dataset: Dataset,
    settings: Settings,
    *,
    train_days: int,
    periods: int,
    days: int = 7,
    ledger: Ledger,
    progress: Progress = silent,
) -> DecayFigures:
    """Trains on the first days, then judges each later period with and without retraining.

    `train_days`: days of calls of each training, at least 21. `days`: length of a period.
    Returns: plain values for JSON. `periods` has the figures of both models. `area_under_time` is the area of the catch
    rate of unseen groups at each model's threshold, `area_at_target` at that of `threshold_at_rate`.
    """
    start = dataset.calls["start"].to_numpy()
    first, span = int(start.min()), train_days + periods * days
    recorded = int((start.max() - first) // DAY + 1)
    if recorded < span or periods < 2:
        raise ValueError(
            f"decay: expected 2 periods or more and {span} days of calls ({train_days} to train on, {periods} x {days} "
            f"after them), got {periods} periods, {recorded} days"
        )
    group = groups(dataset.calls, campaigns_of(dataset))
    models: dict[str, Model] = {}
    judged: list[DecayPeriod] = []
    ledger.begin()
    for place in range(periods):
        begin = first + (train_days + place * days) * DAY
        window = (begin - train_days * DAY, begin)
        models["anew"] = trained_on(dataset, settings, group, window, ledger, part(progress, place, periods))
        models.setdefault("once", models["anew"])
        looks = ledger.touch(dataset.fingerprint, (begin, begin + days * DAY), "decay", dataset.folder)
        calls = period_of(dataset, settings, group, begin, begin + days * DAY)
        judged.append(
            {
                "days_after_training": [place * days, (place + 1) * days],
                **looks,
                "once": figures(calls, models["once"], settings),
                "anew": figures(calls, models["anew"], settings),
            }
        )
    return {
        "train_days": train_days,
        "days": days,
        "periods": judged,
        "area_under_time": areas(judged, "unseen"),
        "area_at_target": areas(judged, "at_target"),
    }


def areas(periods: Sequence[DecayPeriod], which: Literal["unseen", "at_target"]) -> Areas:
    """Returns the area under the catch rate over time of both models."""
    return {
        "once": area([period["once"][which]["call"]["rate"] for period in periods]),
        "anew": area([period["anew"][which]["call"]["rate"] for period in periods]),
    }


def trained_on(
    dataset: Dataset, settings: Settings, group: Array, span: tuple[int, int], ledger: Ledger, progress: Progress
) -> Model:
    """Trains on the calls of a time window. `span`: the window `[begin, end)` in Unix ms."""
    window = stretch(dataset, *span)
    folds = fold_plan(window.calls, settings.label_delay_days)
    ledger.touch(dataset.fingerprint, folds.certify, "decay", dataset.folder)
    trained = train(window, settings, progress)
    start = dataset.calls["start"].to_numpy()
    in_window = group[(start >= span[0]) & (start < span[1])]
    in_training = fold_rows("train", folds.train, trained.last.folds.fold, trained.last.folds.start)
    return Model(trained.models["model"], trained.card.thresholds[0], np.unique(in_window[in_training]))


def period_of(dataset: Dataset, settings: Settings, group: Array, begin: int, end: int) -> Period:
    """Returns the calls of a period and of the days of history that features need."""
    since = begin - HISTORY_DAYS * DAY
    window = stretch(dataset, since, end)
    start, every_start = window.calls["start"].to_numpy(), dataset.calls["start"].to_numpy()
    feed = vectors_on(COMPLETE, window, settings.features, settings.threads, np.flatnonzero(start >= begin))
    return Period(window, feed, begin, group[(every_start >= since) & (every_start < end)])


def figures(period: Period, model: Model, settings: Settings) -> PeriodFigures:
    """Returns the error on innocent calls of a period, and the catch rate on its nuisance calls.

    The catch is given for all groups, for unseen groups, and for unseen groups at the threshold that flags 1 in 10,000
    of the innocent calls.
    """
    calls = period.dataset.calls
    (caller, _), (callee, _) = factorize(calls["caller"]), factorize(calls["callee"])
    labels = judging_labels(period.dataset, caller, settings.label_policy)
    inside = calls["start"].to_numpy() >= period.begin
    raw = score_rows(
        model.model, period.feed.X, period.feed.rows, inside, feature_columns(settings.features), settings.threads
    )
    aligned = aligned_scores(raw, period.feed.strata(len(raw)), model.band)
    benign = inside & labels.known & ~labels.nuisance
    nuisance = inside & labels.known & labels.nuisance
    unseen = nuisance & ~np.isin(period.group, model.trained_groups)
    false = int((aligned[benign] >= model.band.threshold).sum())
    return {
        "benign_calls": int(benign.sum()),
        "false_calls": false,
        "bound": upper_bound(false, int(benign.sum())),
        "all": caught(aligned[nuisance], model.band.threshold, caller[nuisance], callee[nuisance], settings.seed),
        "unseen": caught(aligned[unseen], model.band.threshold, caller[unseen], callee[unseen], settings.seed),
        "at_target": caught(
            raw[unseen],
            threshold_at_rate(raw[benign], model.band.certificate.target),
            caller[unseen],
            callee[unseen],
            settings.seed,
        ),
    }


def caught(raw: Array, threshold: float, caller: Array, callee: Array, seed: int) -> PeriodCatch:
    """Returns the catch rate by call and by caller with intervals; None without a call."""
    if not len(raw):
        return {"calls": 0, "callers": 0, "call": {**NO_RATE}, "caller": {**NO_RATE}}
    rates = catch(raw, threshold, caller, callee, seed=seed)
    return {"calls": len(raw), "callers": len(np.unique(caller)), "call": rates["call"], "caller": rates["caller"]}


def area(rates: list[float | None]) -> float | None:
    """Returns the area under time: the mean of neighbours' means; None if a period has no rate.

    >>> area([1.0, 0.5, 0.0])
    0.5
    """
    if any(rate is None for rate in rates):
        return None
    values = np.array(rates, dtype=float)
    return float(((values[1:] + values[:-1]) / 2).mean())


def picture(result: DecayFigures) -> str:
    """Returns an SVG: catch rate of unseen groups and upper bound of the error, by days since the first training."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.2, 5.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for way in STYLES:
            draw(above, below, result["periods"], way)
        shares(above, "nuisance calls caught,\nunseen groups")
        above.legend(loc="best")
        below.set_ylabel("innocent calls flagged,\nat most (95 %)")
        below.set_yscale("log")
        below.set_xlabel("days since the first training")
        return svg(figure)


def draw(above: Axes, below: Axes, periods: Sequence[DecayPeriod], way: Way) -> None:
    """Draws the line of one way of training in both parts, with the interval of its rate."""
    colour, dash, mark, name = STYLES[way]
    days = [sum(period["days_after_training"]) / 2 for period in periods]
    rates = [period[way]["unseen"]["call"] for period in periods]
    rated = [
        (day, rate["rate"], rate["low"], rate["high"])
        for day, rate in zip(days, rates, strict=True)
        if rate["rate"] is not None
    ]
    at, caught, low, high = np.array(rated, dtype=float).reshape(-1, 4).T
    above.plot(at, caught, color=colour, linestyle=dash, marker=mark, label=name)
    above.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
    below.plot(days, [period[way]["bound"] for period in periods], color=colour, linestyle=dash, marker=mark)


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
    """Returns windows `[begin, end)` in Unix ms, all equally long; the last ends with the last whole day."""
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
    dataset: Dataset, settings: Settings, *, count: int, step_days: int, ledger: Ledger, progress: Progress = silent
) -> RollingFigures:
    """Trains and judges from each origin.

    Returns: plain values for JSON. `origins` has begin, end, rows, looks and headline of each; `spread` has mean,
        standard deviation, least and most of each headline figure over the origins where it is known.
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
