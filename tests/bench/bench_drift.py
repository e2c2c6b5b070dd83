"""Counts detected shifts and false alarms of `callsieve model monitor` on simulated worlds.

python -m tests.bench.bench_drift --seeds 510 511 [--subscribers 12000] [--out FILE]

For each seed a world has 35 days to train on, and then four weeks of normal days, on which an alarm is false. A working
day of the week after is a holiday, and must raise an alarm. So must a day of the sixth week, shifted in each way of the
catalogue: broken feeds, and the calls of new attacks.

The policy shock has a second world with its own model and four normal weeks. In crackdown.toml many small callers are
cut off, on a working day because most of them rest at weekends. In the default world a few outfits are cut off. The
true labels of the calls also give a statistic for each policy shock. A shock that they do not show counts neither as
detected nor as missed, but is listed.

Thresholds were chosen on seeds 111, 112, 211, 212, 213, 550 and 551. The threshold for callers without incoming calls
was chosen on 564 to 569. Seeds 560 to 563 helped to design the second world; seeds from 570 on judge.
"""

import json
import sys
import time
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.table import vectors
from callsieve.serving.batch.fill_memory import HISTORY_DAYS
from callsieve.serving.bundle.forest import read_forest
from callsieve.training.data.dataset import make_dataset
from callsieve.training.data.feeds import feed_of_all
from callsieve.training.drift.days import EPOCH, Day, ScoredCalls, day_figures, histogram_cuts
from callsieve.training.drift.monitor import compare
from callsieve.training.drift.reference import build_reference
from callsieve.training.model.folds import day_slices, whole_days
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import WINDOW_DAYS
from callsieve.training.model.train import train
from callsieve.training.run import scored_calls
from callsieve.training.studies.demo import of_world
from callsieve.training.world import keyed_world, simulate
from tests.bench.harness import parser_of
from tests.support.calls import feed_faults
from tests.support.calls.worlds import scenario_of
from tests.support.paths import ROOT

START, TRAINED, WATCHED = date(2025, 3, 3), 35, 28  # a Monday; whole weeks
CRACKDOWN = (ROOT / "training" / "world" / "basis" / "crackdown.toml").read_text()
CUT_OFF = {name: outfit["after_shock_share"] for name, outfit in tomllib.loads(CRACKDOWN)["outfits"].items()}
ATTACKS = ("rotation_in_block", "warmed_up", "bombing", "sim_box", "spoofed_service")
MEASURES = ("histogram", "amount", "together")
THREADS = 1  # with a lower priority, several threads wait for each other
ATTACK_SHARE = 0.10  # at most, of the calls of the day
NORMAL, SHIFT, NOT_VISIBLE = "normal", "shift", "not visible"


class Case(NamedTuple):
    """A day to judge, in days since 1970, with the calls up to it, and complaints that replace those of the world."""

    what: str
    on: int
    calls: pa.Table
    complaints: pd.DataFrame | None = None
    kind: str = SHIFT


def world(seed, subscribers, days, text=""):
    scenario = scenario_of(f"{text}\n[sizes.tiny]\nsubscribers = {subscribers}\ndays = {days}\n")
    return keyed_world(simulate(scenario, seed, "tiny"), Intake(Key("e1", b"k" * 32)))


def between(calls, begin, end):
    """Returns the calls of local days [begin, end), as days since 1970."""
    first, last = np.searchsorted(calls["day"].to_numpy(), [begin, end])
    return calls.slice(int(first), int(last - first))


