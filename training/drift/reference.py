"""What days of calls looked like when a model was trained: the yardstick of `callsieve model monitor`.

For each statistic the reference keeps what its days had in common, and how far they lay from it: a day is judged by
what days are like, not by a rule of thumb. Weekdays and weekends are apart. No row of a person is kept: of a feature
the cuts between its quantiles, and of the shares below them and of every amount the mean and the spread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri, stdtr

from callsieve.features.files.atomic import write_atomic
from callsieve.training.model.call_choice import whole_days

from .days import Cuts, Day, ScoredCalls, day_figures, histogram_cuts

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

REFERENCE = "reference.json"

FORMAT = 2
KINDS = ("weekday", "weekend")
LEAST_DAYS = 2  # of a kind, to be a yardstick of its own
LEAST_IN_ALL = 5
# How steady a statistic is taken to be at most (of a logarithm, so three parts in a hundred): so few days cannot show
# that it is steadier.
LEAST_SPREAD = 0.03
SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Usual:
    """A statistic on days of one kind: mean of each of its parts, the number of days, of a histogram its shares."""

    mean: tuple[float, ...]
    days: int
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Statistic:
    """What was usual by kind of day; how far days lay from it, by part (standard deviation, all kinds together).

    The parts of a histogram are log-odds of shares, see `watched_shares`;
    an amount has one, as `days` has it. `swing` is
    the spread of the shares themselves; an amount has none.
    """

    spread: tuple[float, ...]
    freedom: int
    usual: Mapping[str, Usual]
    swing: tuple[float, ...] = ()

    def z(self, now: Array, kind: str, noise: Array | float = 0.0) -> Array:
        """How far each part of another day lies from what is usual, in standard deviations of a normal law.

        Args:
            noise: what chance alone adds to each part (standard deviation): a spread below it was luck.
        """
        apart = np.maximum(np.maximum(self.spread, noise), LEAST_SPREAD)
        return self._of_normal_law((now - np.array(self.usual[kind].mean)) / apart, kind)

    def z_of_shares(self, now: Array, then: Array, whole: Array, kind: str) -> Array:
        """The same on the scale of shares themselves: of `whole` calls, `now` beside `then`, which is usual.

        Of what is usually next to nothing, log-odds swing widely from day to day, with a handful of calls: no number of
        them would be unusual.
        """
        noise = np.sqrt(then * (1 - then) / np.maximum(whole, 1))
        apart = np.maximum(np.maximum(self.swing, noise), LEAST_SPREAD * then * (1 - then) + SMALLEST)
        return self._of_normal_law((now - then) / apart, kind)

    def _of_normal_law(self, far: Array, kind: str) -> Array:
        # Student's law: a spread that was learnt from few days may be too small.
        far = far / (1 + 1 / self.usual[kind].days) ** 0.5
        return np.asarray(-np.sign(far) * ndtri(np.maximum(stdtr(self.freedom, -np.abs(far)), SMALLEST)))


@dataclass(frozen=True, slots=True)
class Reference:
    """The yardstick of one model: cuts of its histograms, and every statistic by name."""

    model: str
    first: str
    last: str
    cuts: Cuts
    histograms: Mapping[str, Statistic]
    amounts: Mapping[str, Statistic]


def measure_reference(model: str, stretch: ScoredCalls) -> Reference:
    """The reference of a stretch of calls, by its whole days.

    Raises:
        ValueError: if there are fewer than LEAST_IN_ALL of them.
    """
    days = whole_days(stretch.calls)
    enough(len(days))
    cuts = histogram_cuts(stretch, days)
    return build_reference(model, cuts, [day_figures(day, rows, stretch, cuts) for day, rows in days.items()])


def build_reference(model: str, cuts: Cuts, days: Sequence[Day]) -> Reference:
    """The reference of some days.

    Raises:
        ValueError: if there are fewer than LEAST_IN_ALL days.
    """
    enough(len(days))
    counted = dict.fromkeys(name for day in days for name in day.counts)
    measured = dict.fromkeys(name for day in days for name in day.amounts)
    histograms = {
        name: histogram([day for day in days if name in day.counts], name, ordered=name in cuts) for name in counted
    }
    amounts = {name: amount([day for day in days if name in day.amounts], name) for name in measured}
    return Reference(
        model, str(days[0].date), str(days[-1].date), cuts,
        {name: one for name, one in histograms.items() if one is not None},
        {name: one for name, one in amounts.items() if one is not None},
    )  # fmt: skip


def enough(days: int) -> None:
    """Raise `ValueError` if there are too few days."""
    if days < LEAST_IN_ALL:
        raise ValueError(f"reference: expected at least {LEAST_IN_ALL} whole days, got {days}")


def histogram(days: Sequence[Day], name: str, *, ordered: bool) -> Statistic | None:
    """What was usual of a histogram; None if too few days have it."""
    some = [watched_shares(day.counts[name], ordered=ordered) for day in days]
    kinds = [day.kind for day in days]
    found = statistic(kinds, [log_odds(*one) for one in some])
    plain = statistic(kinds, [share / np.maximum(whole, 1) for share, whole in some])
    if found is None or plain is None:
        return None
    usual = {}
    for kind, one in found.usual.items():
        alike = [day for day in days if day.kind == kind] if one.days < len(days) else days
        whole = np.sum([day.counts[name] for day in alike], axis=0)
        usual[kind] = replace(one, shares=tuple(shares(whole).tolist()))
    return replace(found, usual=usual, swing=plain.spread)


def amount(days: Sequence[Day], name: str) -> Statistic | None:
    """What was usual of an amount; None if too few days have it."""
    return statistic([day.kind for day in days], [np.array([day.amounts[name]]) for day in days])


def statistic(kinds: Sequence[str], values: Sequence[Array]) -> Statistic | None:
    """What is usual of some days' values; without enough days of each kind, of all. None if there are too few."""
    if len(values) < LEAST_IN_ALL:
        return None
    by_kind = {
        kind: np.array([value for its, value in zip(kinds, values, strict=True) if its == kind]) for kind in KINDS
    }
    freedom = len(values) - len(KINDS)
    if min(len(some) for some in by_kind.values()) < LEAST_DAYS:
        by_kind, freedom = dict.fromkeys(KINDS, np.array(values)), len(values) - 1
    left = np.concatenate([some - some.mean(axis=0) for some in {id(some): some for some in by_kind.values()}.values()])
    spread = np.sqrt((left**2).sum(axis=0) / freedom)
    usual = {kind: Usual(tuple(some.mean(axis=0).tolist()), len(some)) for kind, some in by_kind.items()}
    return Statistic(tuple(spread.tolist()), freedom, usual)


