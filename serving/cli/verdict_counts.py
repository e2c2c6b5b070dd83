"""The verdicts of a scored file on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .console import say, say_quarantined, show_table


def scored(result: Mapping[str, Any]) -> None:
    """Prints the verdicts of a scored file by action, and the calls without a verdict."""
    rows = [(word, f"{n:,}", f"{result['callers'][word]:,}") for word, n in result["actions"].items()]
    show_table(f"{result['calls']:,} calls scored by model {result['model']}", ("action", "calls", "callers"), rows)
    if result.get("rules"):
        rules = [(name.replace("_", " "), f"{calls:,}") for name, calls in result["rules"].items()]
        show_table("calls that meet a rule, independent of the score", ("rule", "calls"), rules)
    if result["filling"]:
        say(f"{result['filling']:,} calls were not scored: less than 7 days of history")
    say(f"feed of the records: {result['feed']}")
    if result["other_feed"]:
        say(f"{result['other_feed']:,} calls were not scored: the model has no threshold for this feed")
    for stratum, count in result["no_threshold"].items():
        say(f"{count:,} calls were not scored: the model has no threshold for the number class {stratum!r}")
    say_quarantined(result["quarantined"])
    if result.get("resumed"):
        say("an unfinished run was resumed")
    if result["stale"]:
        say(f"the model is past its valid-until date, {result['valid_until']}")
