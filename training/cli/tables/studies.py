"""Studies of several trainings as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callsieve.serving.cli.console import say, show_facts, show_table
from callsieve.training.reports.run_page import NOT_MEASURED, share

from .runs import rate


def rolling(result: Mapping[str, Any]) -> None:
    """Print the spread of the headline figures over the origins."""
    kinds = ("mean", "sd", "least", "most")
    rows = [
        (name, *("unknown" if spread[kind] is None else f"{spread[kind]:.4g}" for kind in kinds))
        for name, spread in result["spread"].items()
    ]
    title = f"headline from {len(result['origins'])} origins, groups of callers unseen in training"
    show_table(title, ("figure", *kinds), rows)


def searched(result: Mapping[str, Any], folder: Path) -> None:
    """Print the best parameters of a search, and the gain over the shipped ones."""
    rows = [(name, f"{result['shipped'][name]:.6g}", f"{value:.6g}") for name, value in result["figures"].items()]
    show_table(f"{result['trials']} trials on the training set", ("held-out fold", "shipped", "best"), rows)
    show_facts("parameters", {name: f"{value:.6g}" for name, value in result["parameters"].items()})
    say(f"next     callsieve train --parameters {folder / 'parameters.toml'} ...")


def decay(result: Mapping[str, Any], folder: Path) -> None:
    """Print each period of the ageing and of the retrained model, and the area under time."""
    ways = ("once", "anew")
    rows = [
        (
            "days {} to {}".format(*period["days_after_training"]),
            *(cell for way in ways for cell in _period(period[way])),
        )
        for period in result["periods"]
    ]
    columns = ("flagged innocent", "caught, unseen groups", "caught, at 1 in 10,000", "caught, all")
    head = ("after the training", *(f"{way}: {name}" for way in ways for name in columns))
    show_table(f"trained on {result['train_days']} days, once and anew each period", head, rows)
    for name, words in (("area_under_time", "at their own thresholds"), ("area_at_target", "at 1 in 10,000")):
        once, anew = (share(result[name][way]) for way in ways)
        say(f"area under time, {words}: once {once}, anew {anew}")
    say(f"picture  {folder / 'decay.svg'}")


def _period(figures: Mapping[str, Any]) -> tuple[str, ...]:
    flagged = f"{figures['false_calls']:,} of {figures['benign_calls']:,}"
    return (flagged, *(rate(figures[calls]["call"]) for calls in ("unseen", "at_target", "all")))


def stress(result: Mapping[str, Any], folder: Path) -> None:
    """Print each label fault over all worlds, beside the clean trainings."""
    means = ("catch", "change", "catch_at_target", "change_at_target")
    rows = [
        (
            fault["fault"],
            f"{fault['certified']} of {fault['worlds']}",
            f"{fault['false_calls']:,} of {fault['benign_calls']:,}",
            *(mean_rate(fault[name]) for name in means),
            NOT_MEASURED if fault["auc"]["mean"] is None else f"{fault['auc']['mean']:.4f}",
        )
        for fault in result["faults"]
    ]
    figures = ("caught", "change in caught", "caught at 1 in 10,000", "change")
    head = ("fault", "certified", "innocent calls flagged", *figures, "AUC")
    show_table("mean over worlds, with Student's 95 % interval", head, rows)
    say(f"each training: {folder / 'stress.json'}")


def mean_rate(value: Mapping[str, Any]) -> str:
    """Returns a mean of rates with its interval, if it has one."""
    if value["mean"] is None:
        return NOT_MEASURED
    return f"{value['mean']:.1%}" + ("" if value["low"] is None else f" ({value['low']:.1%} - {value['high']:.1%})")
