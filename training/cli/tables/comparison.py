"""Two runs compared, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsieve.serving.cli.console import say, show_table
from callsieve.training.reports.run_page import share

if TYPE_CHECKING:
    from callsieve.training.studies.run_comparison import RunComparison, Shares


def run_comparison(result: RunComparison) -> None:
    """Prints which of two runs catches more of the same calls, and the callers on which they differ most."""
    names = [result[place]["run"] for place in ("first", "second")]
    rows = [
        ("nuisance caught, each at its own threshold", *cells(result["catch"])),
        (f"nuisance caught, at {result['target']:g} of the innocent calls", *cells(result["catch_at_target"])),
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
    if better == "neither":
        say("better   neither: the interval of the difference at equal false positives includes 0")
    else:
        say(f"better   {names[better == 'second']}: it catches more at equally many flagged innocent calls")


def cells(shares: Shares) -> tuple[str, str, str]:
    """Returns both shares and their difference with its interval."""
    low, high = shares["low"], shares["high"]
    difference = f"{shares['difference']:+.2%} ({low:+.2%} to {high:+.2%})"
    return share(shares["first"], 2), share(shares["second"], 2), difference
