"""The types of all figures about a model, from the judge to MLflow, the run page and the terminal.

All are plain JSON values: a `TypedDict` is written to `figures.json` and to `--json` as it is. A rate is a share from 0
to 1. None means that there was nothing to measure, or that a value is infinite. An interval (`low`, `high`) is a 95 %
interval, a `bound` a one-sided 95 % upper bound. Two roots extend `ScoreFigures`: `Judgement` for a training,
and `EvaluationFigures` for a bundle on other calls. `run_figures` has the types that a recorded run adds.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from callsieve.training.log.looks import Look

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


class TopFeature(TypedDict):
    """A feature with its description, and its Shapley values in log-odds over a sample of the judged calls.

    `share`: of the mean absolute values of all features. `nuisance`, `innocent`: mean value over calls of that kind.
    """

    name: str
    en: str
    share: float
    nuisance: float
    innocent: float


class ModelFigures(TypedDict):
    """The size of the model. `id` is known once the bundle is written. `estimator` is "" or names an own one."""

    trees: dict[str, int]
    features: int
    calibration: str
    estimator: str
    top_features: list[TopFeature]
    id: NotRequired[str]


class ModelId(TypedDict):
    """The id of the judged model."""

    id: str


class CallCounts(TypedDict):
    """Number of calls, of distinct numbers and of days, and the share of nuisance among the calls."""

    calls: int
    numbers: int
    days: int
    nuisance_share: float


class DataFigures(CallCounts):
    """The calls: SHA-256 of the table, source, whether truth or labels judge them, and which calls are judged."""

    fingerprint: str
    judged_by: str
    judged_on: str
    source: str


class TrainingData(DataFigures):
    """The calls of a training, its number of folders, what it learnt from ("labels" or "truth"), and its seed.

    `fingerprint` is of the last folder.
    """

    folders: int
    learn_from: str
    seed: int


class FoldSpans(TypedDict):
    """Begin and end of each fold, and the moment after which no label was used; ISO 8601."""

    train: list[str]
    choose: list[str]
    certify: list[str]
    label_cutoff: str


class RowCounts(TypedDict):
    """Training rows, judged calls of the certifying fold, and groups."""

    train: int
    certify: int
    groups: int


class SeenCalls(TypedDict):
    """Catch rate on the calls of groups that were seen, or were not seen, in training."""

    calls: int
    catch: Catch


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


class FeedFigures(CertificateFigures):
    """The certificate of the model on records that lack something, and its catch rate there."""

    catch: float | None


class FolderFigures(TypedDict):
    """The operating points on one of several certifying folders; `baselines` has the simpler scorers by name."""

    folder: str
    model: Headline
    policy: PolicyHeadline
    baselines: dict[str, Headline]


class Judgement(ScoreFigures):
    """Figures of a training.

    `kinds` are the class models, `baselines` the operating points of simpler scorers. `by_folder` is empty unless
    several folders certified the model. `feeds` has the poorer records by the name of the feed.
    """

    model: ModelFigures
    data: TrainingData
    folds: FoldSpans
    rows: RowCounts
    bands: list[BandFigures]
    seen: SeenCalls
    unseen: SeenCalls
    kinds: list[ClassFigures]
    baselines: dict[str, Headline]
    by_folder: list[FolderFigures]
    feeds: dict[str, FeedFigures]


class Summary(TypedDict):
    """Headline, ranking and row counts of a training; studies of many trainings compare these."""

    headline: Headline
    ranking: Ranking
    rows: RowCounts


class SeenGroupFigures(FalseCalls):
    """Error and catch rate on calls of groups that the model may have been trained on, or was not trained on."""

    calls: int
    catch: Catch


class BySeenGroups(TypedDict):
    """Figures by whether the model may have seen the caller's group; `seen_basis` states how that is known."""

    seen_basis: str
    seen: SeenGroupFigures | None
    unseen: SeenGroupFigures | None


class FeedEntry(TypedDict):
    """The feed of some records, and whether a bundle has bands for it."""

    name: str
    bands: bool


class EvaluationFigures(ScoreFigures, BySeenGroups, Look):
    """Figures of a bundle on calls that it was not trained on: `callsieve evaluate --json`."""

    model: ModelId
    feed: FeedEntry
    data: DataFigures
