"""Figures of runs, studies and checks as tables for a terminal: one printer, and the columns of each table.

`show_rows` prints rows of figures as they are in the JSON output. The headline comes from `reports.headline_list`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.serving.bundle.signing import SIGNER
from callsieve.serving.cli.console import note, say, show_facts, show_table
from callsieve.training.adapt.answers import SHEET
from callsieve.training.judging.detection import SOON
from callsieve.training.judging.judge import SHIPPED
from callsieve.training.oversight.log.looks import in_words
from callsieve.training.reports import before_after as compared
from callsieve.training.reports import headline_list as measure
from callsieve.training.reports.check_page import PAGE
from callsieve.training.reports.wording import interval, missing, rule_in_words, share

if TYPE_CHECKING:
    from callsieve.training.drift.monitor import MonitorFigures
    from callsieve.training.evidence.funnel import Covered, TooFew
    from callsieve.training.judging.evaluate import EvaluationFigures
    from callsieve.training.judging.figures import Headline
    from callsieve.training.judging.membership import MembershipFigures
    from callsieve.training.judging.run_figures import RecordedRun
    from callsieve.training.preflight import Preflight
    from callsieve.training.studies.decay import DecayFigures, RollingFigures
    from callsieve.training.studies.policy_diff import PolicyDifference
    from callsieve.training.studies.rule_figures import RuleFigures
    from callsieve.training.studies.run_comparison import RunComparison
    from callsieve.training.tracking.onnx_export import Export

REFUSED = ", refused by a gate"
SHIFTS_SHOWN, NEAREST_SHOWN = 12, 5
FOLDS = "fold days innocent.calls innocent.groups nuisance.calls nuisance.groups"
EVASIONS = (
    "attack judged_calls caught caught_by_rules caught_by_policy numbers detection.median detection.p90 "
    "calls_through_a_number people_reached_by_a_number"
)
KNOWN_GROUPS = "attack known_group.numbers known_group.detected known_group.calls_through_a_number"
FEEDS = "records false_calls benign_calls certified catch"
OF_FOLDERS = "folder model.false_calls model.benign_calls model.catch.call model.detection.soon_share"
SEEN = "seen calls false_calls benign_calls catch.call"
RULES = "rule calls precision caller_precision recall"
SHIFTS = "name part then now psi ks z"
ATTACKS = "callers members others loss learned holds"
AGEING = ("false_calls", "benign_calls", "unseen.call", "at_target.call", "all.call")


def show_rows(title: str, rows: Iterable[Mapping[str, Any]], columns: str = "") -> None:
    """Prints rows of figures: names as words, counts with separators, shares and means with their intervals."""
    table = list(rows)
    names = columns.split() or list(dict.fromkeys(name for row in table for name in row))
    texts = next((i for i, name in enumerate(names) if table and not isinstance(value_at(table[0], name), str)), 1)
    head = [name.replace("_", " ").replace(".", ", ") for name in names]
    show_table(title, head, [[cell(value_at(row, name)) for name in names] for row in table], max(texts, 1))


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """Returns a value of nested figures.

    >>> value_at({"catch": {"call": 0.5}}, "catch.call")
    0.5
    """
    value: Any = row
    for part in name.split("."):
        value = value[part]
    return value


def cell(value: object) -> str:
    """Returns a value of the figures as text.

    >>> [cell(value) for value in (1200, 0.51234, None, True, "ring_once", [7, 14], {"mean": 3.2, "low": 1, "high": 5})]
    ['1,200', '0.5123', '–', 'yes', 'ring once', '7 to 14', '3.2 (1 to 5)']
    """
    if isinstance(value, Mapping):
        if "rate" in value and value["rate"] is not None:
            return interval({"rate": value["rate"], "low": value["low"], "high": value["high"]})
        middle, low, high = (cell(value.get(name, value.get("value"))) for name in ("mean", "low", "high"))
        return middle if cell(None) in (middle, low) else f"{middle} ({low} to {high})"
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " to ".join(map(cell, value))
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return str(value).replace("_", " ") if str(value).isidentifier() else str(value)


def named(rows: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    """Returns figures by name as rows that have the name in a column of its own."""
    return [{column: name, **row} for name, row in rows.items()]


def training(figures: RecordedRun, folder: Path) -> None:
    """Prints the headline of a training, the verdicts of its last day, and the next commands."""
    numbers = "of numbers that first called after the training, of groups unseen in training"
    if figures["adapted"]:
        numbers = "of numbers that first called after the first 7 days"
    shipped = figures["baselines"].get(SHIPPED)
    headline(figures, numbers, refused=bool(figures["gates"]["refused"]), shipped=shipped)
    say_odd(figures["odd_records"])
    if adapted := figures["adapted"]:
        head = ("", f"base {adapted['base']}", "adapted")
        show_table("all calls of the network, by probability and checks", head, compared.network_rows(adapted))
        show_table(f"before and after, on {figures['data']['judged_on']}", head, compared.judged_rows(figures))
        show_table("flagged calls by kind", ("", "calls", "numbers", *head[1:]), compared.kind_rows(figures))
        show_table("callers", ("", "callers", "calls"), compared.covered_rows(adapted["covered"]))
        show_table("checks and complaints", ("", "number"), compared.check_rows(adapted))
        for sentence in filter(None, (compared.too_few(adapted), f"learnt {adapted['learnt']}: {adapted['why']}")):
            say(sentence)
    if sentence := compared.advice(figures):
        say(sentence)
    covered(figures["covered"], figures["too_few"])
    if figures["by_folder"]:
        show_rows("folders used for the certificate", figures["by_folder"], OF_FOLDERS)
    show_rows(
        "incomplete records", named(figures["feeds"], "records"), "records false_calls benign_calls certified catch"
    )
    show_rows(
        "model and flagged numbers",
        named(figures["flags"], "records"),
        "records false_calls benign_calls catch catch_of_single_calls",
    )
    last = figures["last_day"]
    verdicts = {word: {"calls": calls, "callers": last["callers"][word]} for word, calls in last["actions"].items()}
    show_rows(f"verdicts on {last['date']}", named(verdicts, "action"))
    say(f"report   {folder / 'report.html'}")
    say(f"bundle   {folder / 'bundle'}   (model {figures['model']['id']}, signed; public key {folder / SIGNER})")
    if (folder / PAGE).exists():
        say(f"check    {folder / PAGE}   (fill in {folder / SHEET} and give it back with --answers)")
    say_next(figures["next"])


def say_odd(signs: Iterable[str]) -> None:
    """Prints signs that records were read in a wrong way."""
    for sign in signs:
        say(f"warning: {sign}")


def say_next(commands: Iterable[str]) -> None:
    """Prints the commands that come next."""
    for command in commands:
        say(f"next     {command}")


def preflight(counts: Preflight) -> None:
    """Prints the labelled calls and groups of each fold, and what is too small to train on."""
    title = f"{counts['calls']:,} calls of {counts['days']} days, {counts['groups']:,} groups"
    show_rows(title, named(counts["folds"], "fold"), FOLDS)
    groups = counts["folds"]["train"]["nuisance"]["groups"]
    say(f"independent nuisance groups to learn from: {groups:,}; needed: {counts['needed']:,}")
    covered(counts["covered"], counts["too_few"])
    say_odd(counts["odd_records"])
    for sentence in counts["too_small"]:
        say(f"too small   {sentence}")
    if not counts["too_small"]:
        say("enough to train")


def covered(kinds: Mapping[str, Covered], lacking: TooFew | None) -> None:
    """Prints callers and calls from all to those that judge, and what is missing for a certificate."""
    if kinds:
        show_table("calls that judge", ("", "callers", "calls"), compared.covered_rows(kinds))
    if lacking:
        say(missing(lacking))


def shipped(figures: EvaluationFigures) -> None:
    """Prints the first figures of the demonstration on the error stream, where they do not mix with the result."""
    head = figures["headline"]["model"]
    caught, soon = interval(head["catch"]["call"]), share(head["detection"]["soon_share"])
    note(
        f"the shipped model on {figures['data']['calls']:,} simulated calls: "
        f"flags {measure.flagged(head)} innocent calls, catches {caught} of the nuisance calls, "
        f"detects {soon} of the new nuisance numbers within {SOON} calls"
    )


def demo(figures: RecordedRun, ready: Sequence[str], folder: Path) -> None:
    """Prints the demonstration on one screen: models not trained here, the model trained here and the rule."""
    here, rule = figures["headline"]["model"], figures["headline"]["rule"]
    sides: tuple[Headline, ...] = (*(figures["baselines"][name] for name in ready), here, rule)
    rows = measure.rows(measure.OF_DEMO, sides)
    rows[measure.OF_DEMO.index(measure.CERTIFIED)][1 + len(ready)] += REFUSED if figures["gates"]["refused"] else ""
    title = f"{figures['data']['calls']:,} simulated calls; evaluated on callers of whom no model has seen a label"
    show_table(title, ("", *ready, "trained here, on this world alone", rule_in_words(rule["rule"])), rows)
    last = figures["last_day"]
    say(f"verdicts on {last['date']}: " + ", ".join(f"{count:,} {word}" for word, count in last["actions"].items()))
    say(f"report   {folder / 'report.html'}")
    say(f"bundle   {folder / 'bundle'}   (the model trained here; public key {folder / SIGNER})")
    if figures["gates"]["refused"]:
        say("refused  by its gates: one such world is too little for an own model; use or adapt the shipped model")
    say_next(["callsieve score --calls FILE --layout LAYOUT   (with the shipped model)", *figures["next"]])


def headline(
    figures: RecordedRun | EvaluationFigures, numbers: str, *, refused: bool = False, shipped: Headline | None = None
) -> None:
    """Prints the headline of the model alone, of the whole policy and of the best fixed rule, then it by evasion."""
    policy, rule = figures["headline"]["policy"], figures["headline"]["rule"]
    beside = [] if shipped is None else [shipped]
    sides: tuple[Headline, ...] = (figures["headline"]["model"], policy, *beside, rule)
    rows = measure.rows(measure.HEADLINE, sides)
    rows[measure.HEADLINE.index(measure.CERTIFIED)][1] += REFUSED if refused else ""
    data = figures["data"]
    title = f"{data['calls']:,} calls; evaluated on {data['judged_on']} ({data['source']})"
    ways = ("model alone", f"with the rules of policy {policy['policy']}", *[SHIPPED] * len(beside))
    show_table(title, ("", *ways, rule_in_words(rule["rule"])), rows)
    if attacks := figures["attacks"]:
        show_rows("by the number of earlier calls", figures["buckets"])
        if len(attacks) > 1:  # without known evasions there is one row, which repeats the headline
            show_rows(f"evasions: calls before detection, {numbers}", attacks, EVASIONS)
            of_known = "numbers that first called after the training, of groups seen in training"
            show_rows(f"evasions: {of_known}", attacks, KNOWN_GROUPS)


def evaluation(figures: EvaluationFigures) -> None:
    """Prints the headline of a bundle on other calls, and separately for callers of unseen groups."""
    headline(figures, "of numbers that first called after the first 7 days, of any group")
    say(in_words(figures))
    feed, seen, unseen = figures["feed"], figures["seen"], figures["unseen"]
    if not feed["bands"]:
        say(f"the model has no threshold for the feed of these records, {feed['name']}; a service abstains")
    if seen is None or unseen is None:
        say(f"groups seen and unseen in training: {figures['seen_basis']}")
    else:
        title = f"caller's group seen in training, by {figures['seen_basis']}"
        show_rows(title, named({"possibly": seen, "no": unseen}, "seen"), SEEN)


def duties(report: Mapping[str, Any]) -> None:
    """Prints the records of processing, then each legal duty."""
    for row in report["processing"]:
        say(json.dumps(row, ensure_ascii=False, indent=2))
    show_rows("disclosed from other folders", report["given_beside"], "person act purpose count")
    words = {True: "met", False: "BROKEN", None: "not checked"}
    rows = [(words[duty["holds"]], duty["name"], duty["row"], duty["result"]) for duty in report["duties"]]
    show_table(f"duties at {report['at']}", ("", "duty", "requirement", "result"), rows, texts=4)


def monitored(result: MonitorFigures) -> None:
    """Prints the drifted statistics of a day, or else the nearest to it; and the state of the certificate."""
    alarms = [shift for shift in result["shifts"] if shift["alarm"]]
    what = f"{len(alarms)} {'ALARM' if len(alarms) == 1 else 'ALARMS'}" if alarms else "no drift; largest differences"
    title = f"{result['day']} ({result['kind']}), {result['calls']:,} calls: {what}"
    show_rows(title, alarms[:SHIFTS_SHOWN] or result["shifts"][:NEAREST_SHOWN], SHIFTS)
    if alarms and result["resembles"] != result["kind"]:
        # Around long holidays, weekends are working days.
        why = "a holiday?" if result["kind"] == "weekday" else "a working weekend?"
        say(f"the calls of the day resemble a {result['resembles']}: {why}")
    if result["feed"] != result["reference_feed"]:
        feeds = f"{result['feed']!r}, that of the training {result['reference_feed']!r}"
        say(f"ALARM: the feed of the day is {feeds}; its thresholds do not hold for the day")
    certificate = result["certificate"]
    if certificate["flagged_too_often"]:
        say("ALARM: more innocent calls are flagged than the certificate allows")
    flagged, calls = certificate["of_these_flagged"], certificate["calls_of_callers_found_benign"]
    for reason in certificate["at_risk"]:
        say(f"certificate at risk: {reason}")
    say(f"{flagged:,} of {calls:,} calls of callers found innocent were flagged")
    if result["days_before"] < result["days_wanted"]:
        have, need = result["days_before"], result["days_wanted"]
        say(f"{have} days of history before the day, a service has {need}: its scores can differ")
    if "touches" in result:
        say(in_words(result))


def membership(figures: MembershipFigures) -> None:
    """Prints how well each attack separates training callers from others."""
    title = f"which callers trained model {figures['model']}: AUC of two attacks, 0.5 is chance"
    show_rows(title, named(figures["kinds"], "callers"), ATTACKS)
    say(f"holds: both areas below {figures['most_auc']}; smallest leaf: {figures['smallest_leaf']:,} training calls")


def policy_diff(figures: PolicyDifference) -> None:
    """Prints the calls whose action changes, in total and by slice."""
    changed = f"{figures['changed']:,} of {figures['calls']:,} calls change their action"
    say(f"policy {figures['old']} -> {figures['new']}: {changed}")
    if "touches" in figures:
        say(in_words(figures))
    if figures["changed"]:
        show_rows("all", figures["actions"])
        for name, rows in figures["slices"].items():
            show_rows(name.replace("_", " "), rows)
        show_facts("rules that these calls meet", figures["rules"])


def rule_figures(figures: RuleFigures) -> None:
    """Prints precision and recall of each rule, by region where there are several, and the model's."""
    counts = f"{figures['calls']:,} calls, {figures['nuisance']:,} of them nuisance"
    say(f"{counts}; {figures['registers']:,} rows of registers")
    show_rows("rules against the truth", named(figures["rules"], "rule"), RULES)
    slices = [
        {"rule": rule, "slice": name, "calls of it": hit["rate"]}
        for rule, hits in figures["rules"].items()
        for name, hit in [*hits["benign_slices"].items()][:1]
    ]
    show_rows("innocent slice with most hits", slices)
    if len(figures["regions"]) > 1:
        show_rows(
            "innocent calls by listed region, share not passed",
            named({name or "all others": region for name, region in figures["regions"].items()}, "region"),
        )
    if model := figures.get("model"):
        kinds = {"nuisance": model["nuisance"], "benign": model["benign"]}
        title = f"calls found by band {model['band']} of model {model['id']} and by rules"
        show_rows(title, named(kinds, "calls"))
        all_calls, rest = interval(model["catch"]), interval(model["catch_without_rule_hits"])
        say(f"the model's catch rate: {all_calls}; of nuisance calls that no rule decides: {rest}")
        rates = [model["false"], model["false_without_rule_hits"]]
        all_calls, rest = (f"{rate['part']:,} of {rate['whole']:,}, at most {rate['high']:.4%}" for rate in rates)
        say(f"the model's false positives: {all_calls}; of innocent calls that no rule decides: {rest}")
        say(in_words(model))


