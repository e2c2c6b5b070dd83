"""What the README and the other texts state in figures, and the command that each figure comes from.

A `Claim` is a command that prints JSON, and the sentences that are made of it. `callsieve evidence` runs them;
`tests/test_claims.py` fails for a figure in a text that no sentence here covers.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .certify import upper_bound
from .detection import QUANTILES
from .report import between, until

Told = Mapping[str, Any]
WORK = "{work}"  # in a command: a folder for what it writes
DATA = "../shared/data"  # where data lie that are not the project's to give away
REAL = f"{DATA}/sichuan_raw_calls_4_subscribers.csv"
EIGHT_MONTHS, MARCH = "sichuan_eight_months.parquet", "sichuan_march_calls.parquet"
TABLE, COMPLAINTS = f"{DATA}/{EIGHT_MONTHS}", f"{DATA}/ftc_complaints_2020H2.parquet"
WORLDS = ("449", "450", "451", "452", "453")
TOWN = "454"


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence, or part of one, with names of figures in braces.

    Attributes:
        figures: the text of each figure, from what the command told.
        interval: the same for the interval or bound of the first figure, if it has one.
        where: the files that say it; none if only EVIDENCE.md does.
    """

    text: str
    figures: Callable[[Told], Mapping[str, str]]
    interval: str = ""
    where: tuple[str, ...] = ("README.md",)

    def said(self, told: Told) -> tuple[str, str]:
        """Sentence and interval with their figures."""
        figures = self.figures(told)
        return self.text.format_map(figures), self.interval.format_map(figures)

    @property
    def pattern(self) -> re.Pattern[str]:
        """The sentence in a text, whatever its figures (the groups) and however its lines are broken."""
        parts = re.split(r"\{\w+\}", self.text)
        words = (r"\s+".join(re.escape(word) for word in re.split(r"\s+", part)) for part in parts)
        return re.compile(f"({FIGURE})".join(words))


FIGURE = r"\d(?:[\d.,]*\d)?(?:(?:,|\s+and)\s+\d(?:[\d.,]*\d)?)*"
"""One figure, or a list of them."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A command that prints JSON, and what is stated of it.

    Attributes:
        command: as a person types it; `WORK` stands for a folder that all claims of a run share.
        quick: what shows within seconds that the command works, of a small world; none if it is the same.
        needs: the file without which it cannot be run.
        after: the claim whose folder it needs.
        of_code: what of the quick run's output follows from the code alone, and not from machine or time: EVIDENCE.md
            keeps its hash, so that it shows when the code has changed since. Nothing, where all of it is measured.
    """

    name: str
    command: tuple[str, ...]
    statements: tuple[Statement, ...]
    quick: tuple[str, ...] = ()
    needs: str = ""
    after: str = ""
    of_code: Callable[[Told], Any] = lambda _told: ""


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


def subscribers(told: Told) -> dict[str, str]:
    """Calls of real records, and those that are labelled or more."""
    return {"calls": f"{told['calls']:,}", "labelled": str(told["calls"] - told["actions"]["pass"])}


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


