"""How a model ages: it is judged on one period after another, beside a model that is retrained before each period.

Both models judge the same calls at the thresholds of their own trainings. Vectors of a period are those of a service:
they rest on the 28 days before it. "Unseen" calls are of groups (block, trunk, device, campaign) that the model did not
train on. The area under time is from Pendlebury et al., TESSERACT (USENIX Security 2019). A threshold chosen on few
innocent calls varies, so the catch is also given at the threshold that flags 1 in 10,000 innocent calls of the period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY
from callsieve.features.intake.text_columns import factorize
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.batch.fill_memory import HISTORY_DAYS
from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.data.feeds import Feed, vectors_on
from callsieve.training.data.judging_labels import judging_labels
from callsieve.training.judging.figures import Rate
from callsieve.training.judging.metrics import catch, threshold_at_rate
from callsieve.training.model.bands import TARGETS, aligned_scores
from callsieve.training.model.certify import upper_bound
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.scores import score_rows
from callsieve.training.model.split import fold_plan, fold_rows, groups
from callsieve.training.model.train import Trained, train
from callsieve.training.own.own_estimator import RiskModel

from .rolling import part, stretch
from .study_figures import Areas, DecayFigures, DecayPeriod, PeriodCatch, PeriodFigures

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress
    from callsieve.training.model.settings import Settings
    from callsieve.training.oversight.log.looks import Ledger


@dataclass(frozen=True, slots=True)
class Model:
    """The model, its certified band, and the ids of the groups that it was trained on."""

    model: RiskModel
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
    progress: Progress | None = None,
) -> DecayFigures:
    """Trains on the first days, then judges each later period with and without retraining.

    Args:
        train_days: days of calls of each training, at least 21.
        days: length of a period.
        ledger: records the gates, and a look at the test data before each training and each period.
    Returns: plain values for JSON. `periods` has the figures of both models. `area_under_time` is the area of the catch
        rate of unseen groups at each model's threshold, `area_at_target` at that of `threshold_at_rate`.
    Raises:
        ValueError: if the calls span too few days, or a training has nothing to learn from.
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
    once, anew = [period["once"] for period in judged], [period["anew"] for period in judged]
    own: Areas = {
        "once": area([period_figures["unseen"]["call"]["rate"] for period_figures in once]),
        "anew": area([period_figures["unseen"]["call"]["rate"] for period_figures in anew]),
    }
    at_target: Areas = {
        "once": area([period_figures["at_target"]["call"]["rate"] for period_figures in once]),
        "anew": area([period_figures["at_target"]["call"]["rate"] for period_figures in anew]),
    }
    return {
        "train_days": train_days,
        "days": days,
        "periods": judged,
        "area_under_time": own,
        "area_at_target": at_target,
    }


def trained_on(
    dataset: Dataset,
    settings: Settings,
    group: Array,
    span: tuple[int, int],
    ledger: Ledger,
    progress: Progress | None,
) -> Model:
    """Trains on the calls of a time window.

    Args:
        group: id of each call's group, over all calls of the dataset.
        span: the window `[begin, end)` in Unix ms.
    """
    window = stretch(dataset, *span)
    folds = fold_plan(window.calls, settings.label_delay_days)
    ledger.touch(dataset.fingerprint, folds.certify, "decay", dataset.folder)
    trained = train(window, settings, progress)
    start = dataset.calls["start"].to_numpy()
    return model_of(trained, group[(start >= span[0]) & (start < span[1])])


def model_of(trained: Trained, group: Array) -> Model:
    """Returns the parts of a training that judging needs.

    Args:
        group: id of each call's group, over the calls of the training.
    """
    folds = trained.last.folds
    in_training = fold_rows("train", folds.plan.train, folds.fold, folds.start)
    band = trained.card.thresholds[0]
    return Model(trained.models["model"], band, np.unique(group[in_training]))


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
            raw[unseen], threshold_at_rate(raw[benign], TARGETS[0][1]), caller[unseen], callee[unseen], settings.seed
        ),
    }


def caught(raw: Array, threshold: float, caller: Array, callee: Array, seed: int) -> PeriodCatch:
    """Returns the catch rate by call and by caller with intervals; None without a call."""
    if not len(raw):
        none: Rate = {"rate": None, "low": None, "high": None}
        return {"calls": 0, "callers": 0, "call": none, "caller": none}
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
