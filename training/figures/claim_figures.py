"""Figures as texts state them, from what the commands behind the claims print."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from callsieve.training.judging.detection import QUANTILES
from callsieve.training.model.certify import upper_bound
from callsieve.training.reports.run_page import between, until

Told = Mapping[str, Any]
EIGHT_MONTHS, MARCH = "sichuan_eight_months.parquet", "sichuan_march_calls.parquet"
MEASURED = ("seconds", "peak_gib")  # of a world: not of the code alone


def demo(told: Told) -> dict[str, str]:
    """Figures of one run of the whole line."""
    head = told["headline"]["model"]
    return {
        **caught(head),
        **lives(told["headline"] | told["baselines"]),
        "millions": f"{told['data']['calls'] / 1e6:.1f}",
        "false": f"{head['false_calls']:,}",
        "benign": f"{head['benign_calls']:,}",
        "bound": f"{1e4 * head['bound']:.2f}",
        "nuisance": f"{told['ranking']['nuisance']:,}",
        "logistic": percent(told["baselines"]["logistic regression"]["catch"]["call"]["rate"]),
    }


def lives(ways: Told) -> dict[str, str]:
    """How soon numbers that came later are found, and how many of their calls are stopped, beside other ways."""
    found, rule, logistic = (ways[name]["detection"] for name in ("model", "rule", "logistic regression"))
    return {
        "numbers": f"{found['callers']:,}",
        "soon": percent(found["soon_share"]),
        "least": percent(found["soon_low"]),
        "most": percent(found["soon_high"]),
        "stopped": percent(found["stopped_share"]),
        "rule_soon": percent(rule["soon_share"]),
        "rule_stopped": percent(rule["stopped_share"]),
        **{word: until(found, word) for word in QUANTILES},
        **{f"{word}_between": between(found, word) for word in QUANTILES},
        **{f"{word}_least": least(found, word) for word in QUANTILES},
        "logistic_soon": percent(logistic["soon_share"]),
        "logistic_stopped": percent(logistic["stopped_share"]),
    }


def least(found: Told, word: str) -> str:
    """Calls until found, or what is proven where that is not reached."""
    floor = found.get(f"{word}_floor")
    return f"{floor:,}" if floor is not None else "0"


def caught(head: Told) -> dict[str, str]:
    """Share of nuisance calls that is caught, with its interval."""
    rates = head["catch"]["call"]
    return {name: percent(rates[name]) for name in ("rate", "low", "high")}


def first_days(told: Told) -> dict[str, str]:
    """How many innocent calls would reach the certified band on the first day that is known, and on the eighth."""
    of_day = {one["day"]: one for one in told["days"]}
    found = {}
    for name, one in (("first", of_day[1]), ("eighth", of_day[8])):
        found[name] = f"{1e4 * one['reach_the_band'] / one['innocent']:.1f}"
        found[f"{name}_calls"] = f"{one['reach_the_band']:,}"
        found[f"{name}_innocent"] = f"{one['innocent']:,}"
    return found


def worlds(told: Told) -> dict[str, str]:
    """Figures over worlds of several seeds."""
    lines = told["lines"]
    ways = told["lives"].values()
    found = {
        f"{prefix}{name}": listed([percent(way[who][f"{name}_share"]) for way in ways])
        for prefix, who in (("", "model"), ("logistic_", "logistic regression"))
        for name in ("soon", "stopped")
    }
    rates = [percent(line["catch"]) for line in lines]
    logistic = sorted(line["logistic regression"] for line in lines)
    return {
        "certified": str(told["middle"]["certified"]),
        "rates": listed(rates),
        "least": percent(min(line["catch"] for line in lines)),
        "most": percent(max(line["catch"] for line in lines)),
        "middle": percent(statistics.median(line["catch"] for line in lines)),
        "logistic_least": percent(logistic[0]),
        "logistic_most": percent(logistic[-1]),
        "logistic_middle": percent(statistics.median(logistic)),
        "logistic_certified": str(sum(line["baselines_certified"]["logistic regression"] for line in lines)),
        **found,
        "away_false": listed([f"{rate:.1f}" for rate in told["middle"]["elsewhere_false_per_10000"]]),
        "away_mean": f"{statistics.fmean(told['middle']['elsewhere_false_per_10000']):.1f}",
        "away_catch": percent(statistics.median(told["middle"]["elsewhere_catch"])),
        "hindsight": percent(statistics.median(line["in_hindsight"]["model"] for line in lines)),
        "hindsight_logistic": percent(statistics.median(line["in_hindsight"]["logistic regression"] for line in lines)),
    }


def listed(words: list[str]) -> str:
    """Words as people list them.

    >>> listed(["1", "2", "3"]), listed(["1"])
    ('1, 2 and 3', '1')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def town(told: Told) -> dict[str, str]:
    """Figures of one larger world."""
    (line,) = told["lines"]
    (ways,) = told["lives"].values()
    figures = {name: percent(line[key]) for name, key in (("rate", "catch"), ("low", "low"), ("high", "high"))}
    return {
        **figures,
        **lives({name: {"detection": found} for name, found in ways.items()}),
        "logistic": percent(line["logistic regression"]),
        "number_class": percent(line["number class"]),
        "counters": percent(line["five counters"]),
        "listed": percent(line["reputation list"]),
        **by_kind(line["innocent"]),
        "false": f"{line['false_calls']:,}",
        "benign": f"{line['benign_calls']:,}",
        "bound": f"{1e4 * upper_bound(line['false_calls'], line['benign_calls']):.2f}",
        "seconds": f"{line['seconds']:.0f}",
        "gib": f"{line['peak_gib']:.1f}",
    }


