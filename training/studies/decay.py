"""How a model ages: week after week beside one that is trained anew each week.

Both judge the same calls, at the thresholds that their own trainings chose. A week's vectors are those of a service,
from the 28 days before it. "Unseen" are calls of groups (block, trunk, device, campaign) of which that model learnt
nothing. The area under time is that of Pendlebury et al., TESSERACT (USENIX Security 2019). A threshold of few innocent
calls is luck, so the catch is also told at the threshold that flags 1 in 10,000 of each period's own innocent calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.features.files.dates import DAY
from callsieve.features.intake.text_columns import factorize
from callsieve.serving.batch.fill_memory import HISTORY_DAYS
from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.dataset import Dataset, campaigns_of, judging_labels
from callsieve.training.data.feeds import Feed, complete
from callsieve.training.judging.figures import Rate
from callsieve.training.judging.metrics import catch, threshold_at_rate
from callsieve.training.model.bands import TARGETS, aligned_scores
from callsieve.training.model.certify import upper_bound
from callsieve.training.model.split import FOLDS, fold_plan, groups
from callsieve.training.model.train import Trained, feature_columns, score_rows, train

from .figures import Areas, DecayFigures, DecayPeriod, PeriodCatch, PeriodFigures
from .rolling import part, stretch

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress
    from callsieve.training.log.looks import Ledger
    from callsieve.training.model.train import Settings

    Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Model:
    """What judging needs of a training."""

    text: str
    band: Band
    learnt: Array  # groups that it learnt from


@dataclass(frozen=True, slots=True)
class Period:
    """The calls of a period, with the vectors that a service would have had. Arrays over all calls."""

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
    progress: Progress | None = None,
) -> DecayFigures:
    """Train on the first days, then judge each period after them, with and without training anew.

    Args:
        train_days: calls that each training gets, 21 at least.
        days: of a period.
        ledger: gets the gates, and a touch before each training and each period.
    Returns: `periods`, with the figures of both ways; `area_under_time` of the catch rate of unseen groups of each, and
        `area_at_target`, the same at the threshold of `threshold_at_rate`. JSON-able.
    Raises:
        ValueError: if the calls are too few days, or a training has nothing to learn from.
    """
    start = dataset.calls["start"].to_numpy()
    first, span = int(start.min()), train_days + periods * days
    known = int((start.max() - first) // DAY + 1)
    if known < span or periods < 2:
        raise ValueError(
            f"decay: expected 2 periods or more and {span} days of calls ({train_days} to train on, {periods} x {days} "
            f"after them), got {periods} periods, {known} days"
        )
    group = groups(dataset.calls, campaigns_of(dataset))
    models: dict[str, Model] = {}
    told: list[DecayPeriod] = []
    ledger.begin()
    for place in range(periods):
        begin = first + (train_days + place * days) * DAY
        models["anew"] = trained_on(dataset, settings, group, (begin - train_days * DAY, begin), ledger,
                                    part(progress, place, periods))  # fmt: skip
        models.setdefault("once", models["anew"])
        touched = ledger.touch(dataset.fingerprint, (begin, begin + days * DAY), "decay")
        calls = period_of(dataset, settings, group, begin, begin + days * DAY)
        told.append(
            {
                "days_after_training": [place * days, (place + 1) * days],
                **touched,
                "once": figures(calls, models["once"], settings),
                "anew": figures(calls, models["anew"], settings),
            }
        )
    once, anew = [period["once"] for period in told], [period["anew"] for period in told]
    own: Areas = {
        "once": area([side["unseen"]["call"]["rate"] for side in once]),
        "anew": area([side["unseen"]["call"]["rate"] for side in anew]),
    }
    at_target: Areas = {
        "once": area([side["at_target"]["call"]["rate"] for side in once]),
        "anew": area([side["at_target"]["call"]["rate"] for side in anew]),
    }
    return {
        "train_days": train_days,
        "days": days,
        "periods": told,
        "area_under_time": own,
        "area_at_target": at_target,
    }


def trained_on(
    dataset: Dataset, settings: Settings, group: Array, span: tuple[int, int], ledger: Ledger,
    progress: Progress | None,
) -> Model:  # fmt: skip
    """A model of the calls of a stretch, and of which groups it learnt."""
    some = stretch(dataset, *span)
    folds = fold_plan(some.calls, settings.label_delay_days)
    ledger.touch(dataset.fingerprint, folds.certify, "decay")
    t = train(some, settings, progress)
    whole = dataset.calls["start"].to_numpy()
    return model_of(t, group[(whole >= span[0]) & (whole < span[1])])


def model_of(t: Trained, group: Array) -> Model:
    """Args: group: of each call of the training's table, as told over all of the dataset."""
    side = t.fold == FOLDS.index("train")
    inside = (t.start >= t.plan.train[0]) & (t.start < t.plan.train[1])
    band = t.card.thresholds[0]
    return Model(t.models["model"], band, np.unique(group[side & inside]))


