"""Complaints, duties, monitored days, membership attacks, rules and policies as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from callsieve.serving.cli.console import say, show_table
from callsieve.training.oversight.log.looks import in_words
from callsieve.training.reports.wording import interval, share

if TYPE_CHECKING:
    from callsieve.training.drift.monitor import MonitorFigures
    from callsieve.training.judging.membership import Auc, MembershipFigures
    from callsieve.training.judging.run_figures import Shift
    from callsieve.training.studies.policy_diff import PolicyDifference
    from callsieve.training.studies.rule_figures import ModelBesideRules, RegionFigures, RuleFigures

SHIFTS_SHOWN, NEAREST_SHOWN = 12, 5


def complaints(figures: Mapping[str, Any]) -> None:
    """Prints the figures of a complaint file."""
    names = ("rows", "complaints", "day_only", "resubmitted", "first", "last")
    rows = [(name.replace("_", " "), str(figures[name])) for name in names]
    rows += [(f"quarantined: {why.replace('_', ' ')}", str(count)) for why, count in figures["quarantined"].items()]
    rows += [(f"complaints per {name.replace('_', ' ')}", f"{mean:.0f}") for name, mean in figures["a_day"].items()]
    show_table("complaints", ("figure", "value"), rows)


def duties(report: Mapping[str, Any]) -> None:
    """Prints the records of processing, then each legal duty."""
    for row in report["processing"]:
        say(json.dumps(row, ensure_ascii=False, indent=2))
    rows = [(act["person"], act["act"], act["purpose"], f"{act['count']:,}") for act in report["given_beside"]]
    show_table("disclosed from other folders", ("person", "act", "purpose", "rows"), rows, texts=3)
    words = {True: "met", False: "BROKEN", None: "not checked"}
    rows = [(words[duty["holds"]], duty["name"], duty["row"], duty["result"]) for duty in report["duties"]]
    show_table(f"duties at {report['at']}", ("", "duty", "requirement", "result"), rows, texts=4)


def monitored(result: MonitorFigures) -> None:
    """Prints the drifted statistics of a day, or else the nearest to it; and the state of the certificate."""
    alarms = [shift for shift in result["shifts"] if shift["alarm"]]
    rows = [
        (
            shift["name"],
            shift["part"],
            amount(shift, "then"),
            amount(shift, "now"),
            *("" if value is None else f"{value:.3f}" for value in (shift["psi"], shift["ks"])),
            f"{shift['z']:+.1f}",
        )
        for shift in (alarms[:SHIFTS_SHOWN] or result["shifts"][:NEAREST_SHOWN])
    ]
    what = f"{len(alarms)} {'ALARM' if len(alarms) == 1 else 'ALARMS'}" if alarms else "no drift; largest differences"
    title = f"{result['day']} ({result['kind']}), {result['calls']:,} calls: {what}"
    show_table(title, ("statistic", "part", "reference", "that day", "PSI", "KS", "deviations"), rows, texts=2)
    if alarms and result["resembles"] != result["kind"]:
        # Around long holidays, weekends are working days.
        why = "a holiday?" if result["kind"] == "weekday" else "a working weekend?"
        say(f"the calls of the day resemble a {result['resembles']}: {why}")
    if result["feed"] != result["reference_feed"]:
        feeds = f"{result['feed']!r}, that of the training {result['reference_feed']!r}"
        say(f"ALARM: the feed of the day is {feeds}; its thresholds do not hold for the day")
    else:
        say(f"feed of the records: {result['feed']}")
    certificate = result["certificate"]
    if certificate["flagged_too_often"]:
        say("ALARM: more innocent calls are flagged than the certificate allows")
    for reason in certificate["at_risk"]:
        say(f"certificate at risk: {reason}")
    if not certificate["at_risk"]:
        flagged, calls = certificate["of_these_flagged"], certificate["calls_of_callers_found_benign"]
        say(f"certificate not at risk: {flagged:,} of {calls:,} calls of callers found innocent were flagged")
    if result["days_before"] < result["days_wanted"]:
        have, need = result["days_before"], result["days_wanted"]
        say(f"{have} days of history before the day, a service has {need}: its scores can differ")
    if "touches" in result:
        say(in_words(result))


def amount(shift: Shift, word: Literal["then", "now"]) -> str:
    """Returns a statistic of the day or of the reference: a share, an amount, or nothing for a joint statistic."""
    if shift["measure"] == "together":
        return ""
    return f"{shift[word]:.1%}" if shift["measure"] == "histogram" else f"{shift[word]:,.0f}"


def membership(figures: MembershipFigures) -> None:
    """Prints how well each attack separates training callers from others."""

    def area(value: Auc | None) -> str:
        return "-" if value is None else f"{value['value']:.3f} ({value['low']:.3f}-{value['high']:.3f})"

    rows = [
        (
            kind,
            f"{result['members']:,}",
            f"{result['others']:,}",
            area(result["loss"]),
            area(result["learned"]),
            {True: "yes", False: "no", None: "too few"}[result["holds"]],
        )
        for kind, result in figures["kinds"].items()
    ]
    head = ("callers", "in training", "others", "AUC by loss", "AUC learned", f"at most {figures['most_auc']}")
    show_table(f"which callers trained model {figures['model']}: AUC of two attacks, 0.5 is chance", head, rows)
    say(f"smallest leaf: {figures['smallest_leaf']:,} training calls")


def policy_diff(figures: PolicyDifference) -> None:
    """Prints the calls whose action changes, in total and by slice."""
    changed = f"{figures['changed']:,} of {figures['calls']:,} calls change their action"
    say(f"policy {figures['old']} -> {figures['new']}: {changed}")
    if "touches" in figures:
        say(in_words(figures))
    if not figures["changed"]:
        return
    slices = ((name, name, rows) for name, rows in figures["slices"].items())
    for title, name, changes in (("all", None, figures["actions"]), *slices):
        rows = [
            (
                *(str(row[word]) if word else "" for word in (name, "from", "to")),
                f"{row['calls']:,}",
                f"{row['callers']:,}",
            )
            for row in changes
        ]
        show_table(title.replace("_", " "), ("slice", "from", "to", "calls", "callers"), rows, texts=3)
    _rules("rules that these calls meet", figures["rules"])


def _rules(title: str, counts: Mapping[str, int]) -> None:
    show_table(title, ("rule", "calls"), [(name.replace("_", " "), f"{calls:,}") for name, calls in counts.items()])


def rule_figures(figures: RuleFigures) -> None:
    """Prints precision and recall of each rule, by region where there are several, and the model's."""
    counts = f"{figures['calls']:,} calls, {figures['nuisance']:,} of them nuisance"
    say(f"{counts}; {figures['registers']:,} rows of registers")
    rows = []
    for name, rule in figures["rules"].items():
        worst = next(iter(rule["benign_slices"].items()), None)
        slice_hit = "" if worst is None else f"{worst[0].replace('_', ' ')}, {worst[1]['rate']:.1%} of it"
        cells = (
            interval(rule["precision"]),
            *(share(rule[part]["rate"]) for part in ("caller_precision", "recall")),
        )
        rows.append((name.replace("_", " "), f"{rule['calls']:,}", *cells, slice_hit))
    head = ("rule", "calls", "precision", "by caller", "recall", "innocent slice with most hits")
    show_table("rules against the truth", head, rows)
    if len(figures["regions"]) > 1:
        _regions(figures["regions"])
    if "model" in figures:
        _model(figures["model"])