def by_kind(innocent: Told) -> dict[str, str]:
    """How many kinds of innocent caller there are, are certified by themselves, and are flagged."""
    hit = [
        f"{one['flagged']:,} of {one['calls']:,} calls of {name.replace('_', ' ')}"
        for name, one in innocent.items()
        if one["flagged"]
    ]
    return {
        "kinds": str(len(innocent)),
        "proven": str(sum(bool(one["certified"]) for one in innocent.values())),
        "hit": listed(hit) if hit else "none",
    }


def ageing(told: Told) -> dict[str, str]:
    """How a model ages: catch of unseen groups by week, of both ways, and what of innocent calls is flagged."""
    periods, found = told["periods"], {}
    for way in ("once", "anew"):
        for suffix, name, area in (("", "unseen", "area_under_time"), ("_equal", "at_target", "area_at_target")):
            found[way + suffix] = listed([percent(one[way][name]["call"]["rate"] or 0) for one in periods])
            found[f"{way}{suffix}_mean"] = percent(told[area][way] or 0)
        found[f"{way}_false"] = f"{sum(one[way]['false_calls'] for one in periods):,}"
    return found | {"innocent": f"{sum(one['once']['benign_calls'] for one in periods):,}"}


def aged(told: Told) -> Any:
    """The figures of ageing, but for the names of folds, which are of a new key each time."""
    return [{way: one[way] for way in ("once", "anew")} for one in told["periods"]]


def stressed(told: Told) -> dict[str, str]:
    """What wrong labels cost: catch at 1 in 10,000 in the mean of worlds, and how many worlds are certified."""
    faults = {one["fault"]: one for one in told["faults"]}
    clean, *flips = (faults[name] for name in ("clean", *(name for name in faults if name.endswith("flipped"))))
    collusion = next(one for name, one in faults.items() if name.endswith("collude"))
    kinds = {"clean": [clean], "flips": flips, "collusion": [collusion], "silence": [faults["no reports"]]}
    found = {"worlds": str(clean["worlds"])}
    for name, some in kinds.items():
        found[name] = listed([percent(one["catch_at_target"]["mean"] or 0) for one in some])
        found[f"certified_{name}"] = listed([str(one["certified"]) for one in some])
    changed = (interval for name, some in kinds.items() if name != "clean" for interval in map(points, some))
    return found | {"changes": "; ".join(changed)}


def points(fault: Told) -> str:
    """A change with its interval, in points of per cent."""
    values = (fault["change_at_target"][name] for name in ("mean", "low", "high"))
    mean, low, high = (f"{100 * (value or 0):+.0f}" for value in values)
    return f"{mean} ({low} to {high})"


