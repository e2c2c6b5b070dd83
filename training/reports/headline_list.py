"""The figures of a headline: one list of names and formats, for MLflow, terminal, run page and model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from callsieve.training.judging.detection import SOON
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.run_figures import ScoreFigures
from callsieve.training.language import gettext, phrase

from .wording import between, bracketed, count, is_number, one_in, pass_share, share, span, until

Values = Mapping[str, float | None]
OTHER_WEIGHTS = ("catch_by_caller", "catch_by_callee")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a headline: its name, its value and 95 % interval as texts, and its metrics of MLflow by name.

    `name` is English and a name of the catalogue of languages. An interval is "" where a figure has none; a metric is
    None where it was not measured.
    """

    name: str
    value: Callable[[Headline], str]
    interval: Callable[[Headline], str] = lambda _: ""
    metrics: Callable[[Headline], Values] = lambda _: {}

    @property
    def label(self) -> str:
        """The name in the language in force, for a table."""
        return phrase(self.name)

    @property
    def title(self) -> str:
        """The name in the language in force, for a heading."""
        return self.label[:1].upper() + self.label[1:]

    def cell(self, head: Headline) -> str:
        """Returns the value, and the interval in brackets if there is one."""
        return self.value(head) + bracketed(self.interval(head))


def flagged(figures: Mapping[str, object]) -> str:
    """Returns the innocent calls that are flagged, of all: any figures with `false_calls` and `benign_calls`."""
    part, whole = count(figures["false_calls"]), count(figures["benign_calls"])
    return gettext("%(part)s of %(whole)s", part=part, whole=whole)


def certified(head: Headline) -> str:
    """Returns whether the threshold is certified, at which target, and whether it flags anything at all."""
    target = one_in(head["target"])
    if not head["certified"]:
        return gettext("no, at %(target)s", target=target)
    nothing = head["catch"]["call"]["rate"] == 0
    return gettext("yes, but it flags nothing") if nothing else gettext("yes, at %(target)s", target=target)


def in_hindsight(head: Headline) -> str:
    """Returns the catch rate in hindsight; a dash for actions, which have no ranking."""
    return share(head["in_hindsight"]) if is_number(head["in_hindsight"]) else "–"


def _caught(name: str, weight: Literal["call", "caller", "callee"]) -> Figure:
    def metrics(head: Headline) -> Values:
        rate, metric = head["catch"][weight], f"catch_by_{weight}"
        return {metric: rate["rate"], f"{metric}_low": rate["low"], f"{metric}_high": rate["high"]}

    def interval(head: Headline) -> str:
        return span(head["catch"][weight]["low"], head["catch"][weight]["high"])

    return Figure(name, lambda head: share(head["catch"][weight]["rate"]), interval, metrics)


def _until(name: str, quantile: Literal["median", "p90"], floor: Literal["median_floor", "p90_floor"]) -> Figure:
    def metrics(head: Headline) -> Values:
        detection = head["detection"]
        value = detection[quantile]
        # A gate on a quantile reads the floor where the quantile itself is infinite.
        return {f"detection_{floor}": detection[floor]} if value is None else {f"detection_{quantile}": value}

    def interval(head: Headline) -> str:
        return between(head["detection"], quantile) if is_number(head["detection"].get(f"{quantile}_low")) else ""

    return Figure(f"calls until detection, {name}", lambda head: until(head["detection"], quantile), interval, metrics)


FLAGGED = Figure("innocent calls flagged", flagged, metrics=lambda head: {"false_calls": head["false_calls"]})
AT_MOST = Figure("at most (95 % bound)", lambda head: one_in(head["bound"]))
PASSED = Figure(
    "innocent calls passed, at least (95 %)",
    lambda head: pass_share(head["bound"]),
    metrics=lambda head: {"benign_error_bound": head["bound"]},
)
OF_ORGANISATIONS = Figure(
    "innocent calls passed, by organisation (95 %)", lambda head: pass_share(head["bound_by_organisation"])
)
CERTIFIED = Figure("certified", certified)
CAUGHT = _caught("nuisance calls caught", "call")
BY_CALLER, BY_CALLEE = _caught("caught, by caller", "caller"), _caught("caught, by person called", "callee")
HINDSIGHT = Figure("caught, in hindsight", in_hindsight)
DETECTED = Figure("numbers detected", lambda head: share(head["detection"]["detected_share"]))
DETECTED_SOON = Figure(
    f"detected within {SOON} calls",
    lambda head: share(head["detection"]["soon_share"]),
    lambda head: span(head["detection"]["soon_low"], head["detection"]["soon_high"]),
    lambda head: {f"found_within_{SOON}_calls": head["detection"]["soon_share"]},
)
MEDIAN, MOST = _until("median", "median", "median_floor"), _until("nine in ten", "p90", "p90_floor")
STOPPED = Figure(
    "calls of new numbers stopped",
    lambda head: share(head["detection"]["stopped_share"]),
    metrics=lambda head: {"lifetime_calls_stopped": head["detection"]["stopped_share"]},
)
HEADLINE = (
    *(FLAGGED, PASSED, OF_ORGANISATIONS, CERTIFIED, CAUGHT, BY_CALLER, BY_CALLEE),
    *(DETECTED, DETECTED_SOON, MEDIAN, MOST, STOPPED),
)
OF_BASELINES = (CAUGHT, BY_CALLER, BY_CALLEE, DETECTED_SOON, STOPPED, HINDSIGHT)
OF_DEMO = (FLAGGED, OF_ORGANISATIONS, CERTIFIED, CAUGHT, DETECTED_SOON, STOPPED)
OF_FOLDERS = (FLAGGED, CAUGHT, DETECTED_SOON, STOPPED)


def rows(figures: Sequence[Figure], heads: Sequence[Headline]) -> list[list[str]]:
    """Returns a row for each figure: its name, and its value with its interval for each headline."""
    return [[figure.label, *map(figure.cell, heads)] for figure in figures]


def headline_metrics(figures: ScoreFigures) -> dict[str, float]:
    """Returns the headline as flat metrics for MLflow; figures that are None are left out.

    About a dozen of the model have no group, so MLflow shows them first. The others are in the groups "other weights",
    "policy" and "rule".
    """
    values: dict[str, float | None] = {"auc": figures["ranking"]["auc"], "ece": figures["reliability"]["ece"]}
    headlines = figures["headline"]
    return {
        **{name: value for name, value in values.items() if value is not None},
        **scorer_metrics("model", headlines["model"]),
        **scorer_metrics("policy", headlines["policy"], (FLAGGED, PASSED, CAUGHT)),
        **scorer_metrics("rule", headlines["rule"], (FLAGGED, PASSED, CAUGHT)),
    }


def scorer_metrics(scorer: str, head: Headline, figures: Sequence[Figure] = HEADLINE) -> dict[str, float]:
    """Returns the headline of the model, the policy or the rule as flat metrics; figures that are None are left out."""
    values = {name: value for figure in figures for name, value in figure.metrics(head).items()}
    return {metric_name(scorer, name): value for name, value in values.items() if value is not None}


def metric_name(scorer: str, name: str) -> str:
    """Returns the name of a metric in MLflow.

    >>> metric_name("model", "false_calls"), metric_name("model", "catch_by_caller"), metric_name("rule", "false_calls")
    ('model_false_calls', 'other weights/model_catch_by_caller', 'rule/false_calls')
    """
    if scorer != "model":
        return f"{scorer}/{name}"
    return f"{'other weights/' if name.startswith(OTHER_WEIGHTS) else ''}model_{name}"