def rolling(result: RollingFigures) -> None:
    """Prints the spread of the headline figures over the origins."""
    title = f"main figures of {len(result['origins'])} trainings, groups of callers unseen in training"
    show_rows(title, named(result["spread"], "figure"))


def decay(result: DecayFigures, folder: Path) -> None:
    """Prints each period of the ageing and of the retrained model, and the mean catch rate over time."""
    for way, words in (("once", "once, and not retrained"), ("anew", "anew before each period")):
        names = " ".join(f"{way}.{name}" for name in AGEING)
        show_rows(f"trained on {result['train_days']} days {words}", result["periods"], f"days_after_training {names}")
    areas = (("at their own thresholds", result["area_under_time"]), ("at 1 in 10,000", result["area_at_target"]))
    for words, area in areas:
        say(f"caught, mean over time, {words}: trained once {share(area['once'])}, retrained {share(area['anew'])}")
    say(f"picture  {folder / 'decay.svg'}")


def run_comparison(result: RunComparison) -> None:
    """Prints which of two runs catches more of the same calls, and the callers on which they differ most."""
    title = (
        f"{result['judged_calls']:,} test calls of both runs; {result['nuisance_calls']:,} are nuisance, from "
        f"{result['nuisance_callers']:,} callers"
    )
    shares = {
        "nuisance caught": result["catch"],
        f"nuisance caught at {result['target']:g} innocent calls flagged": result["catch_at_target"],
        "innocent calls flagged": result["false_calls"],
    }
    show_rows(title, named(shares, "share"))
    alone = result["judged_by_one"]
    if any(alone):
        say(f"{alone[0]:,} and {alone[1]:,} test calls of one run only; trainings with one --seed share them all")
    flagged = [row for row in result["slices"] if row["first"] + row["second"]]
    show_rows("flagged calls by kind of caller, each run at its own threshold", flagged)
    show_rows("callers on which they differ most", result["callers"])
    better = result["better"]
    if better == "unknown":
        say(
            f"better   cannot tell from {result['nuisance_callers']:,} nuisance callers: {result['enough_callers']:,} "
            "would show a difference of 10 points; train both on more days, or on more folders"
        )
    elif better == "neither":
        say("better   neither: the interval of the difference at equal false positives includes 0")
    else:
        run = result["second" if better == "second" else "first"]["run"]
        say(f"better   {run}: it catches more at equally many flagged innocent calls")


def onnx(facts: Export, file: Path) -> None:
    """Prints the size of an exported model and its largest differences from the bundle."""
    say(f"{file}: model {facts['model']}, {len(facts['features'])} features, {facts['bytes']:,} bytes")
    differences = {"golden": facts["golden"], "thresholds": facts["thresholds"]}
    show_rows("largest differences from the bundle", named(differences, "rows of"))
