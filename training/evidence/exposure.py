"""Complaints about a caller, and those who could have complained: the evidence of an unequal exposure.

A caller without a complaint is innocent only as far as people who answered could have complained. So complaints about
a caller are counts with an exposure, the number of distinct people who answered it, of whom those who answered lately
count for the share of their complaints that has arrived by now. The rate of complaints is gamma-distributed among the
callers of a class, because some kinds are reported often and others never, so counts are negative binomial.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import minimize
from scipy.special import expit, gammaln

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import factorize
from callsieve.serving.batch.keyed_rows import milliseconds
from callsieve.training.data.credibility import (
    LEAST_WEIGHT,
    recorded_before,
    weighted_complaints,
)

from .callers import SLOPE, SLOPE_SD, called_as_people_are, called_first_by, report_evidence

if TYPE_CHECKING:
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.data.label_policy import ComplaintRules

LEAST_EXPOSED = 0.5  # people; a complaint about a caller whom nobody answered is evidence, too
# Log-odds that complaints give or take at most. A crowd that reports an innocent number moves it no further.
MOST_EVIDENCE = 4.0
SHAPE, SHAPE_SD = 0.5, 1.5  # of the gamma distribution of rates, and the deviation of its logarithm
STEPS = 3  # of expectation and maximisation


def exposures(dataset: Dataset, cutoff: pd.Timestamp, rules: ComplaintRules) -> pd.DataFrame:
    """Returns complaints and exposure of each caller as known at `cutoff`; index: the token.

    Returns: `reports`, `exposed`, and `as_people`, whether people call it first (`called_as_people_are`).

    A complaint counts with its weight, at most 1, and one that a person makes in a number's favour takes as much away.
    Complaints that no call explains do not count, and all together count for no more than a burst of the label policy.
    """
    moment = int(cutoff.timestamp() * 1000)
    earlier = dataset.calls.filter(pc.less(dataset.calls["start"], moment))
    code, count = factorize(earlier["caller"])
    token = pc.unique(pc.dictionary_decode(earlier["caller"].combine_chunks())).to_numpy(zero_copy_only=False)
    complaints = weighted_complaints(dataset, cutoff, rules)
    weight = np.where(complaints["weight"] >= LEAST_WEIGHT, np.minimum(complaints["weight"], 1.0), 0.0)
    about = pd.Index(token).get_indexer(complaints["number"].astype(str))
    signed = np.where(complaints["against"], weight, -weight)[about >= 0]
    reports = np.bincount(about[about >= 0], signed, minlength=count)
    taken = pc.and_(pc.equal(earlier["outcome"].cast(pa.string()), "answered"), recorded_before(earlier, moment))
    answered = np.asarray(taken.to_numpy(), dtype=bool)
    callee = factorize(earlier["callee"])[0]
    start = earlier["start"].to_numpy()
    pairs = np.unique(code[answered] * (int(callee.max(initial=0)) + 1) + callee[answered], return_index=True)[1]
    first = np.flatnonzero(answered)[pairs]
    at, known = (milliseconds(complaints[name]).to_numpy() for name in ("at", "known_at"))
    arrived = arrived_share(known - at, moment - at, moment - start[first])
    exposed = np.bincount(code[first], arrived, minlength=count)
    reports = np.clip(reports, 0.0, np.maximum(rules.burst_voices, rules.burst_share * exposed))
    as_people = called_as_people_are(*called_first_by(earlier, code, token))
    return pd.DataFrame({"reports": reports, "exposed": exposed, "as_people": as_people}, token)


def arrived_share(delay: Array, horizon: Array, waited: Array) -> Array:
    """Returns the share of complaints that arrive within each of some times.

    Complaints whose delay is longer than their time until now are not seen, so the share is the product-limit estimate
    for truncated delays (Lynden-Bell 1971).

    Args:
        delay, horizon: time until it arrived, and time until now, of each complaint. waited: times in question.

    >>> arrived_share(np.array([1, 1, 3]), np.array([2, 2, 4]), np.array([0, 1, 2, 3])).round(2).tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    if not len(delay):
        return np.ones(len(waited))
    steps, times = np.unique(delay, return_counts=True)
    at_risk = np.searchsorted(np.sort(delay), steps, side="right") - np.searchsorted(np.sort(horizon), steps)
    stay = np.append(1 - times / (at_risk + 1), 1.0)  # one more at risk, so that a single late complaint decides little
    share = np.cumprod(stay[::-1])[::-1][1:]
    return np.asarray(np.append(0.0, share)[np.searchsorted(steps, waited, side="right")])


