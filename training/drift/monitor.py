"""Drift: is a day of calls still like the days that the model was trained and certified on?

Every statistic of the day is compared with its `reference`: how many of the reference's own day-to-day deviations it
lies away. So an alarm means "no such day was seen", not "PSI above a rule of thumb", and a Sunday is held against
Sundays. Nothing here needs the truth of a call, but for what findings tell of the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaincinv, expit

from callsieve.features.files.dates import DAY
from callsieve.serving.batch.fill_memory import HISTORY_DAYS
from callsieve.serving.batch.score import open_scorer, score_calls
from callsieve.serving.rules.strata import STRATA
from callsieve.training.data.dataset import read_dataset
from callsieve.training.data.feeds import feed_of_all
from callsieve.training.log.looks import Ledger, certified_on, count_look
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.call_choice import day_slices
from callsieve.training.model.split import WINDOW_DAYS, judged_span

from .days import LEVELS, MARK, NO_YES, NOT_CALLED, YES, Day, ScoredCalls, day_figures, midnight
from .reference import KINDS, REFERENCE, Reference, chance, ks, log_odds, psi, read_reference, shares, watched_shares

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from callsieve.features.files.progress import Progress
    from callsieve.serving.bundle.bundle import Bundle
    from callsieve.serving.bundle.metadata import Band

    Array = npt.NDArray[Any]

# Deviations from what is usual that raise an alarm. What callers do, and where, moves on any normal day, when a
# campaign of diallers begins or ends; the rest is steadier. Chosen on the worlds of seeds 111, 112 and 211, the
# limits of amounts and of many together on 212 and 213; others judge, see tests/bench/bench_drift.py. That marks are
# also held to their plain shares was seen to be needed on 500 to 502. What STEADY features did on 60 normal days of 550
# and 551 stayed below 4, where two attacks moved them by 4.6 and more. Of 336 normal days of 564 to 569 four had an
# alarm, two of them by STEADY features (4.7 and 5.0), and one as robots made an eighth of its calls.
ALARM, ALARM_OF_RESTLESS, ALARM_OF_STEADY, ALARM_OF_AMOUNTS = 5.4, 7.0, 4.5, 4.0
# Nobody calls the numbers of a new attack. More calls of callers whom few call lay at most 3.1 from what is usual on
# those 336 normal days, and 3.7 to 6.2 on days with an attack that rotates numbers, warms them up, bombs or hides
# behind SIM cards; that nobody calls fewer of the callers is no attack, and no alarm.
ALARM_OF_UNSOUGHT = 3.6
# A new attack moves many statistics a little: so many of them, the farthest, are also looked at together.
TOGETHER, ALARM_TOGETHER = 10, 4.8
RESTLESS = ("out_", "block_", "call_", "record's")
STEADY = ("callee_", "device_", "pair_")
LEAST_MOVE = 0.03  # of a share; what moves less is of no account: one trunk, one call centre
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Shift:
    """One statistic of a day beside what is usual.

    `z`: deviations from what is usual; of several statistics together, their mean. A histogram has `psi`, `ks` (of what
    is not missing), and as `part` what of it moved most, with its share then and now; an amount has itself then and
    now.
    """

    name: str
    measure: str
    z: float
    alarm: bool
    then: float
    now: float
    part: str = ""
    psi: float | None = None
    ks: float | None = None


def compare(reference: Reference, day: Day) -> list[Shift]:
    """Every statistic that both know, what is farthest from usual first."""
    found = [histogram_shift(reference, name, counts, day.kind) for name, counts in day.counts.items()
             if name in reference.histograms]  # fmt: skip
    found += [amount_shift(reference, name, value, day.kind) for name, value in day.amounts.items()
              if name in reference.amounts]  # fmt: skip
    if len(found) >= TOGETHER:
        found.append(together(found))
    return sorted(found, key=lambda one: (-one.alarm, -abs(one.z), one.name))


def histogram_shift(reference: Reference, name: str, counts: Array, kind: str) -> Shift:
    """A histogram, by that part of it which lies farthest from what is usual."""
    statistic = reference.histograms[name]
    some, whole = watched_shares(counts, ordered=name in reference.cuts)
    then, now = expit(np.array(statistic.usual[kind].mean)), some / np.maximum(whole, 1)
    z = statistic.z(log_odds(some, whole), kind, chance(then, whole))
    if name.startswith(MARK):
        plain = statistic.z_of_shares(now, then, whole, kind)
        z = np.where(np.abs(plain) > np.abs(z), plain, z)
    z = np.where(np.abs(now - then) < LEAST_MOVE, 0.0, z)
    if name == NOT_CALLED:
        z = np.where(np.arange(len(z)) == YES, np.maximum(z, 0.0), 0.0)
    place = int(np.argmax(np.abs(z)))
    usual, seen = usual_shares(reference, name, kind), shares(counts)
    return Shift(
        name, "histogram", float(z[place]), bool(abs(z[place]) > limit(name)), float(then[place]),
        float(now[place]), part_name(name, reference.cuts.get(name), place), psi(seen, usual), ks(seen, usual),
    )  # fmt: skip


def amount_shift(reference: Reference, name: str, value: float, kind: str) -> Shift:
    """An amount."""
    statistic = reference.amounts[name]
    z = float(statistic.z(np.array([value]), kind)[0])
    then, now = (float(np.exp(one)) for one in (statistic.usual[kind].mean[0], value))
    return Shift(name, "amount", z, abs(z) > ALARM_OF_AMOUNTS, then, now)


def together(shifts: Sequence[Shift]) -> Shift:
    """The mean deviation of the TOGETHER farthest statistics, whichever way each of them moved."""
    z = float(np.sort([abs(one.z) for one in shifts])[-TOGETHER:].mean())
    return Shift(f"the {TOGETHER} farthest together", "together", z, z > ALARM_TOGETHER, 0.0, z)


def limit(name: str) -> float:
    """How many deviations of a histogram's part raise an alarm."""
    if name == NOT_CALLED:
        return ALARM_OF_UNSOUGHT
    if name.startswith(RESTLESS):
        return ALARM_OF_RESTLESS
    return ALARM_OF_STEADY if name.startswith(STEADY) else ALARM


