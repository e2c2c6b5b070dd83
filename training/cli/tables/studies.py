"""What studies of several trainings found, as short tables for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callsieve.serving.cli.console import say, show_facts, show_table
from callsieve.training.cli.tables.runs import rate
from callsieve.training.reports.run_page import NOT_MEASURED, share


def rolling(result: Mapping[str, Any]) -> None:
    """How the headline spreads over the origins."""
    rows = [
        (name, *("unknown" if told[kind] is None else f"{told[kind]:.4g}" for kind in ("mean", "sd", "least", "most")))
        for name, told in result["spread"].items()
    ]
    title = f"headline from {len(result['origins'])} origins, groups of callers unseen in training"
    show_table(title, ("figure", "mean", "sd", "least", "most"), rows)


def searched(result: Mapping[str, Any], folder: Path) -> None:
    """The best parameters of a search, and what they are better by."""
    rows = [(name, f"{result['shipped'][name]:.6g}", f"{value:.6g}") for name, value in result["figures"].items()]
    show_table(f"{result['trials']} trials on the training side alone", ("left out", "shipped", "best"), rows)
    show_facts("parameters", {name: f"{value:.6g}" for name, value in result["parameters"].items()})
    say(f"next     callsieve train --parameters {folder / 'parameters.toml'} ...")


def decay(result: Mapping[str, Any], folder: Path) -> None:
    """Each period with both ways, and the area under time."""
    rows = [
        ("days {} to {}".format(*one["days_after_training"]),
         *(cell for way in ("once", "anew") for cell in (
             f"{one[way]['false_calls']:,} of {one[way]['benign_calls']:,}", rate(one[way]["unseen"]["call"]),
             rate(one[way]["at_target"]["call"]), rate(one[way]["all"]["call"]))))
        for one in result["periods"]
    ]  # fmt: skip
    columns = ("flagged innocent", "caught, unseen groups", "same, at 1 in 10,000", "caught, all")
    head = ("after the training", *(f"{way}: {name}" for way in ("once", "anew") for name in columns))
    show_table(f"trained on {result['train_days']} days, once and anew each time", head, rows)
    for name, words in (("area_under_time", "at their own thresholds"), ("area_at_target", "at 1 in 10,000")):
        once, anew = (share(result[name][way]) for way in ("once", "anew"))
        say(f"area under time, {words}: once {once}, anew {anew}")
    say(f"picture  {folder / 'decay.svg'}")


def stress(result: Mapping[str, Any], folder: Path) -> None:
    """Each fault over all worlds, beside the clean run."""
    rows = [
        (one["fault"], f"{one['certified']} of {one['worlds']}", f"{one['false_calls']:,} of {one['benign_calls']:,}",
         middle(one["catch"]), middle(one["change"]), middle(one["catch_at_target"]), middle(one["change_at_target"]),
         NOT_MEASURED if one["auc"]["mean"] is None else f"{one['auc']['mean']:.4f}")
        for one in result["faults"]
    ]  # fmt: skip
    head = (
        "fault", "certified", "innocent calls flagged", "caught", "change in caught", "caught at 1 in 10,000", "change",
        "AUC",
    )  # fmt: skip
    show_table("mean over worlds, with Student's 95 % interval", head, rows)
    say(f"each training: {folder / 'stress.json'}")


def middle(value: Mapping[str, Any]) -> str:
    """A mean of shares with its interval, where there is one."""
    if value["mean"] is None:
        return NOT_MEASURED
    return f"{value['mean']:.1%}" + ("" if value["low"] is None else f" ({value['low']:.1%} - {value['high']:.1%})")
