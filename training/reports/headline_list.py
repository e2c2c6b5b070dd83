"""The figures of a headline: one list, from which MLflow's metrics and the terminal's tables get names and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from callsieve.training.judging.detection import SOON
from callsieve.training.judging.figures import Detection, Headline, Rate
from callsieve.training.judging.run_figures import ScoreFigures

from .wording import interval, share, until

Values = Mapping[str, float | None]
OTHER_WEIGHTS = ("catch_by_caller", "catch_by_callee")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a headline: its name in a table, how it is read and shown there, and its metrics of MLflow by name.

    A metric that is None was not measured.
    """

    text: str
    cell: Callable[[Headline], str]
    metrics: Callable[[Headline], Values] = lambda _: {}


def flagged(figures: Mapping[str, object]) -> str:
    """Returns the innocent calls that are flagged, of all: any figures with `false_calls` and `benign_calls`."""
    return f"{figures['false_calls']:,} of {figures['benign_calls']:,}"


def certified(head: Headline) -> str:
    """Returns whether the threshold is certified, and whether it flags anything at all."""
    if head["certified"] and head["catch"]["call"]["rate"] == 0:
        return "yes, but it flags nothing"
    return "yes" if head["certified"] else "no"


def soon(detection: Detection) -> Rate:
    """Returns the share of numbers detected within their first SOON calls, in the form of a rate."""
    return {"rate": detection["soon_share"], "low": detection["soon_low"], "high": detection["soon_high"]}


def _caught(weight: Literal["call", "caller", "callee"]) -> Figure:
    def metrics(head: Headline) -> Values:
        rate, name = head["catch"][weight], f"catch_by_{weight}"
        return {name: rate["rate"], f"{name}_low": rate["low"], f"{name}_high": rate["high"]}

    return Figure(f"nuisance caught, by {weight}", lambda head: interval(head["catch"][weight]), metrics)


def _until(name: str, quantile: Literal["median", "p90"], floor: Literal["median_floor", "p90_floor"]) -> Figure:
    def metrics(head: Headline) -> Values:
        detection = head["detection"]
        value = detection[quantile]
        # A gate on a quantile reads the floor where the quantile itself is infinite.
        return {f"detection_{floor}": detection[floor]} if value is None else {f"detection_{quantile}": value}

    return Figure(f"calls until detection, {name}", lambda head: until(head["detection"], quantile), metrics)


FLAGGED = Figure("innocent calls flagged", flagged, lambda head: {"false_calls": head["false_calls"]})
CERTIFIED = Figure("certified at 1 in 10,000", certified)
HEADLINE = (
    FLAGGED,
    Figure(
        "innocent calls passed, at least (95 %)",
        lambda head: f"{1 - head['bound']:.4%}",
        lambda head: {"benign_error_bound": head["bound"]},
    ),
    Figure("the same, by organisation (95 %)", lambda head: f"{1 - head['bound_by_organisation']:.2%}"),
    CERTIFIED,
    _caught("call"),
    _caught("caller"),
    _caught("callee"),
    Figure("numbers detected", lambda head: share(head["detection"]["detected_share"])),
    Figure(
        f"detected within {SOON} calls",
        lambda head: interval(soon(head["detection"])),
        lambda head: {f"found_within_{SOON}_calls": head["detection"]["soon_share"]},
    ),
    _until("median", "median", "median_floor"),
    _until("nine in ten", "p90", "p90_floor"),
    Figure(
        "calls of new numbers stopped",
        lambda head: share(head["detection"]["stopped_share"]),
        lambda head: {"lifetime_calls_stopped": head["detection"]["stopped_share"]},
    ),
)


def rows(figures: Sequence[Figure], heads: Sequence[Headline]) -> list[list[str]]:
    """Returns a row for each figure: its name, and its value for each headline."""
    return [[figure.text, *map(figure.cell, heads)] for figure in figures]


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
        **scorer_metrics("policy", headlines["policy"]),
        **scorer_metrics("rule", headlines["rule"]),
    }


def scorer_metrics(scorer: str, head: Headline) -> dict[str, float]:
    """Returns the headline of the model, the policy or the rule as flat metrics; figures that are None are left out."""
    values = {name: value for figure in HEADLINE for name, value in figure.metrics(head).items()}
    return {metric_name(scorer, name): value for name, value in values.items() if value is not None}


def metric_name(scorer: str, name: str) -> str:
    """Returns the name of a metric in MLflow.

    >>> metric_name("model", "false_calls"), metric_name("model", "catch_by_caller"), metric_name("rule", "false_calls")
    ('model_false_calls', 'other weights/model_catch_by_caller', 'rule/false_calls')
    """
    if scorer != "model":
        return f"{scorer}/{name}"
    return f"{'other weights/' if name.startswith(OTHER_WEIGHTS) else ''}model_{name}"