class Study:
    """A world that changes on a working day after all normal days, with its model and reference."""

    def __init__(self, seed, subscribers, text):
        self.seed, self.subscribers = seed, subscribers
        self.base = world(seed, subscribers, last_day(seed) + 2, text)
        self.first = int(self.base.calls["day"][0].as_py())
        self.on = self.first + TRAINED + 1 + seed % 5  # the shifted day: its weekday depends on the seed
        observable = of_world(self.base)
        self.complaints = observable.complaints
        calls = between(self.base.calls, self.first, self.first + TRAINED)
        end = pd.Timestamp(int(calls["start"][-1].as_py()), unit="ms", tz="UTC")
        complaints, findings = (
            table[table["known_at"] <= end] for table in (observable.complaints, observable.findings)
        )
        dataset = make_dataset(calls, complaints, findings, self.base.truth.slice(0, calls.num_rows))
        trained = train(dataset, Settings(seed=seed, threads=THREADS))
        self.model, self.bands = read_forest(trained.models["model"]), trained.card.thresholds
        scored = scored_calls(trained)
        days = whole_days(calls)
        cuts = histogram_cuts(scored, days)
        figures = [day_figures(day, rows, scored, cuts) for day, rows in days.items()]
        self.reference = build_reference("bench", cuts, figures)

    def days(self, calls, begin, end, complaints=None, *, scored=True):
        """Returns the figures of each day of [begin, end), computed with all the history that features need."""
        calls = between(calls, begin - HISTORY_DAYS, end)
        rows = vectors(calls)
        raw = np.full(len(rows), np.nan)
        watched = {day: span for day, span in day_slices(calls).items() if begin <= (day - EPOCH).days < end}
        for span in watched.values() if scored else ():
            raw[span] = self.model.predict_raw(np.ascontiguousarray(rows[span]), threads=THREADS)
        complaints = self.complaints if complaints is None else complaints
        stretch = ScoredCalls(calls, feed_of_all(rows), raw, complaints, self.bands)
        return [day_figures(day, span, stretch, self.reference.cuts) for day, span in watched.items()]

    def normal(self):
        """Yields the days after the training, computed week by week to save memory."""
        end = self.first + TRAINED + WATCHED
        for begin in range(self.first + TRAINED, end, 7):
            yield from self.days(self.base.calls, begin, min(begin + 7, end))

    def judged(self, cases):
        """Yields a row for each normal day and each case. Broken feeds must be detected without the score."""
        for day in self.normal():
            yield self.row(NORMAL, f"{day.date:%Y-%m-%d %a}", day)
        for case in cases:
            scored = not case.what.startswith("feed")
            (day,) = self.days(case.calls, case.on, case.on + 1, case.complaints, scored=scored)
            yield self.row(case.kind, case.what, day)

    def row(self, kind, what, day):
        return {"seed": self.seed, "kind": kind, "what": what, **alarm_figures(compare(self.reference, day))}


def catalogue(study):
    """Yields the shifts of the default world."""
    yield Case("a holiday", study.first + last_day(study.seed), study.base.calls)
    day = study.on - study.first
    shock = "".join(f"[outfits.{name}]\nafter_shock_share = {share}\n" for name, share in CUT_OFF.items())
    few = world(study.seed, study.subscribers, day + 2, f"[calendar]\nshock_day = {day}\n{shock}")
    yield policy(few, "a few outfits", study.first, study.on)
    before = between(study.base.calls, study.first, study.on + 1)
    yield from attacks(study, before)
    for name, change in feed_faults.FEED_FAULTS.items():
        yield Case(f"feed: {name}", study.on, change(before, study.on))
    late = study.complaints.copy()
    late["known_at"] += pd.Timedelta(days=3)
    yield Case("feed: reports come three days late", study.on, before, late)
    yield Case("feed: no reports", study.on, before, study.complaints.iloc[:0])


def policy(shocked, trade, first, on):
    """Returns the day on which call centres are cut off, with the statistic of the true labels.

    If the true labels raise no alarm, the day is like others, and no system could detect a shift.
    """
    cut_off = pc.is_in(feed_faults.text_column(shocked.truth, "slice"), pa.array(list(CUT_OFF))).to_numpy(False)
    day = shocked.calls["day"].to_numpy()
    figures = [
        Day(EPOCH + timedelta(days=at), 1, {}, {"calls": float(np.log(np.count_nonzero(cut_off & (day == at)) + 1))})
        for at in (*range(first + WINDOW_DAYS, first + TRAINED), on)
    ]
    truth = compare(build_reference("truth", {}, figures[:-1]), figures[-1])[0]
    nuisance = shocked.truth["nuisance"].to_numpy()
    what = (
        f"policy: call centres are cut off, {trade}, {cut_off[day < on].mean():.1%} of calls"
        f" (all nuisance {nuisance[day < on].mean():.1%}), {truth['z']:+.1f} by the truth"
    )
    return Case(what, on, shocked.calls, of_world(shocked).complaints, SHIFT if truth["alarm"] else NOT_VISIBLE)


