"""A training, an evaluation, scored calls and an export as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from callsieve.serving.bundle.signing import SIGNER
from callsieve.serving.cli.console import note, say, show_table
from callsieve.training.adapt.answers import SHEET
from callsieve.training.judging.detection import QUANTILES, SOON
from callsieve.training.judging.judge import SHIPPED
from callsieve.training.oversight.log.looks import in_words
from callsieve.training.preflight import KINDS
from callsieve.training.reports import before_after as compared
from callsieve.training.reports import headline_list as measure
from callsieve.training.reports.check_page import PAGE
from callsieve.training.reports.next_steps import not_better
from callsieve.training.reports.wording import interval, missing, rule_in_words, share, until

if TYPE_CHECKING:
    from callsieve.training.adapt.adapted_figures import AdaptedFigures
    from callsieve.training.evidence.funnel import Covered, TooFew
    from callsieve.training.judging.calls_made import Bucket
    from callsieve.training.judging.evaluate import EvaluationFigures
    from callsieve.training.judging.evasions import Evasion, KnownGroup
    from callsieve.training.judging.figures import Headline, Mean
    from callsieve.training.judging.headline import FolderFigures
    from callsieve.training.judging.run_figures import RecordedRun
    from callsieve.training.model.bands import FeedFigures
    from callsieve.training.preflight import Preflight
    from callsieve.training.studies.simulated import Facts
    from callsieve.training.tracking.onnx_export import Export

NONE = "–"  # nothing was measured
REFUSED = ", refused by a gate"
COUNTED: tuple[Literal["calls", "groups"], ...] = ("calls", "groups")
BY_RULES: tuple[Literal["caught_by_rules", "caught_by_policy"], ...] = ("caught_by_rules", "caught_by_policy")


def training(figures: RecordedRun, folder: Path) -> None:
    """Prints the headline of a training, the verdicts of its last day, and the next commands."""
    numbers = "of numbers that first called after the training, of groups unseen in training"
    if figures["adapted"]:
        numbers = "of numbers that first called after the first 7 days"
    shipped = figures["baselines"].get(SHIPPED)
    headline(figures, numbers, refused=bool(figures["gates"]["refused"]), shipped=shipped)
    for sign in figures["odd_records"]:
        say(f"warning: {sign}")
    if figures["adapted"]:
        before_and_after(figures, figures["adapted"])
    if sentence := not_better(figures):
        say(sentence)
    covered(figures["covered"], figures["too_few"])
    if figures["by_folder"]:
        by_folder(figures["by_folder"])
    feeds(figures["feeds"])
    last = figures["last_day"]
    rows = [(word, f"{last['actions'][word]:,}", f"{last['callers'][word]:,}") for word in last["actions"]]
    show_table(f"verdicts on {last['date']}", ("action", "calls", "callers"), rows)
    say(f"report   {folder / 'report.html'}")
    if figures["tracking"]["version"]:
        say(f"bundle   {folder / 'bundle'}   (model {figures['model']['id']}, signed; public key {folder / SIGNER})")
    else:
        name = figures["model"]["estimator"]
        say(f"bundle   none: only a LightGBM model can be signed; the model of {name} is evaluated and recorded")
    if (folder / PAGE).exists():
        say(f"check    {folder / PAGE}   (fill in {folder / SHEET} and give it back with --answers)")
    for command in figures["next"]:
        say(f"next     {command}")


def before_and_after(figures: RecordedRun, adapted: AdaptedFigures) -> None:
    """Prints an adapted model beside its base, the kinds of callers, whom evidence decides, and what was learnt."""
    head = ("", f"base {adapted['base']}", "adapted")
    show_table("all calls of the network, by probability and checks", head, compared.network_rows(adapted))
    show_table(f"before and after, on {figures['data']['judged_on']}", head, compared.judged_rows(figures))
    show_table("flagged calls by kind", ("", "calls", "numbers", *head[1:]), compared.kind_rows(figures))
    show_table("callers", ("", "callers", "calls"), compared.covered_rows(adapted["covered"]))
    show_table("checks and complaints", ("", "number"), compared.check_rows(adapted))
    for sentence in filter(None, (compared.too_few(adapted), f"learnt {adapted['learnt']}: {adapted['why']}")):
        say(sentence)


def preflight(counts: Preflight) -> None:
    """Prints the labelled calls and groups of each fold, and what is too small to train on."""
    rows = [
        (fold, str(usable["days"]), *(f"{usable[kind][of]:,}" for kind in KINDS for of in COUNTED))
        for fold, usable in counts["folds"].items()
    ]
    columns = ("fold", "days", "innocent calls", "groups", "nuisance calls", "groups")
    show_table(f"{counts['calls']:,} calls of {counts['days']} days, {counts['groups']:,} groups", columns, rows)
    groups = counts["folds"]["train"]["nuisance"]["groups"]
    say(f"independent nuisance groups to learn from: {groups:,}; needed: {counts['needed']:,}")
    covered(counts["covered"], counts["too_few"])
    for sign in counts["odd_records"]:
        say(f"warning: {sign}")
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
    """Prints the demonstration on one screen: models that were not trained here, the model trained here and the rule.

    Args:
        ready: names of the shipped and the adapted model among the baselines.
    """
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
    say("next     callsieve score --calls FILE --layout LAYOUT   (with the shipped model)")
    for command in figures["next"]:
        say(f"next     {command}")


def headline(
    figures: RecordedRun | EvaluationFigures, numbers: str, *, refused: bool = False, shipped: Headline | None = None
) -> None:
    """Prints false positives with their bound, catch rates and calls to detection: of the model alone, of the whole
    policy, and of the best fixed rule.

    Args:
        numbers: the numbers whose calls to detection are counted, in words.
        refused: whether a gate refuses the model.
        shipped: the headline of the shipped model on the same calls; None leaves it out.
    """
    policy, rule = figures["headline"]["policy"], figures["headline"]["rule"]
    beside = [] if shipped is None else [shipped]
    sides: tuple[Headline, ...] = (figures["headline"]["model"], policy, *beside, rule)
    rows = measure.rows(measure.HEADLINE, sides)
    rows[measure.HEADLINE.index(measure.CERTIFIED)][1] += REFUSED if refused else ""
    data = figures["data"]
    title = f"{data['calls']:,} calls; evaluated on {data['judged_on']} ({data['source']})"
    ways = ("model alone", f"with the rules of policy {policy['policy']}", *[SHIPPED] * len(beside))
    show_table(title, ("", *ways, rule_in_words(rule["rule"])), rows)
    if figures["attacks"]:
        buckets(figures["buckets"])
    if len(figures["attacks"]) > 1:  # without known evasions there is one row, which repeats the headline
        attacks(figures["attacks"], numbers)


def by_folder(figures: Sequence[FolderFigures]) -> None:
    """Prints the operating points on each folder that was used for the certificate."""
    rows = [
        (
            folder["folder"],
            *(figure.value(folder["model"]) for figure in measure.OF_FOLDERS),
            measure.CAUGHT.value(folder["baselines"]["logistic regression"]),
        )
        for folder in figures
    ]
    head = ("", *(figure.label for figure in measure.OF_FOLDERS), "regression catches")
    show_table("folders used for the certificate", head, rows)


def feeds(figures: Mapping[str, FeedFigures]) -> None:
    """Prints the certificate of a model for each kind of incomplete records."""
    rows = [
        (
            name,
            measure.flagged(feed),
            "yes" if feed["certified"] else "no: the model abstains",
            share(feed["catch"]),
        )
        for name, feed in figures.items()
    ]
    head = ("records", measure.FLAGGED.label, measure.CERTIFIED.label, measure.CAUGHT.label)
    show_table("incomplete records", head, rows)


def evaluation(figures: EvaluationFigures) -> None:
    """Prints the headline of a bundle on other calls, and separately for callers of unseen groups."""
    headline(figures, "of numbers that first called after the first 7 days, of any group")
    say(in_words(figures))
    feed = figures["feed"]
    if not feed["bands"]:
        say(f"the model has no threshold for the feed of these records, {feed['name']}; a service abstains")
    seen, unseen = figures["seen"], figures["unseen"]
    if seen is None or unseen is None:
        say(f"groups seen and unseen in training: {figures['seen_basis']}")
        return
    rows = [
        (
            name,
            f"{side['calls']:,}",
            measure.flagged(side),
            interval(side["catch"]["call"]),
        )
        for name, side in (("possibly", seen), ("no", unseen))
    ]
    title = f"caller's group seen in training, by {figures['seen_basis']}"
    show_table(title, ("", "calls", measure.FLAGGED.label, measure.CAUGHT.label), rows)


def buckets(figures: Sequence[Bucket]) -> None:
    """Prints catch rate and false positives by the number of earlier calls of the caller."""
    rows = [
        (
            bucket["bucket"],
            f"{bucket['calls']:,} from {bucket['callers']:,}",
            interval({"rate": bucket["catch"], "low": bucket["low"], "high": bucket["high"]})
            if bucket["calls"]
            else NONE,
            measure.flagged(bucket),
        )
        for bucket in figures
    ]
    head = ("", "nuisance calls from numbers", "caught", measure.FLAGGED.label)
    show_table("by the number of earlier calls", head, rows)


def attacks(figures: Sequence[Evasion], numbers: str) -> None:
    """Prints what catches each evasion, and how many of its calls pass before detection; groups seen in training have a
    table of their own, if any of their numbers is new.
    """
    rows = [
        (
            attack["attack"].replace("_", " "),
            f"{attack['judged_calls']:,}",
            interval(attack["caught"]) if attack["judged_calls"] else NONE,
            *(share(attack[key]["rate"]) if attack["judged_calls"] else NONE for key in BY_RULES),
            f"{attack['numbers']:,}",
            *(until(attack["detection"], word) if attack["numbers"] else NONE for word in QUANTILES),
            mean(attack["calls_through_a_number"]),
            mean(attack["people_reached_by_a_number"]),
        )
        for attack in figures
    ]
    detection = ("new numbers", "calls until detection", "for nine in ten", "calls passed by number", "people reached")
    head = ("evasion", "calls", "caught by the model", "by the rules", "by both", *detection)
    show_table(f"evasions: calls before detection, {numbers}", head, rows)
    if all(attack["known_group"]["numbers"] == 0 for attack in figures):
        return
    show_table(
        "evasions: numbers that first called after the training, of groups seen in training",
        ("evasion", "new numbers", "detected", "calls passed by number"),
        [(attack["attack"].replace("_", " "), *known_group(attack["known_group"])) for attack in figures],
    )


def known_group(figures: KnownGroup) -> tuple[str, ...]:
    """Returns the cells for numbers of groups seen in training; dashes where these groups are unknown."""
    if not figures["numbers"]:
        return (NONE if figures["numbers"] is None else "0", NONE, NONE)
    return (f"{figures['numbers']:,}", share(figures["detected"]), mean(figures["calls_through_a_number"]))


def mean(value: Mean) -> str:
    """Returns a mean with its interval, if it has one."""
    if value["mean"] is None:
        return NONE
    return f"{value['mean']:,.0f}" + ("" if value["low"] is None else f" ({value['low']:,.0f} - {value['high']:,.0f})")


def worlds(facts: Sequence[Facts]) -> None:
    """Prints the folder and the row counts of each simulated world."""
    counts = ("calls", "numbers", "complaints", "findings")
    rows = [(str(world["folder"]), *(f"{world[name]:,}" for name in counts)) for world in facts]
    show_table("simulated worlds", ("folder", *counts), rows)


def onnx(facts: Export, file: Path) -> None:
    """Prints the size of an exported model and its largest differences from the bundle."""
    say(f"{file}: model {facts['model']}, {len(facts['features'])} features, {facts['bytes']:,} bytes")
    rows = [
        (
            name,
            f"{difference['rows']:,}",
            f"{difference['raw']:.1e}",
            f"{difference['probability']:.1e}",
            str(difference["bands"]),
            f"{difference['float32_raw']:.1e}",
            str(difference["float32_bands"]),
        )
        for name, difference in (("golden", facts["golden"]), ("thresholds", facts["thresholds"]))
    ]
    head = ("rows", "count", "raw score", "probability", "other band", "raw score, float32 features", "other band")
    show_table("largest differences from the bundle", head, rows)
