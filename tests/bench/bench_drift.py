"""Drift found and false alarms of `callsieve monitor` on simulated worlds.

python tests/bench/bench_drift.py --seeds 510 511 [--subscribers 12000] [--out FILE]

For each seed a world of 35 days to train on and 30 days after them. Every one of these is a normal day: an alarm on it
is false. Then one day of the sixth week is shifted, in each way of the catalogue, and must raise an alarm on that day.
Of the policy shock it is also told how far the truth of each call shows it.
Thresholds were chosen on seeds 111, 112 and 211, 212 and 213, 550 and 551; other seeds judge them.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from callsieve.features.intake import Intake
from callsieve.features.pseudonyms import Key
from callsieve.features.table import vectors
from callsieve.serving.booster import Booster
from callsieve.training.days import EPOCH, Day, Stretch, cuts_of, day_of, spans, whole_days
from callsieve.training.demo import of_world
from callsieve.training.evidence import evidence
from callsieve.training.feeds import of_all
from callsieve.training.monitor import HISTORY_DAYS, compare
from callsieve.training.reference import build
from callsieve.training.split import WINDOW_DAYS
from callsieve.training.train import Settings, train
from callsieve.training.world import keyed_world, load_scenario, simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
import shifts

START, TRAINED, WATCHED = date(2025, 3, 3), 35, 30
SHIPPED = Path(__file__).parents[2] / "training" / "world"
ATTACKS = ("rotation_in_block", "warmed_up", "bombing", "sim_box", "spoofed_service")
MEASURES = ("histogram", "amount", "together")
ATTACK_SHARE = 0.10  # of the day's calls, at most
CUT_OFF = ("robot", "telemarketer", "jittered")  # by crackdown.toml


def world(seed, subscribers, days, text=""):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        path.write_text(f"{text}\n[sizes.tiny]\nsubscribers = {subscribers}\ndays = {days}\n")
        return keyed_world(simulate(load_scenario(path), seed, "tiny"), Intake(Key("e1", b"k" * 32)))


def between(calls, begin, end):
    """Calls of local days [begin, end), as days since 1970."""
    first, last = np.searchsorted(calls["day"].to_numpy(), [begin, end])
    return calls.slice(int(first), int(last - first))


class Study:
    """A model and its reference, and any days beside them."""

    def __init__(self, seed, subscribers):
        self.base = world(seed, subscribers, TRAINED + WATCHED)
        self.first = int(self.base.calls["day"][0].as_py())
        self.reports = of_world(self.base).reports
        calls = between(self.base.calls, self.first, self.first + TRAINED)
        self.end = pd.Timestamp(int(calls["start"][-1].as_py()), unit="ms", tz="UTC")
        known = of_world(self.base)
        kept = [table[table["known_at"] <= self.end] for table in (known.reports, known.findings)]
        trained = train(evidence(calls, *kept, self.base.truth.slice(0, calls.num_rows)), Settings(seed=seed))
        self.model, self.bands = Booster(trained.models["model"]), trained.card.thresholds
        self.columns = [i for i, _ in enumerate(trained.settings.features)]
        seen = Stretch(calls, trained.feed, trained.raw, kept[0], self.bands)
        days = whole_days(calls)
        cuts = cuts_of(seen, days)
        self.reference = build("bench", cuts, [day_of(day, rows, seen, cuts) for day, rows in days.items()])

    def days(self, calls, begin, end, reports=None, *, scored=True):
        """Figures of each day of [begin, end), with all the history that a feature asks for."""
        told = between(calls, begin - HISTORY_DAYS, end)
        rows = vectors(told)
        raw = np.full(len(rows), np.nan)
        watched = {day: span for day, span in spans(told).items() if begin <= (day - EPOCH).days < end}
        for span in watched.values() if scored else ():
            raw[span] = self.model.predict_raw(np.ascontiguousarray(rows[span]), threads=2)
        stretch = Stretch(told, of_all(rows), raw, self.reports if reports is None else reports, self.bands)
        cuts = self.reference.cuts
        return [day_of(day, span, stretch, cuts) for day, span in watched.items()]

    def normal(self):
        """The days after the training, week by week, for memory's sake."""
        end = self.first + TRAINED + WATCHED
        for begin in range(self.first + TRAINED, end, 7):
            yield from self.days(self.base.calls, begin, min(begin + 7, end))


def by_truth(world, first, on):
    """Deviations of a day's calls of the trades that are cut off, by those who know each call's trade: if they are few,
    the day is like others, and there is nothing that a system could see."""
    calls = world.calls["day"].to_numpy()[
        pc.is_in(shifts.words(world.truth, "slice"), pa.array(CUT_OFF)).to_numpy(False)
    ]
    days = [
        Day(EPOCH + timedelta(days=day), 1, {}, {"calls": float(np.log(np.count_nonzero(calls == day) + 1))})
        for day in (*range(first + WINDOW_DAYS, first + TRAINED), on)
    ]
    return compare(build("truth", {}, days[:-1]), days[-1])[0].z


