"""The reference of `callsieve model monitor`: statistics of the days of calls that a model was trained on.

For each statistic it has the mean over the days and their spread. So a new day is judged by the variation between days,
not by a rule of thumb. Weekdays and weekends have separate means. It has no row of a person: only the cuts between a
feature's quantiles, and means and spreads of the shares below them and of the amounts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mode
from typing import Any, Literal

import msgspec
import numpy as np
from scipy.special import ndtri, stdtr

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import write_atomic
from callsieve.training.model.folds import whole_days

from .days import Cuts, Day, ScoredCalls, day_figures, histogram_cuts

REFERENCE = "reference.json"

FORMAT: Literal[4] = 4
KINDS = ("weekday", "weekend")
MIN_DAYS_OF_KIND = 2  # for a mean of its own
MIN_DAYS = 5
# The smallest spread of a statistic (of a logarithm, so 3 %): so few days cannot show that it is steadier.
MIN_SPREAD = 0.03
SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Usual:
    """A statistic on days of one kind: the mean of each part, the number of days, and the shares of a histogram."""

    mean: tuple[float, ...]
    days: int
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Statistic:
    """The usual value of a statistic by kind of day, and the spread of days around it (standard deviation by part).

    The parts of a histogram are log-odds of shares, see `watched_shares`; an amount has one part. `swing` is the spread
    of the shares themselves; an amount has none. `freedom` is the number of degrees of freedom of the spread.
    """

    spread: tuple[float, ...]
    freedom: int
    usual: Mapping[str, Usual]
    swing: tuple[float, ...]

    def z(self, now: Array, kind: str, noise: Array | float = 0.0) -> Array:
        """Returns the deviation of each part of a day from its usual value, in standard deviations of a normal law."""
        spread = np.maximum(np.maximum(self.spread, noise), MIN_SPREAD)
        return self._of_normal_law((now - np.array(self.usual[kind].mean)) / spread, kind)

    def z_of_shares(self, now: Array, then: Array, totals: Array, kind: str) -> Array:
        """Returns the deviation of plain shares, `now` from the usual `then`, among `totals` calls.

        Log-odds of a share near zero vary widely with a few calls, so on their scale no number of such calls would
        be unusual.
        """
        noise = np.sqrt(then * (1 - then) / np.maximum(totals, 1))
        spread = np.maximum(np.maximum(self.swing, noise), MIN_SPREAD * then * (1 - then) + SMALLEST)
        return self._of_normal_law((now - then) / spread, kind)

    def _of_normal_law(self, deviation: Array, kind: str) -> Array:
        # Student's law allows for a spread that was underestimated from few days.
        deviation = deviation / (1 + 1 / self.usual[kind].days) ** 0.5
        return np.asarray(-np.sign(deviation) * ndtri(np.maximum(stdtr(self.freedom, -np.abs(deviation)), SMALLEST)))


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference of one model: cuts of its histograms, every statistic by name, and the feed of most days."""

    format: Literal[4]
    model: str
    first: str
    last: str
    cuts: Cuts
    histograms: Mapping[str, Statistic]
    amounts: Mapping[str, Statistic]
    feed: str


def measure_reference(model: str, scored: ScoredCalls) -> Reference:
    """Computes the reference of scored calls, from their whole days."""
    days = whole_days(scored.calls)
    require_days(len(days))
    cuts = histogram_cuts(scored, days)
    return build_reference(model, cuts, [day_figures(day, rows, scored, cuts) for day, rows in days.items()])


def build_reference(model: str, cuts: Cuts, days: Sequence[Day]) -> Reference:
    """Computes the reference of some days."""
    require_days(len(days))
    counted = dict.fromkeys(name for day in days for name in day.counts)
    measured = dict.fromkeys(name for day in days for name in day.amounts)
    histograms = {
        name: histogram([day for day in days if name in day.counts], name, ordered=name in cuts) for name in counted
    }
    amounts = {name: amount([day for day in days if name in day.amounts], name) for name in measured}
    return Reference(
        format=FORMAT,
        model=model,
        first=str(days[0].date),
        last=str(days[-1].date),
        cuts=cuts,
        histograms={name: statistic for name, statistic in histograms.items() if statistic is not None},
        amounts={name: statistic for name, statistic in amounts.items() if statistic is not None},
        feed=mode(day.feed for day in days),
    )


def require_days(days: int) -> None:
    """Raises ValueError if there are fewer than MIN_DAYS days."""
    if days < MIN_DAYS:
        raise ValueError(f"reference: expected at least {MIN_DAYS} whole days, got {days}")


