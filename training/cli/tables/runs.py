"""Figures as short tables for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callsieve.serving.bundle.signing import SIGNER
from callsieve.serving.cli.console import say, show_table
from callsieve.training.judging.detection import QUANTILES, SOON
from callsieve.training.log.looks import in_words
from callsieve.training.reports.run_page import NOT_MEASURED, share, until

NONE = "–"  # there was nothing to measure
SHIFTS_SHOWN, NEAREST_SHOWN = 12, 5


def study(figures: Mapping[str, Any], folder: Path) -> None:
    """The headline of a training run, and where to look next."""
    headline(figures, "that came after the training, of groups that it did not learn from")
    last = figures["last_day"]
    rows = [(word, f"{last['actions'][word]:,}", f"{last['callers'][word]:,}") for word in last["actions"]]
    show_table(f"verdicts on {last['date']}", ("action", "calls", "callers"), rows)
    say(f"report   {folder / 'report.html'}")
    say(f"bundle   {folder / 'bundle'}   (model {figures['model']['id']}, signed; public key {folder / SIGNER})")
    for command in figures["next"]:
        say(f"next     {command}")


def headline(figures: Mapping[str, Any], new: str) -> None:
    """Benign pass with its bound, catch rate and calls to detection, beside the rule on calls per hour.

    Args:
        new: of which numbers calls until found are told.
    """
    both = figures["headline"]["model"], figures["headline"]["rule"]
    error = ("innocent calls flagged", *(f"{one['false_calls']} of {one['benign_calls']:,}" for one in both))
    rows = [
        error,
        ("benign pass, at least (95 %)", *(f"{1 - one['bound']:.4%}" for one in both)),
        ("same, if a caller's calls are alike", *(f"{1 - one['bound_by_caller']:.2%}" for one in both)),
        ("certified at 1 in 10,000", *(certified(one) for one in both)),
        *((f"nuisance caught, by {word}", *(rate(one["catch"][word]) for one in both)) for word in both[0]["catch"]),
        ("numbers ever found", *(share(one["detection"]["detected_share"]) for one in both)),
        (f"found within {SOON} calls", *(rate(soon(one["detection"])) for one in both)),
        *((f"calls until found, {word}", *(until(one["detection"], word) for one in both)) for word in QUANTILES),
        ("lifetime calls stopped", *(share(one["detection"]["stopped_share"]) for one in both)),
    ]  # fmt: skip
    title = (
        f"{figures['data']['calls']:,} calls; judged on {figures['data']['judged_on']} ({figures['data']['source']})"
    )
    show_table(title, ("", "callsieve", both[1]["rule"]), rows)
    if figures["attacks"]:
        buckets(figures["buckets"])
        attacks(figures["attacks"], new)


def evaluation(figures: Mapping[str, Any]) -> None:
    """The headline of a bundle on other calls, and what it is worth on callers that it did not learn from."""
    headline(figures, "that came after the first 7 days, of any group")
    say(in_words(figures))
    if figures["unseen"] is None:
        say(f"groups that the model learnt from and others: {figures['seen_told_by']}")
        return
    rows = [
        (name, f"{one['calls']:,}", f"{one['false_calls']} of {one['benign_calls']:,}", rate(one["catch"]["call"]))
        for name, one in (("it may have", figures["seen"]), ("it has not", figures["unseen"]))
    ]
    title = f"whether the model learnt from the caller's group, by {figures['seen_told_by']}"
    show_table(title, ("", "calls", "innocent flagged", "nuisance caught, by call"), rows)


def buckets(told: Sequence[Mapping[str, Any]]) -> None:
    """Catch and error by how many calls a number had made."""
    rows = [
        (one["bucket"], f"{one['calls']:,} of {one['callers']:,}",
         rate({**one, "rate": one["catch"]}) if one["calls"] else NONE,
         f"{one['false_calls']:,} of {one['benign_calls']:,}")
        for one in told
    ]  # fmt: skip
    head = ("", "nuisance calls of numbers", "caught", "innocent flagged")
    show_table("by how many calls the number had made", head, rows)


def attacks(told: Sequence[Mapping[str, Any]], new: str) -> None:
    """What each evasion buys: the calls that get through before a number is found, and apart, of known groups."""
    rows = [
        (one["attack"].replace("_", " "), f"{one['judged_calls']:,}",
         rate(one["caught"]) if one["judged_calls"] else NONE, f"{one['numbers']:,}",
         *(until(one["detection"], word) if one["numbers"] else NONE for word in QUANTILES),
         mean(one["calls_through_a_number"]), mean(one["people_reached_by_a_number"]))
        for one in told
    ]  # fmt: skip
    head = ("evasion", "calls", "caught", "new numbers", "calls until found", "for 9 in 10", "calls through a number",
            "people reached")  # fmt: skip
    show_table(f"what an evasion buys before its number is found: numbers {new}", head, rows)
    show_table(
        "the same of numbers that came after the training, of groups that it learnt from",
        ("evasion", "new numbers", "found", "calls through a number"),
        [(one["attack"].replace("_", " "), *known_group(one["known_group"])) for one in told],
    )


def known_group(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Numbers of groups that were learnt from, the share found, calls through one; dashes where nobody knows which."""
    if not told["numbers"]:
        return (NONE if told["numbers"] is None else "0", NONE, NONE)
    return (f"{told['numbers']:,}", share(told["found"]), mean(told["calls_through_a_number"]))