def catalogue(seed, subscribers, study):
    """Name of a shift, its day, calls and reports with it. Broken feeds must be found without the score."""
    day = 36 + seed % 5  # another day of the week for each seed
    on = study.first + day
    crackdown = (SHIPPED / "crackdown.toml").read_text().replace("shock_day = 17", f"shock_day = {day}")
    festival = f"[calendar]\nholidays = [{START + timedelta(days=day)}]\nholiday_work = 2.3\n"
    cut_off = world(seed, subscribers, day + 2, crackdown)
    far = by_truth(cut_off, study.first, on)
    yield f"policy: call centres are cut off, {far:+.1f} by the truth", on, cut_off.calls, of_world(cut_off).reports
    changed = world(seed, subscribers, day + 2, festival)
    yield "a holiday", on, changed.calls, of_world(changed).reports
    common = "".join(f"[outfits.{name}]\ncalls_per_1000 = 120.0\n" for name in ATTACKS)
    attacked = world(seed, subscribers, day + 2, common)
    kinds = attacked.truth["attack"].combine_chunks()
    kinds = pc.dictionary_decode(kinds) if pa.types.is_dictionary(kinds.type) else kinds
    before = between(study.base.calls, study.first, on + 1)
    today = between(before, on, on + 1)
    for name in ATTACKS:
        others = between(attacked.calls.filter(pc.fill_null(pc.equal(kinds, name), False)), on, on + 1)
        others = shifts.callers_among(today, others, ATTACK_SHARE)
        share = others.num_rows / today.num_rows
        if share > ATTACK_SHARE / 2:  # an outfit may have a day off
            yield f"new attack: {name}, {share:.1%} of calls", on, shifts.with_more(before, others), None
    for name, change in shifts.FEEDS.items():
        yield f"feed: {name}", on, change(before, on), None
    late = study.reports.copy()
    late["known_at"] += pd.Timedelta(days=3)
    yield "feed: reports come three days late", on, before, late
    yield "feed: no reports", on, before, study.reports.iloc[:0]


def told(found):
    """What matters of a day: whether there is an alarm, and the farthest statistic of either measure."""
    farthest = {}
    for measure in MEASURES:
        one = max((shift for shift in found if shift.measure == measure), key=lambda shift: abs(shift.z))
        farthest[measure] = (
            f"{one.z:+.1f} {one.name}{f' {one.part}' if one.part else ''} {one.then:.3g} -> {one.now:.3g}"
        )
        farthest[f"{measure} z"] = abs(one.z)
    every = {shift.name: round(shift.z, 2) for shift in found}
    return {
        "alarm": any(shift.alarm for shift in found), "alarms": sum(shift.alarm for shift in found), **farthest,
        "every z": every,
    }  # fmt: skip


def shown(row):
    """A row as a line, without the statistics that are not the farthest."""
    return json.dumps({name: value for name, value in row.items() if name != "every z"})


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=[510, 511])
    options.add_argument("--subscribers", type=int, default=12_000)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    rows = []
    for seed in chosen.seeds:
        begun = time.perf_counter()
        study = Study(seed, chosen.subscribers)
        for day in study.normal():
            found = compare(study.reference, day)
            rows.append({"seed": seed, "normal": True, "what": f"{day.date:%Y-%m-%d %a}", **told(found)})
            print(shown(rows[-1]), flush=True)
        for name, on, calls, reports in catalogue(seed, chosen.subscribers, study):
            day = study.days(calls, on, on + 1, reports, scored=not name.startswith("feed"))[0]
            found = compare(study.reference, day)
            rows.append({"seed": seed, "normal": False, "what": name, **told(found)})
            print(shown(rows[-1]), flush=True)
        if chosen.out:
            chosen.out.write_text(json.dumps({"rows": rows}))
        print(f"seed {seed}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    normal, shifted = ([row for row in rows if row["normal"] is kind] for kind in (True, False))
    summary = {
        "normal days": len(normal), "false alarms": sum(row["alarm"] for row in normal),
        "shifts": len(shifted), "found": sum(row["alarm"] for row in shifted),
        "missed": [f"{row['seed']} {row['what']}" for row in shifted if not row["alarm"]],
        "largest z of a normal day": {m: max(row[f"{m} z"] for row in normal) for m in MEASURES},
    }  # fmt: skip
    print(json.dumps(summary, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps({"rows": rows, "summary": summary}, indent=1))


if __name__ == "__main__":
    main()
