"""What the README and the other texts state in figures, and the command that each figure comes from.

A `Claim` is a command that prints JSON, and the sentences that are made of it. `callsieve evidence` runs them;
`tests/training/figures/test_claims.py` fails for a figure in a text that no sentence here covers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .claim_figures import (
    EIGHT_MONTHS,
    Told,
    aged,
    ageing,
    catalogue,
    demo,
    eight_months,
    first_days,
    flaws,
    install,
    judged,
    march,
    other_models,
    reach,
    ready_made,
    real_callers,
    stressed,
    town,
    trained,
    worlds,
)

WORK = "{work}"  # in a command: a folder for what it writes
DATA = "../shared/data"  # where data lie that are not the project's to give away
REAL = f"{DATA}/sichuan_raw_calls_4_subscribers.csv"
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


PUBLISHED = ("python", "tests/bench/bench_published.py")
FIRST_DAYS = ("python", "tests/bench/bench_cold.py")
SAID_OF_REAL = ("python", "tests/bench/bench_real.py")
OTHERS_OF_REAL = ("python", "tests/bench/bench_real_seeds.py", DATA, "--out", f"{WORK}/seeds", "--seeds")
AGEING = ("python", "tests/bench/bench_decay.py")
STRESS = ("callsieve", "stress", "--json", "--out", f"{WORK}/stress", "--size")
BENCHMARK = (*PUBLISHED, "evaluation", DATA, "tests/bench/bench_sichuan.py", "--data", "{}")
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
        (*SAID_OF_REAL, f"{WORK}/demo/bundle", DATA),
        (
            Statement(
                "of {calls} calls of a real fraud number it labels {labelled}, the first being call {first}; of "
                "{other} of another one, which calls like a person, {other_labelled}; of {honest} of honest "
                "subscribers {honest_labelled}; and of {students} of students in Copenhagen {students_labelled}",
                real_callers,
            ),
            Statement("of {unknown} calls of the Reality Mining Study it says nothing", real_callers),
        ),
        quick=(*SAID_OF_REAL, f"{WORK}/tiny/bundle", DATA),
        of_code=lambda told: {name: one for name, one in told.items() if name != "model"},
        needs=REAL,
        after="demo",
    ),
    Claim(
        "real subscribers, other models",
        (*OTHERS_OF_REAL, "462", "463", "464"),
        (
            Statement(
                "models of {models} other worlds label {labelled} of those {calls}, and {students_labelled} of those "
                "{students}",
                other_models,
            ),
        ),
        quick=(*OTHERS_OF_REAL, "11", "--size", "tiny"),
        of_code=lambda told: told["models"],
        needs=REAL,
    ),
    Claim(
        "first days",
        (*FIRST_DAYS, f"{WORK}/demo/bundle"),
        (
            Statement(
                "on the first day that it knows, {first} of 10,000 innocent calls would reach the band of the "
                "demonstration's model, on the eighth {eighth}",
                first_days,
                "{first_calls} of {first_innocent}, and {eighth_calls} of {eighth_innocent}",
            ),
        ),
        quick=(*FIRST_DAYS, f"{WORK}/tiny/bundle", "--size", "tiny", "--seed", "11"),
        of_code=lambda told: told["days"],
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
        "ageing",
        AGEING,
        (
            Statement(
                "trained once, of nuisance calls of unseen groups {once} % are caught week by week, trained anew each "
                "week {anew} %",
                ageing,
                "in the mean {once_mean} and {anew_mean} %",
                where=(),
            ),
            Statement(
                "at 1 in 10,000 of each week's own innocent calls {once_equal} % and {anew_equal} %",
                ageing,
                "in the mean {once_equal_mean} and {anew_equal_mean} %",
                where=(),
            ),
            Statement(
                "innocent calls flagged in these weeks: {once_false} and {anew_false} of {innocent}", ageing, where=()
            ),
        ),
        quick=(*AGEING, "--size", "tiny", "--seed", "11", "--train-days", "24", "--weeks", "2", "--days", "2"),
        of_code=aged,
    ),
    Claim(
        "wrong labels",
        (*STRESS, "small", "--seeds", "458,459,460"),
        (
            Statement(
                "at 1 in 10,000 a training on clean labels catches {clean} %, with 5, 10 and 20 % of labels flipped "
                "{flips} %, with 1 % of reporters colluding {collusion} %, and without reports {silence} %",
                stressed,
                "changes in points, over {worlds} worlds: {changes}",
                where=(),
            ),
            Statement(
                "certified of {worlds} worlds: {certified_clean} clean, {certified_flips} flipped, "
                "{certified_collusion} with collusion, {certified_silence} without reports",
                stressed,
                where=(),
            ),
            Statement("of {worlds} more, of a study of wrong labels, {certified_clean} were", stressed),
        ),
        quick=(*STRESS, "tiny", "--seeds", "11"),
        of_code=lambda told: told["faults"],
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