def mean(value: Mapping[str, Any]) -> str:
    """A mean with its interval, where there is one."""
    if value["mean"] is None:
        return NONE
    return f"{value['mean']:.0f}" + ("" if value["low"] is None else f" ({value['low']:.0f} - {value['high']:.0f})")


def certified(one: Mapping[str, Any]) -> str:
    """Whether, and if so, whether it is worth anything."""
    if one["certified"] and one["catch"]["call"]["rate"] == 0:
        return "yes, but empty: it flags nothing"
    return "yes" if one["certified"] else "no"


def rate(value: Mapping[str, Any]) -> str:
    """A rate with its interval."""
    if value["rate"] is None:
        return NOT_MEASURED
    return f"{value['rate']:.1%} ({value['low']:.1%} - {value['high']:.1%})"


def soon(detection: Mapping[str, Any]) -> dict[str, Any]:
    """The share of numbers found within their first SOON calls, as a rate with its interval."""
    return {"rate": detection["soon_share"], "low": detection["soon_low"], "high": detection["soon_high"]}


def scored(result: Mapping[str, Any]) -> None:
    """Counts of a scored file by action."""
    rows = [(word, f"{n:,}", f"{result['callers'][word]:,}") for word, n in result["actions"].items()]
    show_table(f"{result['calls']:,} calls scored by model {result['model']}", ("action", "calls", "callers"), rows)
    if result.get("rules"):
        met = [(name.replace("_", " "), f"{calls:,}") for name, calls in result["rules"].items()]
        show_table("calls that meet a rule, whatever the model says", ("rule", "calls"), met)
    if result["filling"]:
        say(f"bands say nothing of {result['filling']:,} calls: too little is known of the week before them")
    for stratum, count in result["no_threshold"].items():
        say(f"nothing is said of {count:,} calls: the model has no threshold for numbers of the kind {stratum!r}")
    for reason, count in result["quarantined"].items():
        say(f"put apart: {count:,} rows, {reason}")
    if result["stale"]:
        say(f"the model is past its valid-until date, {result['valid_until']}")


def monitored(result: Mapping[str, Any]) -> None:
    """What of a day is out of the usual, or else what is nearest to it; and whether the certificate still holds."""
    alarms = [one for one in result["shifts"] if one["alarm"]]
    rows = [
        (one["name"], one["part"],
         *(amount(one, word) for word in ("then", "now")),
         *("" if one[word] is None else f"{one[word]:.3f}" for word in ("psi", "ks")), f"{one['z']:+.1f}")
        for one in (alarms[:SHIFTS_SHOWN] or result["shifts"][:NEAREST_SHOWN])
    ]  # fmt: skip
    what = (
        f"{len(alarms)} {'ALARM' if len(alarms) == 1 else 'ALARMS'}"
        if alarms
        else "no alarm; what is farthest from usual"
    )
    title = f"{result['day']} ({result['kind']}), {result['calls']:,} calls: {what}"
    show_table(title, ("statistic", "part", "usual", "that day", "PSI", "KS", "deviations"), rows, texts=2)
    if alarms and result["resembles"] != result["kind"]:
        # Before and after long holidays people work on weekends.
        why = "a holiday?" if result["kind"] == "weekday" else "a weekend on which people worked?"
        say(f"the day looks more like a {result['resembles']}: {why}")
    told = result["certificate"]
    for reason in told["at_risk"]:
        say(f"certificate at risk: {reason}")
    if not told["at_risk"]:
        say(f"certificate: nothing speaks against it; {told['of_these_flagged']:,} of "
            f"{told['calls_of_callers_found_benign']:,} calls of callers found benign were flagged")  # fmt: skip
    if result["days_before"] < result["days_wanted"]:
        say(f"scores are not quite like those of a service: {result['days_before']} days of calls before the day, "
            f"{result['days_wanted']} are remembered")  # fmt: skip
    if "touches" in result:
        say(in_words(result))


def amount(one: Mapping[str, Any], word: str) -> str:
    """What a statistic of a day was, or is usually: a share or an amount; several together are neither."""
    if one["measure"] == "together":
        return ""
    return f"{one[word]:.1%}" if one["measure"] == "histogram" else f"{one[word]:,.0f}"


def ready_made(result: Mapping[str, Any]) -> None:
    """Measures on the test rows, beside published ones where there are any."""
    names = ("auc", "macro_f1", "macro_recall", "g_mean")
    rows = [("callsieve", *(f"{result['test'][name]:.4f}" for name in names))]
    rows += [(who, *(f"{told[name]:.4f}" for name in names)) for who, told in result["published"].items()]
    sizes = result["rows"]
    parts = " / ".join(f"{sizes[side]:,}" for side in ("train", "valid", "test"))
    title = f"{sizes['all']:,} rows ({parts}), {result['features']} features"
    show_table(title, ("on the test rows", "AUC", "macro F1", "macro recall", "G-mean"), rows)
    if result["left_out"]:
        say(f"left out, not numeric or an identifier: {', '.join(result['left_out'])}")