def watched_shares(counts: Array, *, ordered: bool) -> tuple[Array, Array]:
    """What is watched of a histogram: how many calls are in each part, and of how many.

    Of an ordered one the parts are all below each cut, and all that is missing: a value that moves from one narrow bin
    to the next moves nothing. Of a category they are its bins. All are parts of all calls, also of those for which
    nothing is known: what is known of few calls is of few trunks or devices, and they come and go.

    >>> [part.tolist() for part in parts(np.array([1, 2, 3, 4]), ordered=True)]
    [[1, 3, 4], [10, 10, 10]]
    """
    found = np.append(np.cumsum(counts[:-2]), counts[-1]) if ordered else counts
    return found, np.full(len(found), counts.sum())


def log_odds(some: Array, whole: Array) -> Array:
    """Of shares; half a call more in and outside of each, for there may be none."""
    return np.asarray(np.log((some + 0.5) / (whole - some + 0.5)))


def chance(expected: Array, whole: Array) -> Array:
    """What chance alone does to the log-odds of shares that are expected of so many calls: standard deviation."""
    return np.asarray(np.sqrt(1 / (whole * expected + 0.5) + 1 / (whole * (1 - expected) + 0.5)))


def shares(counts: Array) -> Array:
    """Shares of bins; half a call more in each keeps an empty one from being infinitely surprising."""
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def psi(one: Array, other: Array) -> float:
    """Population stability index of two sets of shares, in nats.

    >>> round(psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])), 4)
    0.0405
    """
    return float(((one - other) * np.log(one / other)).sum())


def ks(one: Array, other: Array) -> float:
    """Kolmogorov-Smirnov distance at the cuts; the last bin, of what is missing, is left out.

    >>> round(ks(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.6, 0.2])), 4)
    0.375
    """
    watched_shares = [np.cumsum(each[:-1] / max(each[:-1].sum(), 1e-12)) for each in (one, other)]
    return float(np.abs(watched_shares[0] - watched_shares[1]).max())


def write_reference(reference: Reference, path: Path) -> None:
    """Write it as JSON, numbers to six digits: no more was measured."""
    told = {"format": FORMAT, **asdict(reference)}
    text = json.dumps(_short(told), indent=None, separators=(",", ":"), sort_keys=True, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_reference(path: Path) -> Reference:
    """Read what `write_reference` wrote.

    Raises:
        ValueError: in one line, if it is no reference of this version.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected the reference of a run")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        cuts = {name: tuple(values) for name, values in told.pop("cuts").items()}
        sections = {name: _statistics(told.pop(name)) for name in ("histograms", "amounts")}
        return Reference(told["model"], told["first"], told["last"], cuts, sections["histograms"], sections["amounts"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected the reference of a run: {error}") from None


def _statistics(told: Mapping[str, Any]) -> dict[str, Statistic]:
    return {
        name: Statistic(
            tuple(one["spread"]),
            one["freedom"],
            {
                kind: Usual(tuple(usual["mean"]), usual["days"], tuple(usual["shares"]))
                for kind, usual in one["usual"].items()
            },
            tuple(one["swing"]),
        )
        for name, one in told.items()
    }


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
