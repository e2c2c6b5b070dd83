"""The types of the figures of scored calls, from the judge to MLflow, the run page and the terminal.

All are plain JSON values: a `TypedDict` is written to `figures.json` and to `--json` as it is. A rate is a share from 0
to 1. None means that there was nothing to measure, or that a value is infinite. An interval (`low`, `high`) is a 95 %
interval, a `bound` a one-sided 95 % upper bound. `ScoreFigures` has all of them; `run_figures` extends it.
"""

from __future__ import annotations

from typing import Literal, TypedDict

Point = list[float]  # false positive rate, catch rate


class Rate(TypedDict):
    """A share, 0 to 1, with its interval over resampled callers."""

    rate: float | None
    low: float | None
    high: float | None


class Mean(TypedDict):
    """A mean over numbers with its interval over resampled numbers."""

    mean: float | None
    low: float | None
    high: float | None


class Catch(TypedDict):
    """Catch rate of nuisance calls: of all calls, of callers with a caught call, and averaged over people called."""

    call: Rate
    caller: Rate
    callee: Rate


class Quantiles(TypedDict):
    """Calls until a nuisance number is detected, for half of the numbers and for nine in ten.

    None where the quantile is infinite, since too few numbers are ever detected. A `floor` counts an undetected number
    by the calls that it made.
    """

    median: float | None
    median_floor: int | None
    median_low: int | None
    median_high: float | None
    p90: float | None
    p90_floor: int | None
    p90_low: int | None
    p90_high: float | None


class Detection(Quantiles):
    """Detection over the whole lives of new nuisance numbers: how many numbers and calls, and shares of them.

    `detected_share`: numbers detected at all. `soon_share`: numbers detected within their first 10 calls, with an exact
    interval. `stopped_share`: share of all their calls from the detecting one on.
    """

    callers: int
    calls: int
    detected_share: float | None
    soon_share: float | None
    soon_low: float | None
    soon_high: float | None
    stopped_share: float | None


class FalseCalls(TypedDict):
    """Innocent calls judged and flagged, and the bound of the rate of flagged ones (exact, calls as independent)."""

    benign_calls: int
    false_calls: int
    bound: float


class Headline(FalseCalls):
    """The operating point of one scorer.

    `target`: the highest rate of flagged innocent calls for a certificate. `bootstrap`: ends of the interval of that
    rate over resampled callers. `bound_by_organisation`: its bound for a call of an unseen organisation, of which
    `organisations` were judged. `in_hindsight`: catch rate by call at the threshold that flags exactly the target share
    of these test calls.
    """

    target: float
    certified: bool
    bootstrap: list[float]
    organisations: int
    bound_by_organisation: float
    catch: Catch
    detection: Detection
    in_hindsight: float | None


class RuleHeadline(Headline):
    """The operating point of the rule on calls per hour, and the rule in words."""

    rule: str


class PolicyHeadline(Headline):
    """The operating point of rules and model together: calls with another action than "pass".

    `policy` is the version of the policy. Rules that need a register are left out. An action has no ranking, so
    `in_hindsight` is None.
    """

    policy: str


class Headlines(TypedDict):
    """The model alone, the whole policy, and the rule on calls per hour, on the same calls."""

    model: Headline
    policy: PolicyHeadline
    rule: RuleHeadline


class Ranking(TypedDict):
    """How well scores order calls, over all thresholds; None unless there are both innocent and nuisance calls."""

    calls: int
    nuisance: int
    auc: float | None
    average_precision: float | None


class Outcomes(TypedDict):
    """Judged calls by truth and verdict at the certified thresholds, and the numbers that made them."""

    nuisance_flagged: int
    nuisance_passed: int
    nuisance_numbers: int
    innocent_flagged: int
    innocent_passed: int
    innocent_numbers: int


class Histogram(TypedDict):
    """Judged calls by raw score, relative to the threshold of the caller's number class: it is 0 for all of them."""

    edges: list[float]
    nuisance: list[int]
    innocent: list[int]