def _regions(regions: Mapping[str, RegionFigures]) -> None:
    rows = [
        (
            name or "all others",
            f"{region['callers']:,}",
            share(region["nuisance"]["rate"]),
            *(interval(region[how]) for how in ("with_rule", "without_rule", "by_model")),
        )
        for name, region in regions.items()
    ]
    head = ("region", "innocent callers", "nuisance", "not passed", "without the rule", "by the model")
    show_table("innocent calls by listed region", head, rows)


def _model(model: ModelBesideRules) -> None:
    kinds = {"nuisance": model["nuisance"], "benign": model["benign"]}
    rows = [(kind, *(f"{calls:,}" for calls in apart.values())) for kind, apart in kinds.items()]
    title = f"calls found by band {model['band']} of model {model['id']} and by rules"
    show_table(title, ("calls", *(cell.replace("_", " ") for cell in model["benign"])), rows)
    all_calls, rest = interval(model["catch"]), interval(model["catch_without_rule_hits"])
    say(f"the model's catch rate: {all_calls}; of nuisance calls that no rule decides: {rest}")
    rates = [model[name] for name in ("false", "false_without_rule_hits")]
    all_calls, rest = (f"{rate['part']:,} of {rate['whole']:,}, at most {rate['high']:.4%}" for rate in rates)
    say(f"the model's false positives: {all_calls}; of innocent calls that no rule decides: {rest}")
    say(in_words(model))