def part_name(name: str, cuts: Sequence[float] | None, place: int) -> str:
    """A part of a histogram in words."""
    words = LEVELS.get(name, NO_YES) if cuts is None else [f"below {cut:g}" for cut in cuts]
    return words[place] if place < len(words) else "not known"


def usual_shares(reference: Reference, name: str, kind: str) -> Array:
    """The usual shares of a histogram's bins."""
    return np.array(reference.histograms[name].usual[kind].shares)


def resembles(reference: Reference, day: Day) -> str:
    """The kind of day whose histograms are nearer: on a holiday a weekday looks like a weekend."""
    known = [name for name in day.counts if name in reference.histograms]
    apart = {
        kind: sum(psi(shares(day.counts[name]), usual_shares(reference, name, kind)) for name in known)
        for kind in KINDS
    }  # fmt: skip
    return min(KINDS, key=lambda kind: apart[kind])


def certificate(bundle: Bundle, stretch: ScoredCalls, rows: slice, findings: pd.DataFrame) -> dict[str, Any]:
    """Whether the model's certificate can still be believed: its date, the mix of calls, and what findings say.

    Args:
        rows: the day's.
        findings: about callers; those found benign whose calls reach the certified threshold are false flags.
    Returns: figures, and `at_risk`: a list of reasons in words, empty if there is none.
    """
    band = bundle.thresholds[0]
    told = band.certificate
    stratum = stretch.vectors.strata(stretch.calls.num_rows)[rows]
    words, counts = np.unique(np.array(STRATA)[stratum], return_counts=True)
    mix = dict(zip(words.tolist(), (counts / counts.sum()).tolist(), strict=True))
    seen = {word: one for word, one in band.strata.items() if one.benign_calls}
    covered = sum(mix.get(word, 0.0) for word in seen)
    error = sum(mix.get(word, 0.0) * one.false_calls / one.benign_calls for word, one in seen.items())
    expected = error / covered if covered else None
    benign, false = found_benign(stretch, rows.stop, findings, band)
    lowest = float(betaincinv(false, benign - false + 1, 1 - CONFIDENCE)) if false else 0.0
    calls_until = datetime.fromisoformat(bundle.valid_until)
    ended = stretch.calls["start"][rows.stop - 1].as_py() >= calls_until.timestamp() * 1000
    reasons = [
        *(["the model was never certified"] if not told.certified else []),
        *([f"it is valid until {bundle.valid_until}"] if ended else []),
        *([f"of {benign:,} calls of callers found benign, {false:,} were flagged: more than {told.target:g} of them, "
           f"with {CONFIDENCE:.0%} confidence"] if lowest > told.target else []),
        *([f"by the day's mix of caller classes {expected:.2g} of benign calls would be flagged, more than the target"]
          if expected is not None and expected > told.target else []),
    ]  # fmt: skip
    return {
        "band": band.name,
        "target": told.target,
        "bound_then": told.bound,
        "expected_at_this_mix": expected,
        "share_of_calls_in_judged_classes": covered,
        "calls_of_callers_found_benign": benign,
        "of_these_flagged": false,
        "valid_until": bundle.valid_until,
        "at_risk": reasons,
    }