def install(told: Told) -> dict[str, str]:
    """Weight of the base install."""
    return {
        "size": f"{told['megabytes']:.0f}",
        "milliseconds": f"{told['import_milliseconds']:.0f}",
        "least": f"{told['import_least']:.0f}",
        "most": f"{told['import_most']:.0f}",
    }


def catalogue(told: Told) -> dict[str, str]:
    """How many features there are."""
    of_reports = sum("reported" in one["name"] for one in told["features"])
    return {"features": str(len(told["features"]) - of_reports), "reports": str(of_reports)}


def ready_made(told: Told) -> dict[str, str]:
    """Measures on the test rows of a ready-made table."""
    return {name: f"{told['test'][name]:.3f}" for name in ("auc", "macro_f1")}


def eight_months(told: Told) -> dict[str, str]:
    """AUC on the Sichuan table of eight months, over the splits."""
    return beside_plain(told["tables"][EIGHT_MONTHS])


def march(told: Told) -> dict[str, str]:
    """The same on that of March, of numbers with calls."""
    return beside_plain(told["tables"][MARCH])


def beside_plain(table: Told) -> dict[str, str]:
    """AUC with its deviation over splits, beside that of LightGBM's defaults, with and without early stopping."""
    own, plain, stopped = (one["auc"] for one in table["models"].values())
    ahead, _ = table["auc_ahead_of"].values()
    aucs = {"auc": own, "plain": plain, "stopped": stopped}
    means = {name: f"{one['mean']:.3f}" for name, one in aucs.items()}
    # Of one split, as in the quick form, there is neither deviation nor interval.
    sds = {f"{name}_sd": f"{one['sd'] or 0:.3f}" for name, one in aucs.items()}
    return means | sds | {name: f"{ahead[name] or 0:+.4f}" for name in ("low", "high")}


def flaws(told: Told) -> dict[str, str]:
    """What of the Sichuan tables is not behaviour."""
    idle, few, months, ratios, _ = (one["figures"] for one in told["flaws"])
    shares = dict(zip(("fraud", "normal"), map(percent, idle), strict=True))
    areas = {"few": few[0], "months": months[0], "ratios": ratios[0], "whole": ratios[1]}
    return shares | {name: f"{area:.2f}" for name, area in areas.items()}


def reach(told: Told) -> dict[str, str]:
    """How far a list of reported numbers reaches."""
    return {name: percent(share) for name, share in told["churn"]["shares"].items()}


def real_callers(told: Told) -> dict[str, str]:
    """Calls of real records, and those that are labelled or more."""
    of_sample = {one["sample"]: one for one in told["subscribers"]}
    fraud, other = of_sample["fake_1"], of_sample["fake_2"]
    honest = [one for name, one in of_sample.items() if name.startswith("white")]
    return {
        "calls": f"{fraud['calls']:,}",
        "labelled": str(fraud["labelled"]),
        "first": str(fraud["first"] or 0),
        "other": f"{other['calls']:,}",
        "other_labelled": str(other["labelled"]),
        "honest": f"{sum(one['calls'] for one in honest):,}",
        "honest_labelled": str(sum(one["labelled"] for one in honest)),
        "students": f"{told['copenhagen']['calls']:,}",
        "students_labelled": str(told["copenhagen"]["labelled"]),
        "unknown": f"{sum(told['reality']['no_threshold'].values()):,}",
    }


def other_models(told: Told) -> dict[str, str]:
    """Calls of real records that models of other worlds label, in the order of their seeds."""
    found = [real_callers(model) for model in told["models"]]
    each = {name: listed([one[name] for one in found]) for name in ("labelled", "students_labelled")}
    return each | {"models": str(len(found)), "calls": found[0]["calls"], "students": found[0]["students"]}


def trained(told: Told) -> Any:
    """What a training gave, but for the tokens, which are of a new key each time."""
    return [told[name] for name in ("headline", "ranking", "rows", "bands", "baselines")]


def judged(told: Told) -> Any:
    """The figures of worlds, but for time and memory."""
    return [{name: one for name, one in line.items() if name not in MEASURED} for line in told["lines"]]


def percent(rate: float) -> str:
    """A share in whole per cent.

    >>> percent(0.334)
    '33'
    """
    return f"{100 * rate:.0f}"