def complaint_ratio(reports: Array, exposed: Array, nuisance: Array) -> Array:
    """Returns the log-likelihood ratio of a nuisance and an innocent caller by their complaints. Shape (callers,).

    Mean rate and shape of each class are those of highest likelihood, given how likely each caller is nuisance. Where
    nuisance callers are not reported more often, complaints tell nothing and the ratio is 0. As some nuisance callers
    are never reported, few complaints are little evidence (`report_evidence`).

    Args:
        nuisance: probability that each caller is nuisance.
    """
    cells, cell = np.unique(np.column_stack([reports, exposed]).round(1), axis=0, return_inverse=True)
    counts, exposure = cells[:, 0], np.maximum(cells[:, 1], LEAST_EXPOSED)
    good, bad = (fitted_rate(counts, exposure, np.bincount(cell.ravel(), p)) for p in (1 - nuisance, nuisance))
    if bad[0] <= good[0]:
        return np.zeros(len(reports))
    ratio = log_likelihood(counts, exposure, *bad) - log_likelihood(counts, exposure, *good)
    return report_evidence(ratio)[cell.ravel()]


def bounded(ratio: Array) -> Array:
    """Returns what complaints count for: at most MOST_EVIDENCE, so that a crowd does not outweigh all else."""
    return np.minimum(ratio, MOST_EVIDENCE)


def log_likelihood(reports: Array, exposed: Array, rate: float, shape: float) -> Array:
    """Returns the log-likelihood of each count for a gamma-distributed rate, but for a term of the count alone."""
    mean = rate * exposed
    chance = shape * np.log(shape / (shape + mean)) + reports * np.log(mean / (shape + mean))
    return np.asarray(gammaln(reports + shape) - gammaln(shape) + chance)


def fitted_rate(reports: Array, exposed: Array, weight: Array) -> tuple[float, float]:
    """Returns mean and shape of the gamma-distributed rate of some callers, the most likely ones.

    >>> rng = np.random.default_rng(1)
    >>> exposed = rng.integers(1, 400, 20_000)
    >>> counts = rng.poisson(exposed * rng.gamma(2.0, 0.03 / 2.0, 20_000))
    >>> np.round(fitted_rate(counts, exposed, np.ones(20_000)), 2).tolist()
    [0.03, 2.0]
    """
    mean = float((weight @ reports + 0.01) / (weight @ exposed + 1.0))

    def loss(point: Array) -> float:
        rate, shape = np.exp(point)
        prior = ((point[1] - np.log(SHAPE)) / SHAPE_SD) ** 2 / 2
        return float(prior - weight @ log_likelihood(reports, exposed, rate, shape))

    best = minimize(loss, np.log([mean, SHAPE]), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-4})
    rate, shape = np.exp(best.x)
    return float(rate), float(shape)


def log_odds_with(score: Array, first: Array, others: Array, ratio_of: Callable[[Array], Array]) -> Array:
    """Returns the log-odds that each caller is nuisance by score, complaints and other evidence. Shape (callers,).

    Expectation and maximisation: the rates of complaints and the line of the score are those that go best with how
    likely each caller is nuisance, and the other way round. A crowd moves a caller by at most MOST_EVIDENCE.

    Args:
        score: of each caller; without one (NaN), `first` stays. first: log-odds to begin with. others: other evidence.
        ratio_of: returns the evidence of complaints for a probability of each caller (`complaint_ratio`).
    """
    scored, log_odds = np.isfinite(score), first
    for _ in range(STEPS):
        evidence = bounded(ratio_of(expit(log_odds))) + others
        shift, slope = prior_line(score[scored], evidence[scored])
        log_odds = np.where(scored, shift + slope * np.nan_to_num(score) + evidence, first)
    return log_odds


def prior_line(score: Array, ratio: Array) -> tuple[float, float]:
    """Returns shift and slope of the prior log-odds on the score, the most likely ones by what complaints say.

    Args:
        score: mean score of each caller. ratio: log-likelihood ratio of both classes by its complaints.
    """

    def loss(line: Array) -> tuple[float, Array]:
        prior = line[0] + line[1] * score
        change = expit(prior) - expit(prior + ratio)
        gain = np.logaddexp(0, prior + ratio) - np.logaddexp(0, prior)
        far = (line[1] - SLOPE) / SLOPE_SD
        return far**2 / 2 - gain.sum(), np.array([change.sum(), far / SLOPE_SD + change @ score])

    shift, slope = minimize(loss, (0.0, SLOPE), jac=True, method="L-BFGS-B", bounds=((None, None), (0.1, None))).x
    return float(shift), float(slope)