def found_benign(stretch: ScoredCalls, end: int, findings: pd.DataFrame, band: Band) -> tuple[int, int]:
    """Calls up to the day's end of callers who were found benign, and those of them that were flagged."""
    import pyarrow as pa
    import pyarrow.compute as pc

    calls = stretch.calls.slice(0, end)
    numbers = pa.array(findings.loc[~findings["nuisance"].astype(bool), "number"], pa.string())
    caller = pc.dictionary_decode(calls["caller"].combine_chunks())
    benign = np.asarray(pc.is_in(caller, value_set=numbers))
    # The first days only fill the windows.
    start = calls["start"].to_numpy()
    benign &= start >= start[0] + WINDOW_DAYS * DAY
    held = aligned_scores(stretch.raw[:end], stretch.vectors.strata(stretch.calls.num_rows)[:end], band)
    return int(benign.sum()), int((held[benign] >= band.threshold).sum())


def monitor(
    bundle: Path,
    data: Path,
    day: date | None,
    *,
    reference: Path | None,
    trust: Path | None,
    ledger: Ledger | None,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Compare one day of a folder of calls with the reference of a model.

    Args:
        data: folder as for training, with the day's calls and those of at least 7 days before; 28 are better.
        day: the last one by default.
        reference: by default the one in the record beside the bundle.
        ledger: gets a touch if these are calls that the model was certified on: findings are held against its flags.
    Returns: plain values.
    Raises:
        ValueError: in one line, if the reference is another model's, or the calls do not reach far enough back.
    """
    scorer = open_scorer(bundle, trust)
    known = read_reference(reference or bundle.parent / "record" / REFERENCE)
    if known.model != scorer.bundle.model_id:
        raise ValueError(f"reference: expected that of model {scorer.bundle.model_id}, got that of {known.model}")
    dataset = read_dataset(data, "monitoring")
    calls, chosen = calls_until(dataset.calls, day)
    touched: dict[str, Any] = {}
    if certified_on(scorer.bundle, dataset.fingerprint, judged_span(calls)):
        touched = {**count_look(ledger, scorer.bundle, dataset.fingerprint, judged_span(calls), "monitor")}
    progress("features", 0.1)
    # What came in after the day is not known yet.
    end = midnight(chosen, calls.slice(day_slices(calls)[chosen].start)) + DAY
    reports, findings = (table[table["known_at"] < moment(end)] for table in (dataset.complaints, dataset.findings))
    scores, rows = score_calls(scorer, calls, reports, threads=threads)
    progress("compare", 0.9)
    stretch = ScoredCalls(calls, feed_of_all(rows), scores.raw, reports, scorer.bundle.thresholds)
    span = day_slices(calls)[chosen]
    figures = day_figures(chosen, span, stretch, known.cuts)
    shifts = compare(known, figures)
    return {
        "day": str(chosen),
        "kind": figures.kind,
        "resembles": resembles(known, figures),
        "model": known.model,
        "reference": [known.first, known.last],
        "calls": figures.calls,
        "days_before": (chosen - min(day_slices(calls))).days,
        "days_wanted": HISTORY_DAYS,
        "alarm": any(shift.alarm for shift in shifts),
        "shifts": [asdict(shift) for shift in shifts],
        "certificate": certificate(scorer.bundle, stretch, span, findings),
        **touched,
    }


def calls_until(calls: pa.Table, day: date | None) -> tuple[pa.Table, date]:
    """The calls of a day and of HISTORY_DAYS before it, and the day.

    Raises:
        ValueError: if there is no call on the day, or none so far back that its windows are full.
    """
    found = day_slices(calls)
    chosen = day or max(found)
    if chosen not in found:
        raise ValueError(f"{chosen}: expected a day of the calls, {min(found)} to {max(found)}")
    kept = [one for one in found if 0 <= (chosen - one).days <= HISTORY_DAYS]
    if (chosen - min(kept)).days < WINDOW_DAYS:
        raise ValueError(f"{chosen}: expected calls of at least {WINDOW_DAYS} days before it, from {min(found)} on")
    begin = found[min(kept)].start
    return calls.slice(begin, found[chosen].stop - begin), chosen


def date_of(text: str | None) -> date | None:
    """A date as a person writes it.

    Raises:
        ValueError: in one line, if it is none.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"day: expected a date such as 2026-03-01, got {text[:40]!r}") from None


def moment(milliseconds: int) -> datetime:
    """Unix ms as a moment."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
