"""The types of the figures of a headline, and their conventions, from the judge to MLflow, run page and terminal.

Figures are plain JSON values: a `TypedDict` is written to `figures.json` and to `--json` as it is. A rate is a share
from 0 to 1. None means that there was nothing to measure, or that a value is infinite. An interval (`low`, `high`) is a
95 % interval, a `bound` a one-sided 95 % upper bound. Other figures have their types where they are computed;
`run_figures` has the whole.
"""

from __future__ import annotations

from typing import TypedDict

from callsieve.training.model.certify import FalseCalls

Point = list[float]  # false positive rate, catch rate


class Rate(TypedDict):
    """A share, 0 to 1, with its interval over resampled callers."""

    rate: float | None
    low: float | None
    high: float | None


class EqualError(TypedDict):
    """A model and its base on the same judged calls, with as many innocent calls flagged by both.

    calls, callers: nuisance. innocent: calls. flagged: of these by the model, at its thresholds. base_flagged: by the
    base, at its own. caught: by the model. base_caught: by the base, at the error of the model.
    """

    calls: int
    callers: int
    innocent: int
    flagged: int
    base_flagged: int
    caught: float | None
    base_caught: float | None


class Gain(Rate):
    """How many more of the nuisance calls of `callers` a model catches than the shipped model, on the same calls.

    `better`: whether the interval is above 0, of at least 30 callers, with no more innocent calls flagged than by the
    shipped model or than the target allows.
    """

    callers: int
    better: bool
    equal: EqualError


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


class HourlyRule(TypedDict):
    """A rule on calls per hour: more than so many are flagged; some number classes may have a higher limit."""

    more_than: int
    higher_for_some: bool


class RuleHeadline(Headline):
    """The operating point of the rule on calls per hour, and the rule."""

    rule: HourlyRule


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
