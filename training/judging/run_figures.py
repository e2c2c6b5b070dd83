"""The types of the figures that a recorded run adds to its judgement, for MLflow, the pages and the terminal.

All are plain JSON values, with the conventions of `figures`. `RecordedRun` is the root of a training.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from callsieve.training.log.looks import Look

from .figures import Judgement


class DatasetEntry(TypedDict):
    """A table of a run: SHA-256 of the whole table, its rows, its source, and "training" or "evaluation".

    `purpose`: of a table from a folder, what its declaration permits, or "undeclared".
    """

    sha256: str
    rows: int
    source: str
    context: str
    purpose: NotRequired[str]


class SingleFeature(TypedDict):
    """The feature that alone ranks callers best."""

    name: str
    auc: float


class LeakProbes(TypedDict):
    """Result of the leak probes: counts of recomputed vectors and labels, and columns that the split separates."""

    vectors_again: int
    labels_again: int
    separated: list[str]
    best_single_feature: SingleFeature | None


class GateEntry(Look):
    """The gates of a run, logged before it as `entry`, the look at its test fold, and the metrics that fail a gate."""

    sha256: str
    entry: int
    refused: list[str]
    owner: str


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


class RunShift(TypedDict):
    """A statistic that differs from the reference of the earlier run, and on how many `days` it does.

    `z`: deviations from the usual value. Histograms have `psi` and `ks`, and in `part` the bin that moved most.
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
    days: int


class RunDrift(TypedDict):
    """Statistics that differ from the run before on at least half of the days.

    `reference`: first and last day of that run. `moved` of the `compared` statistics differ; `shifts` has the largest.
    """

    run: str
    model: str
    reference: list[str]
    days: int
    compared: int
    moved: int
    shifts: list[RunShift]


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
    the run.
    """

    leak_probes: LeakProbes
    catalogue: str
    code: dict[str, str]
    gates: GateEntry
    last_day: LastDay
    drift: RunDrift | None
    next: list[str]
    learning_curve: list[float]
    made_by: str


class RecordedRun(RunFigures):
    """A training with the places of its record in MLflow and in the audit log: `callsieve train --json`."""

    tracking: TrackedRun
    audit: LogEntry