def attacks(study, before):
    """Yields the calls up to the shifted day, with those of a new attack on that day."""
    common = "".join(f"[outfits.{name}]\ncalls_per_1000 = 120.0\n" for name in ATTACKS)
    attacked = world(study.seed, study.subscribers, study.on - study.first + 2, common)
    kinds, today = feed_faults.text_column(attacked.truth, "attack"), between(before, study.on, study.on + 1)
    for name in ATTACKS:
        others = attacked.calls.filter(pc.fill_null(pc.equal(kinds, name), False))
        others = feed_faults.callers_among(today, between(others, study.on, study.on + 1), ATTACK_SHARE)
        share = others.num_rows / today.num_rows
        if share > ATTACK_SHARE / 2:  # an outfit may have a day off
            yield Case(f"new attack: {name}, {share:.1%} of calls", study.on, feed_faults.merge_calls(before, others))


def judged(seed, subscribers):
    """Yields the rows of both worlds of a seed."""
    last = last_day(seed)
    holiday = f"[calendar]\nholidays = [{START + timedelta(days=last)}]\nholiday_work = 2.3\n"
    study = Study(seed, subscribers, holiday)
    yield from study.judged(catalogue(study))
    study = Study(seed, subscribers, CRACKDOWN.replace("shock_day = 17", f"shock_day = {last}"))
    shock = policy(study.base, "many small callers", study.first, study.first + last)
    yield from study.judged([shock])


def last_day(seed):
    """Returns the working day that differs from the normal days before it, counted from the first day of the world."""
    return TRAINED + WATCHED + seed % 5


def alarm_figures(shifts):
    """Returns whether a day has an alarm, and its most extreme statistic of each measure."""
    farthest = {}
    for measure in MEASURES:
        top = max((shift for shift in shifts if shift["measure"] == measure), key=lambda shift: abs(shift["z"]))
        name = f"{top['name']} {top['part']}" if top["part"] else top["name"]
        farthest[measure] = f"{top['z']:+.1f} {name} {top['then']:.3g} -> {top['now']:.3g}"
        farthest[f"{measure} z"] = abs(top["z"])
    every = {shift["name"]: round(shift["z"], 2) for shift in shifts}
    alarms = sum(shift["alarm"] for shift in shifts)
    return {"alarm": alarms > 0, "alarms": alarms, **farthest, "every z": every}


def as_line(row):
    """Returns a row as a line with the most extreme statistics only."""
    return json.dumps({name: value for name, value in row.items() if name != "every z"})


def summary(rows):
    """Returns the number of detected shifts and of false alarms."""
    normal, shifted, hidden = ([row for row in rows if row["kind"] == kind] for kind in (NORMAL, SHIFT, NOT_VISIBLE))
    name, alarms = "{seed} {what}".format_map, [row for row in normal if row["alarm"]]
    return {
        "normal days": len(normal), "false alarms": [name(row) for row in alarms],
        "false alarms in 30 days": round(30 * len(alarms) / len(normal), 2),
        "shifts": len(shifted), "found": sum(row["alarm"] for row in shifted),
        "missed": [name(row) for row in shifted if not row["alarm"]],
        "not visible by the truth": {name(row): row["alarm"] for row in hidden},
        "largest z of a normal day": {measure: max(row[f"{measure} z"] for row in normal) for measure in MEASURES},
    }  # fmt: skip


def main():
    parser = parser_of(__doc__, subscribers=12_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[510, 511])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        began = time.perf_counter()
        for row in judged(seed, options.subscribers):
            rows.append(row)
            print(as_line(row), flush=True)
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if options.out:
            options.out.write_text(json.dumps({"rows": rows, "summary": summary(rows)}, indent=1))
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