def histogram(days: Sequence[Day], name: str, *, ordered: bool) -> Statistic | None:
    """Returns the statistic of a histogram; None if too few days have it."""
    by_day = [watched_shares(day.counts[name], ordered=ordered) for day in days]
    kinds = [day.kind for day in days]
    of_log_odds = statistic_of(kinds, [log_odds(counts, totals) for counts, totals in by_day])
    of_shares = statistic_of(kinds, [counts / np.maximum(totals, 1) for counts, totals in by_day])
    if of_log_odds is None or of_shares is None:
        return None
    usual = {}
    for kind, of_kind in of_log_odds.usual.items():
        same_kind = [day for day in days if day.kind == kind] if of_kind.days < len(days) else days
        total = np.sum([day.counts[name] for day in same_kind], axis=0)
        usual[kind] = replace(of_kind, shares=tuple(shares(total).tolist()))
    return replace(of_log_odds, usual=usual, swing=of_shares.spread)


def amount(days: Sequence[Day], name: str) -> Statistic | None:
    """Returns the statistic of an amount; None if too few days have it."""
    return statistic_of([day.kind for day in days], [np.array([day.amounts[name]]) for day in days])


def statistic_of(kinds: Sequence[str], values: Sequence[Array]) -> Statistic | None:
    """Returns mean and spread of some days' values, by kind if each kind has enough days; None if there are too few."""
    if len(values) < MIN_DAYS:
        return None
    by_kind = {
        kind: np.array([value for day_kind, value in zip(kinds, values, strict=True) if day_kind == kind])
        for kind in KINDS
    }
    freedom = len(values) - len(KINDS)
    if min(len(group) for group in by_kind.values()) < MIN_DAYS_OF_KIND:
        by_kind, freedom = dict.fromkeys(KINDS, np.array(values)), len(values) - 1
    # Both kinds may share one array: its residuals count once.
    distinct = {id(group): group for group in by_kind.values()}.values()
    residuals = np.concatenate([group - group.mean(axis=0) for group in distinct])
    spread = np.sqrt((residuals**2).sum(axis=0) / freedom)
    usual = {kind: Usual(tuple(group.mean(axis=0).tolist()), len(group), ()) for kind, group in by_kind.items()}
    return Statistic(tuple(spread.tolist()), freedom, usual, ())


def watched_shares(counts: Array, *, ordered: bool) -> tuple[Array, Array]:
    """Returns the monitored parts of a histogram: the count of each part, and the total for each.

    The parts of an ordered histogram are the values below each cut, and the missing values: a value that moves into the
    next narrow bin changes little. The parts of a category are its bins. The total is all calls, with those of unknown
    value: a value that few calls have belongs to few trunks or devices, which come and go.

    >>> [part.tolist() for part in watched_shares(np.array([1, 2, 3, 4]), ordered=True)]
    [[1, 3, 4], [10, 10, 10]]
    """
    part_counts = np.append(np.cumsum(counts[:-2]), counts[-1]) if ordered else counts
    return part_counts, np.full(len(part_counts), counts.sum())


def log_odds(counts: Array, totals: Array) -> Array:
    """Returns the log-odds of shares, with half a call added on both sides since either may be zero."""
    return np.asarray(np.log((counts + 0.5) / (totals - counts + 0.5)))


def chance(expected: Array, totals: Array) -> Array:
    """Returns the standard deviation, by chance alone, of the log-odds of expected shares of so many calls."""
    return np.asarray(np.sqrt(1 / (totals * expected + 0.5) + 1 / (totals * (1 - expected) + 0.5)))


def shares(counts: Array) -> Array:
    """Returns the shares of bins; half a call added to each keeps the PSI of an empty bin finite."""
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def psi(first: Array, second: Array) -> float:
    """Returns the population stability index of two sets of shares, in nats.

    >>> round(psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])), 4)
    0.0405
    """
    return float(((first - second) * np.log(first / second)).sum())


def ks(first: Array, second: Array) -> float:
    """Returns the Kolmogorov-Smirnov distance at the cuts, without the last bin, that of missing values.

    >>> round(ks(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.6, 0.2])), 4)
    0.375
    """
    cumulative = [np.cumsum(values[:-1] / max(values[:-1].sum(), 1e-12)) for values in (first, second)]
    return float(np.abs(cumulative[0] - cumulative[1]).max())


def write_reference(reference: Reference, path: Path) -> None:
    """Writes a reference as JSON, with six significant digits: the figures have no more."""
    text = json.dumps(_rounded(asdict(reference)), indent=None, separators=(",", ":"), sort_keys=True, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_reference(path: Path) -> Reference:
    """Reads a file that `write_reference` wrote."""
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected the reference of a run")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Reference)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected the reference of a run: {error}") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