def period_of(dataset: Dataset, settings: Settings, group: Array, begin: int, end: int) -> Period:
    """The calls of a period and of the days of history that a feature asks for."""
    since = begin - HISTORY_DAYS * DAY
    some = stretch(dataset, since, end)
    start, whole = some.calls["start"].to_numpy(), dataset.calls["start"].to_numpy()
    feed = complete(some, settings.features, settings.threads, np.flatnonzero(start >= begin))
    return Period(some, feed, begin, group[(whole >= since) & (whole < end)])


def figures(period: Period, model: Model, settings: Settings) -> PeriodFigures:
    """Error on the innocent calls of a period, and catch of the others: of all groups, of those not learnt from, and of
    these at the threshold that flags 1 in 10,000 of the innocent calls."""
    calls = period.dataset.calls
    (caller, _), (callee, _) = factorize(calls["caller"]), factorize(calls["callee"])
    known = judging_labels(period.dataset, caller, settings.label_policy)
    inside = calls["start"].to_numpy() >= period.begin
    raw = score_rows(model.text, period.feed, inside, feature_columns(settings.features), settings.threads)
    held = aligned_scores(raw, period.feed.strata(len(raw)), model.band)
    benign, bad = inside & known.known & ~known.nuisance, inside & known.known & known.nuisance
    unseen = bad & ~np.isin(period.group, model.learnt)
    false = int((held[benign] >= model.band.threshold).sum())
    return {
        "benign_calls": int(benign.sum()),
        "false_calls": false,
        "bound": upper_bound(false, int(benign.sum())),
        "all": caught(held[bad], model.band.threshold, caller[bad], callee[bad], settings.seed),
        "unseen": caught(held[unseen], model.band.threshold, caller[unseen], callee[unseen], settings.seed),
        "at_target": caught(
            raw[unseen], threshold_at_rate(raw[benign], TARGETS[0][1]), caller[unseen], callee[unseen], settings.seed
        ),
    }


def caught(raw: Array, threshold: float, caller: Array, callee: Array, seed: int) -> PeriodCatch:
    """Catch rate by call and by caller with intervals; None where there is no call."""
    if not len(raw):
        none: Rate = {"rate": None, "low": None, "high": None}
        return {"calls": 0, "callers": 0, "call": none, "caller": none}
    found = catch(raw, threshold, caller, callee, seed=seed)
    return {"calls": found.calls, "callers": found.callers, "call": found.by_call, "caller": found.by_caller}


def area(rates: list[float | None]) -> float | None:
    """Area under time: the mean of neighbours' means; None where a period has no rate.

    >>> area([1.0, 0.5, 0.0])
    0.5
    """
    if any(rate is None for rate in rates):
        return None
    values = np.array(rates, dtype=float)
    return float(((values[1:] + values[:-1]) / 2).mean())
