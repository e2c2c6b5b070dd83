"""Checks, comparisons and complaints as tables for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from callsieve.serving.cli.console import say, show_table
from callsieve.training.log.looks import in_words
from callsieve.training.studies.rule_figures import _interval, _plain


def show_complaints(told: dict[str, Any]) -> None:
    """The figures for a person."""
    plain = ("rows", "complaints", "day_only", "resubmitted", "first", "last")
    rows = [(name.replace("_", " "), str(told[name])) for name in plain]
    rows += [(f"quarantined: {reason.replace('_', ' ')}", str(found)) for reason, found in told["quarantined"].items()]
    rows += [(f"complaints a {name.replace('_', ' ')}", f"{mean:.0f}") for name, mean in told["a_day"].items()]
    for name, share in told["churn"]["shares"].items():
        window, least = name.split("_")
        title = f"number had {least} or more in the last {window.removesuffix('d')} days"
        rows.append((title, "unknown, records too short" if share is None else f"{share:.1%}"))
    show_table("complaints", ("what", "how many"), rows)


def show_duties(found: Mapping[str, Any]) -> None:
    """The report for a person."""
    for row in found["processing"]:
        say(json.dumps(row, ensure_ascii=False, indent=2))
    beside = [(one["person"], one["act"], one["purpose"], f"{one['count']:,}") for one in found["given_beside"]]
    show_table("given, of none of these folders", ("person", "act", "purpose", "rows"), beside, texts=3)
    words = {True: "holds", False: "BROKEN", None: "not looked into"}
    rows = [(words[one["holds"]], one["name"], one["row"], one["found"]) for one in found["duties"]]
    show_table(f"duties at {found['at']}", ("", "duty", "row", "found"), rows, texts=4)


def show_membership(found: Mapping[str, Any]) -> None:
    """The figures for a person."""

    def written(one: Mapping[str, float] | None) -> str:
        return "-" if one is None else f"{one['value']:.3f} ({one['low']:.3f}-{one['high']:.3f})"

    rows = [
        (kind, f"{told['members']:,}", f"{told['others']:,}", written(told["loss"]), written(told["learned"]),
         {True: "yes", False: "no", None: "too few"}[told["holds"]])
        for kind, told in found["kinds"].items()
    ]  # fmt: skip
    head = ("callers", "members", "others", "by loss", "learned", f"at most {found['most_auc']}")
    show_table(f"who was in the training of model {found['model']}: area under the curve, 0.5 is a coin", head, rows)
    say(f"smallest leaf: {found['smallest_leaf']:,} training calls")


def show_policy_diff(told: dict[str, Any]) -> None:
    """The difference for a person."""
    say(f"policy {told['old']} -> {told['new']}: {told['changed']:,} of {told['calls']:,} calls change fate")
    if "touches" in told:
        say(in_words(told))
    if not told["changed"]:
        return
    for title, name, rows in (("all", None, told["actions"]), *((n, n, rows) for n, rows in told["slices"].items())):
        shown = [
            (row[name] if name else "", row["from"], row["to"], f"{row['calls']:,}", f"{row['callers']:,}")
            for row in rows
        ]
        show_table(title.replace("_", " "), ("slice", "from", "to", "calls", "callers"), shown, texts=3)
    show_table("rules that these calls meet", ("rule", "calls"),
               [(name.replace("_", " "), f"{calls:,}") for name, calls in told["rules"].items()])  # fmt: skip


def show_rule_figures(found: dict[str, Any]) -> None:
    """The figures for a person."""
    say(f"{found['calls']:,} calls, {found['nuisance']:,} of them nuisance; {found['registers']:,} rows of registers")
    rows = []
    for name, told in found["rules"].items():
        worst = next(iter(told["benign_slices"].items()), None)
        shown = "" if worst is None else f"{worst[0].replace('_', ' ')}, {worst[1]['rate']:.1%} of it"
        cells = (_interval(told["precision"]), *(_plain(told[part]) for part in ("caller_precision", "recall")))
        rows.append((name.replace("_", " "), f"{told['calls']:,}", *cells, shown))
    show_table("rules against the truth", ("rule", "calls", "precision", "by caller", "recall", "innocents hit"), rows)
    if len(found["regions"]) > 1:
        _show_regions(found["regions"])
    if "model" in found:
        _show_apart(found["model"])


def _show_regions(regions: dict[str, Any]) -> None:
    rows = [
        (name or "all others", f"{told['callers']:,}", _plain(told["nuisance"]),
         *(_interval(told[how]) for how in ("with_rule", "without_rule", "by_model")))
        for name, told in regions.items()
    ]  # fmt: skip
    head = ("region", "innocent callers", "nuisance", "not passed", "without the rule", "by the model")
    show_table("innocent calls by listed region", head, rows)


def _show_apart(model: dict[str, Any]) -> None:
    cells = ("model_alone", "rules_alone", "both", "neither")
    rows = [(kind, *(f"{model[kind][cell]:,}" for cell in cells)) for kind in ("nuisance", "benign")]
    title = f"band {model['band']} of model {model['id']}, and rules apart"
    show_table(title, ("calls", *(cell.replace("_", " ") for cell in cells)), rows)
    whole, rest = _interval(model["catch"]), _interval(model["catch_without_rule_hits"])
    say(f"the model's catch: {whole}; of nuisance calls that no rule decides: {rest}")
    false = [model[name] for name in ("false", "false_without_rule_hits")]
    whole, rest = (f"{one['part']:,} of {one['whole']:,}, at most {one['high']:.4%}" for one in false)
    say(f"the model's false calls: {whole}; of innocent calls that no rule decides: {rest}")
    say(in_words(model))
