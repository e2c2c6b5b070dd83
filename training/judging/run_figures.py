"""The types of the figures of a training and of a recorded run, with the conventions of `figures`.

`ScoreFigures` has the figures of scored calls. `Judgement` extends it for a training, `RecordedRun` for its record, and
`evaluate.EvaluationFigures` for a bundle on other calls.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from callsieve.training.adapt.adapted_figures import AdaptedFigures
from callsieve.training.evidence.funnel import Covered, TooFew
from callsieve.training.model.bands import FeedFigures
from callsieve.training.model.flagged import FlagFigures
from callsieve.training.oversight.log.payload_types import GateEntry

from .calls_made import Bucket, SliceReliability
from .class_figures import ClassFigures
from .evasions import Evasion
from .figures import Catch, EqualError, Gain, Headline, Headlines, Point
from .headline import BandFigures, DetectionCurve, FolderFigures, Outcomes
from .leak_probes import LeakProbes
from .metrics import Histogram, NearCaller, PrecisionAtPrior, Ranking, Reliability, Slice


class AnnouncingFigures(TypedDict):
    """Calls and callers of surveys and public announcements, which no certificate covers, and their flagged calls."""

    calls: int
    callers: int
    flagged: int


class ScoreFigures(TypedDict):
    """Figures of a model on scored calls, beside those of the rule on calls per hour."""

    headline: Headlines
    ranking: Ranking
    announcing: AnnouncingFigures
    outcomes: Outcomes
    histogram: Histogram
    slices: list[Slice]
    nearest: list[NearCaller]
    attacks: list[Evasion]
    buckets: list[Bucket]
    reliability_by: list[SliceReliability]
    curve: dict[str, list[Point]]
    detection_curve: DetectionCurve
    reliability: Reliability
    precision_at_prior: list[PrecisionAtPrior]


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
    """The size of the model. `id` is known once the bundle is written."""

    trees: dict[str, int]
    features: int
    calibration: str
    top_features: list[TopFeature]
    id: NotRequired[str]


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


class Judgement(ScoreFigures):
    """Figures of a training.

    `kinds` are the class models, `baselines` the operating points of simpler scorers. `by_folder` is empty unless
    several folders certified the model. `feeds` has the poorer records by the name of the feed, `flags` the
    certificates of model and flags together. `covered`: from all calls to those that judge, by evidence; {} with a
    truth. `too_few`: what is missing for a certificate. `odd_records`: signs that records were read in a wrong way, a
    sentence each. `gain` is over the shipped model; None without it, as in an adaptation, which stands beside its base.
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
    flags: dict[str, FlagFigures]
    covered: dict[str, Covered]
    too_few: TooFew | None
    odd_records: list[str]
    gain: Gain | None


class Summary(TypedDict):
    """Headline, ranking and row counts of a training; studies of many trainings compare these."""

    headline: Headline
    ranking: Ranking
    rows: RowCounts


class OperatingPoint(TypedDict):
    """Another model on the judged calls at its own thresholds: its headline, and the kinds of callers.

    equal: what it catches at the error of the model of the run.
    """

    headline: Headline
    slices: list[Slice]
    equal: EqualError


class DatasetEntry(TypedDict):
    """A table of a run: SHA-256 of the whole table, its rows, its source, and "training" or "evaluation".

    `purpose`: of a table from a folder, what its declaration permits, or "undeclared". `columns`: of such a table, the
    types of its columns, as MLflow names them.
    """

    sha256: str
    rows: int
    source: str
    context: str
    purpose: NotRequired[str]
    columns: NotRequired[dict[str, str]]


class ReasonText(TypedDict):
    """A rule or a reason of a verdict, in two languages."""

    en: str
    zh: str


class ExampleVerdict(TypedDict):
    """The verdict on one flagged call of the last day: rules that it meets, reasons, and its true kind of caller."""

    case: str
    action: str
    score: float | None
    band: str
    slice: str
    content: str | None
    mode: str | None
    rules: list[ReasonText]
    reasons: list[ReasonText]


class LastDay(TypedDict):
    """Verdicts on the calls of the last day: calls and callers by action, by the model's bands alone, and by rule."""

    date: str
    calls: int
    actions: dict[str, int]
    callers: dict[str, int]
    bands: dict[str, int]
    rules: dict[str, int]
    examples: list[ExampleVerdict]


class Shift(TypedDict):
    """The difference of one statistic of a day from its usual value.

    z: deviation in standard deviations; the mean of several for a combined statistic. A histogram has `psi`, `ks` (of
    the values that are not missing) and `part`, the part that moved most; `then` and `now` are shares of that part. For
    an amount they are the amount itself.
    """

    name: str
    measure: str
    z: float
    alarm: bool
    then: float
    now: float
    part: str
    psi: float | None
    ks: float | None


class TrackedRun(TypedDict):
    """Id of the run in MLflow, and the version of the registered model."""

    run: str
    version: str


class LogEntry(TypedDict):
    """Folder of the audit log, and index of the entry that commits to the run."""

    log: str
    entry: int


class RunFigures(Judgement):
    """Everything that a training measured: `figures.json`, the run page and the model card.

    `catalogue` is the hash of the features, `code` the commit, `next` has commands for the next steps.
    `learning_curve`: mean loss of the members on their held-out folds, after each tree. `made_by`: the command of
    the run. `adapted`, `base`: of an adaptation, what it rests on, and the adapted bundle's base on the same calls.
    """

    leak_probes: LeakProbes
    catalogue: str
    code: dict[str, str]
    gates: GateEntry
    last_day: LastDay
    next: list[str]
    learning_curve: list[float]
    made_by: str
    adapted: AdaptedFigures | None
    base: OperatingPoint | None


class RecordedRun(RunFigures):
    """A training with the places of its record in MLflow and in the audit log: `callsieve train --json`."""

    tracking: TrackedRun
    audit: LogEntry
