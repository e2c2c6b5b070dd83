"""The commands behind the figures that README.md and EVIDENCE.md state.

Each claim is a command that prints JSON. A function takes the figures from it, by label, and `evidence.py` writes them
into EVIDENCE.md. Shares are whole per cent; intervals are in brackets. Lists are in the order of their worlds, weeks
or seeds. To add a figure: add a claim here, run `python -m tests.tools.evidence --only NAME`, and state the figure in
the text; `test_evidence.py` fails for a figure in a text that EVIDENCE.md lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from callsieve.training.judging.judge import SHIPPED as SHIPPED_MODEL
from callsieve.training.reports.wording import between, until
from callsieve.training.studies.demo import ADAPTED as ADAPTED_MODEL

from . import speed_figures

Output = Mapping[str, Any]
Figures = dict[str, str]
MODEL, REGRESSION, RULE = "model", "logistic regression", "rule"

WORK = "{work}"
"""Placeholder in commands for a folder that all claims of a run share."""
DATA = "../shared/data"
"""Folder of data sets that are not shipped with the project."""
REAL = f"{DATA}/sichuan_raw_calls_4_subscribers.csv"
SHIPPED = "serving/shipped/bundle"
OTHER = "../shared/judges/second_world.py"
"""Another simulator, which is not shipped with the project."""
ADAPT = f"python -m tests.bench.robustness.bench_adapt --simulator {OTHER}"
ADAPT_QUICK = f"{ADAPT} --seeds 1 --people 100 --draws 1 --checks 60 --json"
OPERATORS = f"python -m tests.bench.robustness.bench_operators --simulator {OTHER}"
WORLDS = f"callsieve study worlds --json --valid-from 2026-11-28 --valid-days 730 --out {WORK}"
COUNTS = f"python -m tests.bench.bench_worlds {WORK}"
SPEED = "python -m tests.bench.speed"


def catalogue(output: Output) -> Figures:
    """Returns the number of features."""
    return {"features of calls": f"{len(output['features'])}"}


def install(output: Output) -> Figures:
    """Returns the size and import time of the base install."""
    spread = f"({output['import_least']:.0f}-{output['import_most']:.0f} ms over 5 imports)"
    return {"size": f"{output['megabytes']:.0f} MB", "import": f"{output['import_milliseconds']:.0f} ms {spread}"}


def shipped_model(output: Output) -> Figures:
    """Returns the figures of the shipped model over all worlds that it has not seen, and of each of them."""
    head, policy, by_folder = output["headline"]["model"], output["headline"]["policy"], output["by_folder"]
    rates = [1e4 * row["model"]["false_calls"] / row["model"]["benign_calls"] for row in by_folder]
    figures = {
        "model": output["model"]["id"],
        "worlds": ", ".join(row["folder"].removeprefix("judge/") for row in by_folder),
        "false calls": _false_calls(head["false_calls"], head["benign_calls"], head["bound"]),
        "bound by organisation": f"{1e4 * head['bound_by_organisation']:.2f} in 10,000",
        "false calls in 10,000 by world": f"{', '.join(f'{rate:.1f}' for rate in rates)}, mean {fmean(rates):.2f}",
        "worlds with at most 1 in 10,000": f"{sum(rate <= 1 for rate in rates)} of {len(rates)}",
        "false calls, with the rules": f"{policy['false_calls']:,}",
        "false calls by number class": ", ".join(
            f"{name} {row['false_calls']} of {row['benign_calls']:,}"
            for name, row in sorted(output["bands"][0]["strata"].items())
        ),
        "calls of surveys and announcements flagged, in no other figure": (
            f"{output['announcing']['flagged']:,} of {output['announcing']['calls']:,}"
        ),
        "catch in hindsight": percent(head["in_hindsight"]),
    }
    for name in (MODEL, REGRESSION, RULE, "five counters"):
        heads = [row["model"] if name == MODEL else row["baselines"][name] for row in by_folder]
        figures |= {
            f"catch, {name}": _mean_and_least(head["catch"]["call"]["rate"] for head in heads),
            f"found within ten calls, {name}": _mean_and_least(head["detection"]["soon_share"] for head in heads),
            f"calls stopped, {name}": _mean_and_least(head["detection"]["stopped_share"] for head in heads),
        }
    figures["calls until half are found"] = until(head["detection"], "median")
    figures["calls until nine in ten are found"] = until(head["detection"], "p90")
    for name, feed in output["feeds"].items():
        certified = "certified" if feed["certified"] else "not certified"
        counts = f"{feed['false_calls']} of {feed['benign_calls']:,}"
        figures[name] = f"{certified}, {counts}, catch {percent(feed['catch'])}"
    for name, proof in output["flags"].items():
        counts = f"{proof['false_calls']} of {proof['benign_calls']:,}"
        caught = f"catch {percent(proof['catch'])}, by single calls {percent(proof['catch_of_single_calls'])}"
        figures[f"{name}, with flagged numbers"] = f"{counts}, {caught}"
    return figures


def _mean_and_least(rates: Iterable[float | None]) -> str:
    known = [rate or 0 for rate in rates]
    return f"{_listed(known)}, mean {percent(fmean(known))}, least {percent(min(known))}"


def demo(output: Output) -> Figures:
    """Returns the figures of the demonstration: of the model trained there, and of those beside it."""
    head, baselines = output["headline"]["model"], output["baselines"]
    shipped, adapted = baselines[SHIPPED_MODEL], baselines.get(ADAPTED_MODEL)
    ways = {name: way["detection"] for name, way in (output["headline"] | baselines).items() if "detection" in way}
    return {
        "calls": f"{output['data']['calls'] / 1e6:.1f} million",
        "false calls": _false_calls(head["false_calls"], head["benign_calls"], head["bound"]),
        "nuisance calls": f"{output['ranking']['nuisance']:,}",
        "catch": _with_interval(head["catch"]["call"], "rate"),
        f"catch, {REGRESSION}": percent(baselines[REGRESSION]["catch"]["call"]["rate"]),
        "false calls, shipped model": f"{shipped['false_calls']}",
        "catch, shipped model": percent(shipped["catch"]["call"]["rate"]),
        "found within ten calls, shipped model": percent(shipped["detection"]["soon_share"]),
        **(_of_adapted(adapted) if adapted else {}),
        **_detection(ways),
    }


def _of_adapted(head: Output) -> Figures:
    return {
        "false calls, adapted model": f"{head['false_calls']}",
        "catch, adapted model": percent(head["catch"]["call"]["rate"]),
    }


def adapting(output: Output) -> Figures:
    """Returns catch and false calls of the adapted model over the networks of each form, and of others beside it."""
    figures = {}
    for form in sorted({name.partition(" ")[2] for name in output}):
        networks = [network for name, network in output.items() if name.partition(" ")[2] == form]
        kind = form or "complete"
        for checks in networks[0]["checks"]:
            where = f"{kind}, {checks} checks"
            draws = [draw for network in networks for draw in network["checks"][checks]["draws"]]
            rates = [draw["adapted"]["flagged_in_10000"] for draw in draws]
            for model, label in (("adapted", "catch"), ("threshold", "catch by the threshold alone")):
                caught = [draw[model]["caught"] for draw in draws]
                figures[f"{label}, {where}"] = f"mean {percent(fmean(caught))}, least {percent(min(caught))}"
            figures[f"false calls in 10,000, {where}"] = f"mean {fmean(rates):.2f}, most {max(rates):.2f}"
            figures[f"draws above 1 in 10,000, {where}"] = f"{sum(rate > 1 for rate in rates)} of {len(rates)}"
        bases = [network["base"] for network in networks]
        false = ", ".join(f"{base['flagged_in_10000']:.1f}" for base in bases)
        figures[f"base as it is, {kind}"] = (
            f"catch {_listed(base['caught'] for base in bases)}; false calls in 10,000 {false}"
        )
    return figures


def operators(output: Output) -> Figures:
    """Returns feed, false calls and catch on the records of an operator with one number in so many."""
    figures = {}
    for share, ways in output.items():
        for way, judged in ways.items():
            calls = judged["calls"]
            false = f"{calls['flagged_in_10000']:.2f} in 10,000 ({calls['flagged']:,} of {calls['innocent']:,})"
            figures[f"1 of {share} numbers, feed {way}"] = (
                f"{judged['feed']}; false calls {false}; caught {percent(calls['caught'])}"
            )
    return figures


def by_number(output: Output) -> Figures:
    """Returns the nuisance numbers that are flagged by their 50th call, and the innocent numbers that are flagged."""
    sums = {name: sum(world[name] for world in output["worlds"]) for name in output["worlds"][0]}
    rates = [world["flagged_in_hindsight"] / world["nuisance"] for world in output["worlds"] if world["nuisance"]]
    return {
        "nuisance numbers of 50 calls or more": f"{sums['nuisance']:,}",
        "flagged by then where 1 in 10,000 innocent numbers is": _mean_and_least(rates),
        "flagged by then at the certified threshold": f"{sums['flagged']:,}",
        "innocent numbers flagged at it": f"{sums['innocent_flagged']:,} of {sums['innocent']:,}",
    }


def number_of_worlds(output: Output) -> Figures:
    """Returns catch, early finding and false calls by the number of worlds, and without each family of features."""
    figures = {}
    for name, worlds in (output["worlds"] | output["labels"]).items():
        for key, label in (("catch", "catch"), ("soon", "found within ten calls")):
            rates = [world[key] for world in worlds]
            figures[f"{label}, {name}"] = f"mean {percent(fmean(rates))}, least {percent(min(rates))}"
        false = [world["false"] for world in worlds]
        figures[f"false calls in 10,000, {name}"] = f"mean {fmean(false):.1f}, most {max(false):.1f}"
    return figures


def first_days(output: Output) -> Figures:
    """Returns the innocent calls above the threshold on the first day of a history, and on the eighth."""
    days = {day["day"]: day for day in output["days"]}
    return {
        f"innocent calls above the threshold in 10,000, day {day}": f"{1e4 * reach / innocent:.1f} "
        f"({reach:,} of {innocent:,})"
        for day in (1, 8)
        for reach, innocent in [(days[day]["reach_the_band"], days[day]["innocent"])]
    }


def real_callers(output: Output) -> Figures:
    """Returns the labelled calls in records of real callers."""
    figures = {
        f"labelled, {sample['sample']}": f"{sample['labelled']} of {sample['calls']:,}"
        + (f", the first is call {sample['first']}" if sample["first"] else "")
        for sample in output["subscribers"]
    }
    students = output["copenhagen"]
    figures["labelled, students in Copenhagen"] = f"{students['labelled']} of {students['calls']:,}"
    figures["without a threshold, Reality Mining Study"] = f"{sum(output['reality']['no_threshold'].values()):,}"
    return figures


def percent(rate: float | None) -> str:
    """Returns a share in whole per cent; 0 for a share that was not measured.

    >>> percent(0.334), percent(None)
    ('33 %', '0 %')
    """
    return f"{100 * (rate or 0):.0f} %"


def _listed(rates: Iterable[float | None]) -> str:
    return ", ".join(map(percent, rates))


def _with_interval(figures: Output, name: str) -> str:
    low, high = (f"{100 * (figures[end] or 0):.0f}" for end in ("low", "high"))
    return f"{percent(figures[name])} ({low}-{high} %)"


def _false_calls(flagged: int, innocent: int, bound: float) -> str:
    return f"{flagged:,} of {innocent:,}, at most {1e4 * bound:.2f} in 10,000 (95 %, one-sided, exact)"


def _detection(ways: Mapping[str, Output]) -> Figures:
    """Returns the numbers detected and calls stopped by each way, and the calls until the model detects a number."""
    model = ways[MODEL]
    low, high = (f"{100 * (model[f'soon_{end}'] or 0):.0f}" for end in ("low", "high"))
    figures = {"new nuisance numbers": f"{model['callers']:,}"}
    for name in (MODEL, REGRESSION, RULE):
        interval = f" ({low}-{high} %)" if name == MODEL else ""
        figures[f"found within ten calls, {name}"] = percent(ways[name]["soon_share"]) + interval
        figures[f"calls stopped, {name}"] = percent(ways[name]["stopped_share"])
    for label, word in (("half", "median"), ("nine in ten", "p90")):
        figures[f"calls until {label} are found"] = f"{until(model, word)} ({between(model, word)})"
    return figures


@dataclass(frozen=True, slots=True)
class Claim:
    """A command and the figures that its output gives.

    Attributes:
        name: as in EVIDENCE.md and for `--only`.
        command: as typed in the project's folder; prints JSON.
        figures: takes the figures from the output.
        hashed: the part of the output that follows from the code alone, and not from time, machine or random keys.
            EVIDENCE.md keeps the hash of this part of the quick command's output. None if all of it is measured, or if
            a test checks it.
        quick: a form of the command on a tiny world; empty if the command itself is quick, or only measures:
            a quick run leaves such a command out.
        needs: a file without which the command cannot run.
    """

    name: str
    command: str
    figures: Callable[[Output], Figures]
    hashed: Callable[[Output], Any] | None
    quick: str = ""
    needs: str = ""


def _training_part(output: Output) -> Any:
    """Returns the figures without the ids of data and model, because each run keys its calls anew."""
    return [output[name] for name in ("headline", "ranking", "rows", "bands", "baselines", "by_folder", "feeds")]


def _without_shipped(output: Output) -> Any:
    """Returns the figures of a training without those of the shipped model beside it, which such a training makes."""
    by_folder = [row | {"baselines": _other_ways(row["baselines"])} for row in output["by_folder"]]
    return _training_part({**output, "baselines": _other_ways(output["baselines"]), "by_folder": by_folder})


def _other_ways(baselines: Output) -> Output:
    return {name: way for name, way in baselines.items() if name != SHIPPED_MODEL}


CLAIMS = (
    Claim("catalogue", "callsieve features --list --json", catalogue, lambda output: output["hash"]),
    Claim(
        "base install", "python -m tests.bench.bench_install --json", install, None,
        quick="python -m tests.bench.bench_install --quick --json",
    ),
    Claim(
        "shipped model", f"{WORLDS}/worlds", shipped_model, _without_shipped,
        quick=f"{WORLDS}/few --size tiny --worlds 2",
    ),
    Claim(
        "by number", f"python -m tests.bench.bench_numbers {SHIPPED}", by_number, lambda output: output["worlds"],
        quick=f"python -m tests.bench.bench_numbers {SHIPPED} --size tiny --seeds 11",
    ),
    Claim(
        "number of worlds", f"{COUNTS}/pool --families 4", number_of_worlds,
        lambda output: [output["worlds"], output["labels"]], quick=f"{COUNTS}/counts --size tiny --counts 1 --others 1",
    ),
    Claim(
        "demo", f"callsieve demo --json --out {WORK}/demo", demo, _training_part,
        quick=f"callsieve demo --json --size tiny --seed 11 --out {WORK}/tiny",
    ),
    Claim(
        "full demo", f"callsieve demo --full --json --out {WORK}/full", demo, _training_part,
        quick=f"callsieve demo --full --json --size tiny --seed 11 --out {WORK}/full-tiny",
    ),
    Claim(
        "one operator", f"{OPERATORS} --json", operators, lambda output: output,
        quick=f"{OPERATORS} --people 100 --days 10 --shares 20 --json", needs=OTHER,
    ),
    Claim(
        "adapting", f"{ADAPT} --seeds 51,52 --draws 5 --json", adapting, lambda output: output, quick=ADAPT_QUICK,
        needs=OTHER,
    ),
    Claim(
        "adapting by checks",
        f"{ADAPT} --seeds 81 --people 3000 --draws 2 --checks 20,50,100,200,400 --json "
        "--picture docs/pictures/checks.svg",
        adapting, lambda output: output, quick=ADAPT_QUICK, needs=OTHER,
    ),
    Claim(
        "real subscribers", f"python -m tests.bench.bench_real {SHIPPED} {DATA}", real_callers, lambda output: output,
        needs=REAL,
    ),
    Claim(
        "first days", f"python -m tests.bench.bench_cold {SHIPPED}", first_days, lambda output: output["days"],
        quick=f"python -m tests.bench.bench_cold {SHIPPED} --size tiny --seed 11",
    ),
    Claim("start", f"{SPEED}.bench_start --json", speed_figures.starting, None),
    Claim("live call", f"{SPEED}.bench_serve --json", speed_figures.live_call, None),
    Claim("history", f"{SPEED}.bench_live --even 1000000 --calls-each 1 4 --json", speed_figures.history, None),
    Claim("HTTP", f"{SPEED}.bench_http --json", speed_figures.http, None, needs="/usr/bin/wrk"),
    Claim("scoring a file", f"{SPEED}.bench_score --calls 1500000 --json", speed_figures.scoring, None),
    Claim(
        "features beside Polars", f"{SPEED}.bench_features --calls 1000000 --json", speed_figures.feature_rates, None,
    ),
)  # fmt: skip