MEASURED = ("seconds", "peak_gib")
PUBLISHED = ("python", "tests/bench/bench_published.py")
SCORED = (*PUBLISHED, "scoring", REAL, "score", "--json", "--layout", "sichuan", "--calls", "{}", "--bundle")
BENCHMARK = (*PUBLISHED, "evaluation", DATA, "benchmark", "--json", "--data", "{}")
OVER_SPLITS = (
    "AUC {auc} ± {auc_sd} over 5 splits, LightGBM as it comes {plain} ± {plain_sd}, with early stopping {stopped} ± "
    "{stopped_sd}"
)
UNTIL_FOUND = partial(
    Statement,
    "calls until half of them are found, at least {median_least}, and until nine in ten are, at least {p90_least}",
    interval="{median} ({median_between}), and {p90} ({p90_between})",
    where=(),
)
SEEDS = ("python", "tests/bench/bench_seeds.py", "--json", "--seeds")
CLAIMS = (
    Claim(
        "catalogue",
        ("callsieve", "catalogue", "--json"),
        (
            Statement("{features} features over six histories", catalogue, where=("CHANGELOG.md",)),
            Statement("{reports} more of earlier reports", catalogue, where=("CHANGELOG.md",)),
        ),
        of_code=lambda told: told["hash"],
    ),
    Claim(
        "base install",
        ("python", "tests/bench/bench_install.py", "--json"),
        (
            Statement("the base install takes {size} MB", install, where=()),
            Statement("it is imported in {milliseconds} ms", install, "{least}-{most} ms over 5 imports", where=()),
        ),
    ),
    Claim(
        "demo",
        ("callsieve", "demo", "--json", "--out", f"{WORK}/demo"),
        (
            Statement("of seed 1, {millions} million calls", demo),
            Statement("{false} of {benign}, proven: at most {bound} in 10,000", demo, "95 %, one-sided, exact"),
            Statement("{rate} % of its {nuisance} ({low}-{high} %)", demo, "{low}-{high} %"),
            Statement("{logistic} % of those", demo),
            Statement(
                "of {numbers} nuisance numbers that came later it finds {soon} % within ten calls, and stops "
                "{stopped} % of their calls; the regression {logistic_soon} % and {logistic_stopped} %, "
                "the rule on calls per hour {rule_soon} % and {rule_stopped} %",
                demo,
                "{least}-{most} %",
            ),
            UNTIL_FOUND(demo),
        ),
        quick=("callsieve", "demo", "--json", "--size", "tiny", "--seed", "11", "--out", f"{WORK}/tiny"),
        of_code=trained,
    ),
    Claim(
        "real subscribers",
        (*SCORED, f"{WORK}/demo/bundle"),
        (
            Statement(
                "of {calls} calls of four real subscribers in the Sichuan layout it labels {labelled}", subscribers
            ),
        ),
        quick=(*SCORED, f"{WORK}/tiny/bundle"),
        of_code=lambda told: told["actions"],
        needs=REAL,
        after="demo",
    ),
    Claim(
        "worlds",
        (*SEEDS, *WORLDS),
        (
            Statement("{certified} of these certified", worlds),
            Statement("{rates} %, the middle being {middle} %", worlds, "{least}-{most} %"),
            Statement("{logistic_least}-{logistic_most} %, in the middle {logistic_middle} %", worlds),
            Statement(
                "in the five others {soon} % within ten calls, the regression {logistic_soon} %, and {stopped} % of "
                "their calls are stopped, by the regression {logistic_stopped} %",
                worlds,
            ),
            Statement("the regression is certified in {logistic_certified} of these worlds", worlds),
            Statement("{away_false} in 10,000, in the mean {away_mean}", worlds),
            Statement("{away_catch} % elsewhere", worlds),
            Statement(
                "callsieve catches {hindsight} % in the middle of the five, the regression {hindsight_logistic} %",
                worlds,
            ),
        ),
        quick=(*SEEDS, "11", "12", "--size", "tiny"),
        of_code=judged,
    ),
    Claim(
        "town",
        (*SEEDS, TOWN, "--size", "town"),
        (
            Statement("{false} of the larger's {benign}: at most {bound} in 10,000", town, "95 %, one-sided, exact"),
            Statement("{rate} % there ({low}-{high} %)", town, "{low}-{high} %"),
            Statement("{logistic} % of the larger's", town),
            Statement(
                "of {numbers} there it finds {soon} % within ten calls, and stops {stopped} %; "
                "the regression {logistic_soon} % and {logistic_stopped} %, "
                "the rule {rule_soon} % and {rule_stopped} %",
                town,
                "{least}-{most} %",
            ),
            UNTIL_FOUND(town),
            Statement(
                "kinds of innocent caller: {kinds}, certified by themselves: {proven}",
                town,
                "flagged: {hit}",
                where=(),
            ),
            Statement(
                "the number class alone catches {number_class} % there, five counters {counters} %, and a list of "
                "reported numbers {listed} %",
                town,
            ),
            Statement("trained and judged in {seconds} s and {gib} GiB", town),
        ),
        quick=(*SEEDS, "11", "--size", "tiny"),
        of_code=judged,
    ),
    Claim(
        "published table",
        (*PUBLISHED, "training", TABLE, "train", "--json", "--seed", "1", "--vectors", "{}"),
        (Statement("on the Sichuan table AUC {auc}, macro F1 {macro_f1}", ready_made, where=()),),
        of_code=lambda told: told["test"],
        needs=TABLE,
    ),
    Claim(
        "Sichuan tables",
        BENCHMARK,
        (
            Statement(f"on eight months {OVER_SPLITS}", eight_months, "{low} to {high} ahead of the first", where=()),
            Statement(f"on calls of March {OVER_SPLITS}", march, "{low} to {high} ahead of the first", where=()),
            Statement(
                "these tables flatter any model: {fraud} % of fraud numbers and {normal} % of others have no call in "
                "March, where the number of calls alone has AUC {few}; months seen alone have AUC {months}; the best "
                "ratio {ratios}, and {whole} among numbers seen in all months",
                flaws,
                where=(),
            ),
        ),
        quick=(*BENCHMARK, "--seeds", "0"),
        of_code=lambda told: told,
        needs=TABLE,
    ),
    Claim(
        "reach of a list",
        (*PUBLISHED, "statistics", COMPLAINTS, "reports", "--json", "--layout", "ftc-counts", "{}"),
        (Statement("a list of 90 days reaches {90d_1} % of the next day's complaints", reach, where=()),),
        of_code=lambda told: told["churn"]["shares"],
        needs=COMPLAINTS,
    ),
)  # fmt: skip
