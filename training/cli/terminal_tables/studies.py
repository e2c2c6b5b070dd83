"""Studies of several trainings, and two runs compared, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from callsieve.serving.cli.console import say, show_table
from callsieve.training.reports.headline_list import flagged
from callsieve.training.reports.wording import interval, one_in, share

if TYPE_CHECKING:
    from callsieve.training.studies.decay import DecayFigures, PeriodFigures
    from callsieve.training.studies.rolling import RollingFigures
    from callsieve.training.studies.run_comparison import RunComparison, Shares


def rolling(result: RollingFigures) -> None:
    """Prints the spread of the headline figures over the origins."""
    rows = [
        (name, *(_known(value) for value in (spread["mean"], spread["sd"], spread["least"], spread["most"])))
        for name, spread in result["spread"].items()
    ]
    title = f"main figures of {len(result['origins'])} trainings, groups of callers unseen in training"
    show_table(title, ("figure", "mean", "sd", "least", "most"), rows)


def _known(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def decay(result: DecayFigures, folder: Path) -> None:
    """Prints each period of the ageing and of the retrained model, and the mean catch rate over time."""
    rows = [
        (
            "days {} to {}".format(*period["days_after_training"]),
            *_period(period["once"]),
            *_period(period["anew"]),
        )
        for period in result["periods"]
    ]
    columns = ("flagged innocent", "caught, unseen groups", "caught, at 1 in 10,000", "caught, all")
    head = ("after the training", *(f"{way}: {name}" for way in ("trained once", "retrained") for name in columns))
    show_table(f"trained on {result['train_days']} days once, and retrained before each period", head, rows)
    areas = (("at their own thresholds", result["area_under_time"]), ("at 1 in 10,000", result["area_at_target"]))
    for words, area in areas:
        say(f"caught, mean over time, {words}: trained once {share(area['once'])}, retrained {share(area['anew'])}")
    say(f"picture  {folder / 'decay.svg'}")


def _period(figures: PeriodFigures) -> tuple[str, ...]:
    return (
        flagged(figures),
        *(interval(side["call"]) for side in (figures["unseen"], figures["at_target"], figures["all"])),
    )


def run_comparison(result: RunComparison) -> None:
    """Prints which of two runs catches more of the same calls, and the callers on which they differ most."""
    names = [result[place]["run"] for place in ("first", "second")]
    rows = [
        ("nuisance caught, each at its own threshold", *cells(result["catch"])),
        (
            f"nuisance caught, where {one_in(result['target'])} innocent calls is flagged",
            *cells(result["catch_at_target"]),
        ),
        ("innocent calls flagged, each at its own threshold", *cells(result["false_calls"])),
    ]
    title = (
        f"{result['judged_calls']:,} test calls of both runs; {result['nuisance_calls']:,} are nuisance, from "
        f"{result['nuisance_callers']:,} callers"
    )
    show_table(title, ("", *names, "difference (95 %)"), rows)
    alone = result["judged_by_one"]
    if any(alone):
        say(f"{alone[0]:,} and {alone[1]:,} test calls of one run only; trainings with one --judge-seed share them all")
    for kind, nuisance in (("nuisance", True), ("innocent", False)):
        slices = [
            (
                row["slice"],
                f"{row['calls']:,} from {row['callers']:,}",
                *(f"{row[place]:,}" for place in ("first", "second", "only_first", "only_second")),
            )
            for row in result["slices"]
            if row["nuisance"] is nuisance and row["first"] + row["second"]
        ]
        head = (
            "",
            "calls from callers",
            "flagged by the first",
            "the second",
            "callers by the first alone",
            "the second",
        )
        show_table(f"{kind} callers, each run at its own threshold", head, slices)
    callers = [
        (f"caller {row['caller']}, {row['slice']}", *(f"{row[name]:,}" for name in ("calls", "first", "second")))
        for row in result["callers"]
    ]
    show_table("callers on which they differ most", ("", "calls", "flagged by the first", "the second"), callers)
    better = result["better"]
    if better == "unknown":
        say(
            f"better   cannot tell from {result['nuisance_callers']:,} nuisance callers: {result['enough_callers']:,} "
            "would show a difference of 10 points; train both on more days, or on more folders"
        )
    elif better == "neither":
        say("better   neither: the interval of the difference at equal false positives includes 0")
    else:
        say(f"better   {names[better == 'second']}: it catches more at equally many flagged innocent calls")


def cells(shares: Shares) -> tuple[str, str, str]:
    """Returns both shares and their difference with its interval."""
    low, high = shares["low"], shares["high"]
    difference = f"{shares['difference']:+.2%} ({low:+.2%} to {high:+.2%})"
    return share(shares["first"], 2), share(shares["second"], 2), difference