class Slice(TypedDict):
    """One kind of caller at the certified threshold.

    Nuisance: `rate` is the catch rate. Benign: `rate` is the pass rate, `low` its exact lower bound, `high` 1,
    `bound` the upper bound of the error. `certified` is None for nuisance.
    """

    slice: str
    nuisance: bool
    calls: int
    callers: int
    flagged: int
    rate: float
    low: float
    high: float
    bound: float | None
    certified: bool | None


class Bucket(FalseCalls):
    """Nuisance calls caught and innocent calls flagged, by how many calls the number had made before."""

    bucket: str
    calls: int
    callers: int
    catch: float | None
    low: float | None
    high: float | None


class Bin(TypedDict):
    """Calls of like probability, from `low` to `high`: mean predicted probability, and observed share of nuisance."""

    calls: int
    low: float
    high: float
    predicted: float
    observed: float


class Reliability(TypedDict):
    """Predicted against observed; `ece` is the mean gap of the bins, weighted by their calls. None without scores."""

    bins: list[Bin]
    ece: float | None
    log_loss: float | None


class SliceReliability(TypedDict):
    """Predicted against observed for calls of one slice known at ring time; the interval is of `observed`."""

    slice: str
    calls: int
    callers: int
    predicted: float
    observed: float
    low: float
    high: float
    ece: float | None


class DetectionCurve(TypedDict, total=False):
    """Share of nuisance numbers that are detected within each number of `calls`; empty without a new number."""

    calls: list[int]
    model: list[float]
    rule: list[float]


class PrecisionAtPrior(TypedDict):
    """Share of flagged calls that are nuisance if `prior` of all calls are."""

    prior: float
    precision: float | None


class EvasionDetection(Quantiles):
    """Share of numbers detected, and share of their calls from the detecting one on."""

    detected: float | None
    stopped: float | None


class KnownGroup(TypedDict):
    """New numbers of groups that the model was trained on; None where the groups are not known."""

    numbers: int | None
    calls: int | None
    detected: float | None
    calls_through_a_number: Mean


class Evasion(TypedDict):
    """The gain of one evasion, over new numbers of groups that the model was not trained on.

    `judged_calls` and `caught` are of the calls of the headline. `caught` is of the model alone, `caught_by_rules` of
    the policy's rules alone, `caught_by_policy` of both. `calls_through_a_number`: calls before the first one that the
    model catches. `times_plain`: their mean over that of numbers without an evasion.
    """

    attack: str
    judged_calls: int
    caught: Rate
    caught_by_rules: Rate
    caught_by_policy: Rate
    numbers: int
    calls: int
    detection: EvasionDetection
    calls_through_a_number: Mean
    people_reached_by_a_number: Mean
    times_plain: float | None
    known_group: KnownGroup


class ClassFigures(TypedDict):
    """How often the predicted class of a flagged nuisance call, its content or its mode, is right.

    `right` (with its interval): share of calls with the true class. `commonest`: the share if
    the most common class were predicted for every call. `sure`: share of calls whose class has a probability of at
    least 80 %.
    """

    kind: Literal["content", "mode"]
    classes: int
    calls: int
    callers: int
    right: float
    low: float
    high: float
    commonest: float
    sure: float
    right_if_sure: float | None


class CertificateFigures(FalseCalls):
    """A certificate on a fold that the threshold was not chosen on."""

    fold: str
    confidence: float
    target: float
    certified: bool


class BandFigures(TypedDict):
    """A band of scores: its threshold (raw score), and its certificates overall and by stratum.

    `silent`: strata for which the band abstains. `raised`: strata with a higher threshold.
    """

    name: str
    target: float
    threshold: float
    silent: list[str]
    raised: dict[str, float]
    certificate: CertificateFigures
    strata: dict[str, CertificateFigures]


class ScoreFigures(TypedDict):
    """Figures of a model on scored calls, beside those of the rule on calls per hour."""

    headline: Headlines
    ranking: Ranking
    outcomes: Outcomes
    histogram: Histogram
    slices: list[Slice]
    attacks: list[Evasion]
    buckets: list[Bucket]
    reliability_by: list[SliceReliability]
    curve: dict[str, list[Point]]
    detection_curve: DetectionCurve
    reliability: Reliability
    precision_at_prior: list[PrecisionAtPrior]
