"""The types of the figures of a study of several trainings, for the terminal and for `--json`.

All are plain JSON values, with the conventions of `training.judging.figures`.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from callsieve.training.judging.figures import Rate
from callsieve.training.judging.run_figures import RowCounts
from callsieve.training.model.certify import FalseCalls
from callsieve.training.oversight.log.looks import Look


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


class SearchFigures(TypedDict):
    """The best parameters of a search, and the held-out figures of the best and of the shipped parameters."""

    study: str
    trials: int
    best: int
    parameters: dict[str, float]
    figures: dict[str, float]
    shipped: dict[str, float]
    rows: int
    groups: int
    run: str
    seconds: float


class Share(TypedDict):
    """`part` of `whole`, with the exact two-sided 95 % interval of the share (Clopper and Pearson 1934)."""

    part: int
    whole: int
    rate: float | None
    low: float
    high: float


class HitFigures(TypedDict):
    """The hits of one rule against the truth, by call and by caller.

    `benign_slices`, `nuisance_modes` and `attacks`: the share of each name's calls that were hit, most hits first.
    """

    calls: int
    precision: Share
    recall: Share
    caller_precision: Share
    caller_recall: Share
    benign_slices: dict[str, Share]
    nuisance_modes: dict[str, Share]
    attacks: dict[str, Share]


class RegionFigures(TypedDict):
    """The innocent callers of a listed region, and the share of their calls that do not pass.

    `with_rule`: under the policy. `without_rule`: without its rule on regions. `by_model`: by bands alone.
    """

    callers: int
    nuisance: Share
    with_rule: Share
    without_rule: Share
    by_model: Share


class HitsApart(TypedDict):
    """Calls that the model's band, the acting rules, both or neither flag."""

    model_alone: int
    rules_alone: int
    both: int
    neither: int


class BandFigures(TypedDict):
    """Hits of a band apart from those of the rules; `catch` and `false` are over all calls, or those without a rule."""

    nuisance: HitsApart
    benign: HitsApart
    catch: Share
    catch_without_rule_hits: Share
    false: Share
    false_without_rule_hits: Share


class ModelBesideRules(BandFigures, Look):
    """The certified band of a model on the judged calls; `certificate` is as in the bundle."""

    id: str
    band: str
    certificate: dict[str, Any]


class RuleFigures(TypedDict):
    """Each rule against the truth; `regions` by name, "" for calls of no listed region; `model` with a bundle."""

    data: str
    policy: str
    registers: int
    calls: int
    nuisance: int
    rules: dict[str, HitFigures]
    regions: dict[str, RegionFigures]
    model: NotRequired[ModelBesideRules]


class Changes(TypedDict):
    """Calls that change action under another policy.

    `actions` and `slices`: rows with `from`, `to`, `calls` and `callers`, and the name of the slice. `rules`: number of
    changed calls that meet each rule.
    """

    changed: int
    actions: list[dict[str, Any]]
    slices: dict[str, list[dict[str, Any]]]
    rules: dict[str, int]


class PolicyDifference(Changes):
    """Two policies on the same calls; the look is there if the calls have a known truth."""

    old: str
    new: str
    model: str
    purpose: str
    calls: int
    fold: NotRequired[str | None]
    touches: NotRequired[int | None]
    registered: NotRequired[bool]
