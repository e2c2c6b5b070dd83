"""Compares a day of calls with the days that the model was trained and certified on.

Each statistic of the day is measured in day-to-day standard deviations of its `reference`. So an alarm means "no such
day was seen", not "PSI above a rule of thumb", and a Sunday is compared with Sundays. No truth of a call is needed,
except that findings check the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import betaincinv, expit

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import check_present
from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import Progress
from callsieve.serving.batch.file_scoring import open_scorer, score_calls
from callsieve.serving.batch.fill_memory import HISTORY_DAYS
from callsieve.serving.bundle.bundle import Bundle
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA
from callsieve.serving.scorer.status import MESSAGES, Status, message_of, status_of_score
from callsieve.training.data.dataset import read_dataset
from callsieve.training.data.feeds import feed_of_all
from callsieve.training.judging.run_figures import Shift
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.folds import day_slices
from callsieve.training.model.split import WINDOW_DAYS, judged_span
from callsieve.training.oversight.log.looks import Ledger, certified_on, count_look
from callsieve.training.oversight.log.payload_types import Look

from .days import LEVELS, MARK, NO_YES, NOT_CALLED, YES, Day, ScoredCalls, day_figures, midnight
from .reference import KINDS, REFERENCE, Reference, chance, ks, log_odds, psi, read_reference, shares, watched_shares

# Deviations that raise an alarm. What callers do, and where, varies on normal days, when a campaign of diallers begins
# or ends; other statistics are steadier. The limits were chosen on the worlds of seeds 111, 112 and 211, those of
# amounts and of the combined statistic on 212 and 213. Worlds 500 to 502 showed that marks need a check of their plain
# shares, too. STEADY features stayed below 4 on 60 normal days of worlds 550 and 551, where two attacks moved them by
# 4.6 and more. Of 336 normal days of worlds 564 to 569 four had an alarm: two by STEADY features (4.7 and 5.0), and one
# when robots made an eighth of the day's calls.
ALARM, ALARM_VARIABLE, ALARM_STEADY, ALARM_AMOUNTS = 5.4, 7.0, 4.5, 4.0
# The numbers of a new attack get no incoming calls. The share of callers without an incoming call rose by at most 3.1
# deviations on those 336 normal days, and by 3.7 to 6.2 on days with an attack that rotates numbers, warms them up,
# bombs or hides behind SIM cards. A fall of this share is no attack and raises no alarm.
ALARM_NOT_CALLED = 3.6
# A new attack moves many statistics a little: the mean of so many of the largest deviations is also checked.
COMBINED, ALARM_COMBINED = 10, 4.8
VARIABLE = ("out_", "block_", "call_", "record's")
STEADY = ("callee_", "device_", "pair_")
MIN_MOVE = 0.03  # of a share: one trunk or one call centre may move a share by less
CONFIDENCE = 0.95


class CertificateState(TypedDict):
    """Whether a model's certificate still holds; rates are shares of benign calls.

    `bound_then`: of the certificate. `expected_at_this_mix`: for the day's mix of caller classes, None if no class of
    the day was judged. `flagged_too_often`: whether the share of flagged calls of callers found benign is above
    `target`, with 95 % confidence. `status`: of the day's calls, of `serving/scorer/status.py`; "scored" if their bands
    apply. `at_risk`: reasons in words, empty without a risk.
    """

    band: str
    target: float
    bound_then: float
    expected_at_this_mix: float | None
    share_of_calls_in_judged_classes: float
    calls_of_callers_found_benign: int
    of_these_flagged: int
    flagged_too_often: bool
    valid_until: str
    status: Status
    at_risk: list[str]


class MonitorFigures(TypedDict):
    """A day beside the reference of a model; `shifts` are the fields of `monitor.Shift`, largest first.

    `alarm`: whether a statistic drifted, the feed is another one, or more innocent calls are flagged than the
    certificate allows. `reference`: its first and last day. `feed`, `reference_feed`: the feed of the day, and of most
    days of the reference. `resembles`: the kind of day whose histograms are nearest. The look is there if the model was
    certified on these calls.
    """

    day: str
    kind: str
    resembles: str
    model: str
    reference: list[str]
    calls: int
    days_before: int
    days_wanted: int
    feed: str
    reference_feed: str
    alarm: bool
    shifts: list[Shift]
    certificate: CertificateState
    fold: NotRequired[str | None]
    touches: NotRequired[int | None]
    registered: NotRequired[bool]


def compare(reference: Reference, day: Day) -> list[Shift]:
    """Returns the shift of every statistic that reference and day share: alarms first, then by deviation."""
    shifts = [
        histogram_shift(reference, name, counts, day.kind)
        for name, counts in day.counts.items()
        if name in reference.histograms
    ]
    shifts += [
        amount_shift(reference, name, value, day.kind)
        for name, value in day.amounts.items()
        if name in reference.amounts
    ]
    if len(shifts) >= COMBINED:
        shifts.append(combined_shift(shifts))
    return sorted(shifts, key=lambda shift: (-shift["alarm"], -abs(shift["z"]), shift["name"]))


def histogram_shift(reference: Reference, name: str, counts: Array, kind: str) -> Shift:
    """Returns the shift of a histogram, by its part with the largest deviation."""
    statistic = reference.histograms[name]
    part_counts, totals = watched_shares(counts, ordered=name in reference.cuts)
    then, now = expit(np.array(statistic.usual[kind].mean)), part_counts / np.maximum(totals, 1)
    z = statistic.z(log_odds(part_counts, totals), kind, chance(then, totals))
    if name.startswith(MARK):
        z_of_shares = statistic.z_of_shares(now, then, totals, kind)
        z = np.where(np.abs(z_of_shares) > np.abs(z), z_of_shares, z)
    z = np.where(np.abs(now - then) < MIN_MOVE, 0.0, z)
    if name == NOT_CALLED:
        z = np.where(np.arange(len(z)) == YES, np.maximum(z, 0.0), 0.0)
    place = int(np.argmax(np.abs(z)))
    usual, observed = usual_shares(reference, name, kind), shares(counts)
    return {
        "name": name,
        "measure": "histogram",
        "z": float(z[place]),
        "alarm": bool(abs(z[place]) > limit(name)),
        "then": float(then[place]),
        "now": float(now[place]),
        "part": part_name(name, reference.cuts.get(name), place),
        "psi": psi(observed, usual),
        "ks": ks(observed, usual),
    }


def amount_shift(reference: Reference, name: str, value: float, kind: str) -> Shift:
    """Returns the shift of an amount."""
    statistic = reference.amounts[name]
    z = float(statistic.z(np.array([value]), kind)[0])
    then, now = (float(np.exp(logarithm)) for logarithm in (statistic.usual[kind].mean[0], value))
    return plain_shift(name, "amount", z, abs(z) > ALARM_AMOUNTS, (then, now))


def combined_shift(shifts: Sequence[Shift]) -> Shift:
    """Returns the mean of the COMBINED largest absolute deviations as a shift of its own."""
    z = float(np.sort([abs(shift["z"]) for shift in shifts])[-COMBINED:].mean())
    return plain_shift(f"the {COMBINED} farthest together", "together", z, z > ALARM_COMBINED, (0.0, z))


def plain_shift(name: str, measure: str, z: float, alarm: bool, values: tuple[float, float]) -> Shift:
    """Returns the shift of a statistic that is no histogram: it has no part, PSI and KS."""
    then, now = values
    return {
        "name": name, "measure": measure, "z": z, "alarm": alarm, "then": then, "now": now,
        "part": "", "psi": None, "ks": None,
    }  # fmt: skip


def limit(name: str) -> float:
    """Returns the deviation above which a part of a histogram raises an alarm."""
    if name == NOT_CALLED:
        return ALARM_NOT_CALLED
    if name.startswith(VARIABLE):
        return ALARM_VARIABLE
    return ALARM_STEADY if name.startswith(STEADY) else ALARM


def part_name(name: str, cuts: Sequence[float] | None, place: int) -> str:
    """Returns the name of a part of a histogram."""
    words = LEVELS.get(name, NO_YES) if cuts is None else [f"below {cut:g}" for cut in cuts]
    return words[place] if place < len(words) else "not known"


def usual_shares(reference: Reference, name: str, kind: str) -> Array:
    """Returns the usual shares of a histogram's bins."""
    return np.array(reference.histograms[name].usual[kind].shares)


def resembles(reference: Reference, day: Day) -> str:
    """Returns the kind of day whose histograms are nearer: on a holiday a weekday looks like a weekend."""
    shared = [name for name in day.counts if name in reference.histograms]
    distance = {
        kind: sum(psi(shares(day.counts[name]), usual_shares(reference, name, kind)) for name in shared)
        for kind in KINDS
    }
    return min(KINDS, key=lambda kind: distance[kind])


def certificate(bundle: Bundle, scored: ScoredCalls, rows: slice, findings: pd.DataFrame) -> CertificateState:
    """Checks whether the model's certificate still holds, by its date, the day's mix of calls, and findings.

    `rows`: rows of the day.
    """
    band = (scored.bands or bundle.thresholds)[0]
    proof = band.certificate
    stratum = scored.vectors.strata(scored.calls.num_rows)[rows]
    words, counts = np.unique(np.array(STRATA)[stratum], return_counts=True)
    mix = dict(zip(words.tolist(), (counts / counts.sum()).tolist(), strict=True))
    judged = {word: of for word, of in band.strata.items() if of.benign_calls}
    covered = sum(mix.get(word, 0.0) for word in judged)
    error = sum(mix.get(word, 0.0) * of.false_calls / of.benign_calls for word, of in judged.items())
    expected = error / covered if covered else None
    benign, false = found_benign(scored, rows.stop, findings, band)
    false = false if scored.bands else 0
    lowest = float(betaincinv(false, benign - false + 1, 1 - CONFIDENCE)) if false else 0.0
    valid_until = datetime.fromisoformat(bundle.valid_until)
    ended = scored.calls["start"][rows.stop - 1].as_py() >= valid_until.timestamp() * 1000
    status, _ = status_of_score(stale=ended, behind=False, filling=False, other_feed=not scored.bands, silent=False)
    reasons = []
    if not scored.bands:
        reasons.append(MESSAGES["other_feed"])
    if not proof.certified:
        reasons.append("the model was never certified")
    if ended:
        reasons.append(message_of("stale", f"valid until {bundle.valid_until}"))
    too_often = lowest > proof.target
    if too_often:
        reasons.append(
            f"{false:,} of {benign:,} calls of callers found innocent were flagged: more than {proof.target:g}, "
            f"with {CONFIDENCE:.0%} confidence"
        )
    if expected is not None and expected > proof.target:
        reasons.append(
            f"in the day's mix of caller classes {expected:.2g} of innocent calls would be flagged, above the target"
        )
    return {
        "band": band.name,
        "target": proof.target,
        "bound_then": proof.bound,
        "expected_at_this_mix": expected,
        "share_of_calls_in_judged_classes": covered,
        "calls_of_callers_found_benign": benign,
        "of_these_flagged": false,
        "flagged_too_often": too_often,
        "valid_until": bundle.valid_until,
        "status": status,
        "at_risk": reasons,
    }


def found_benign(scored: ScoredCalls, end: int, findings: pd.DataFrame, band: Band) -> tuple[int, int]:
    """Counts the calls, up to the day's end, of callers found benign, and those of these calls that were flagged."""
    import pyarrow as pa
    import pyarrow.compute as pc

    calls = scored.calls.slice(0, end)
    numbers = pa.array(findings.loc[~findings["nuisance"].astype(bool), "number"], pa.string())
    caller = pc.dictionary_decode(calls["caller"].combine_chunks())
    benign = np.asarray(pc.is_in(caller, value_set=numbers))
    # The first days only fill the windows.
    start = calls["start"].to_numpy()
    benign &= start >= start[0] + WINDOW_DAYS * DAY
    aligned = aligned_scores(scored.raw[:end], scored.vectors.strata(scored.calls.num_rows)[:end], band)
    return int(benign.sum()), int((aligned[benign] >= band.threshold).sum())


def monitor(
    bundle: Path,
    data: Path,
    day: date | None,
    *,
    trust: Path | None,
    ledger: Ledger | None,
    threads: int,
    progress: Progress,
) -> MonitorFigures:
    """Compares one day of a folder of calls with the reference of a model.

    `data`: folder as for training, with the day's calls and those of at least 7 days before; better 28. `day`: the last
    day by default.
    """
    check_present(bundle, data, trust)
    scorer = open_scorer(bundle, trust)
    usual = read_reference(bundle.parent / "record" / REFERENCE)
    if usual.model != scorer.bundle.model_id:
        raise ValueError(f"reference: expected that of model {scorer.bundle.model_id}, got that of {usual.model}")
    dataset = read_dataset(data, "monitoring")
    calls, chosen = calls_until(dataset.calls, day)
    look: Look | None = None
    if certified_on(scorer.bundle, dataset.fingerprint, judged_span(calls)):
        look = count_look(ledger, scorer.bundle, dataset.fingerprint, judged_span(calls), "monitor", data)
    progress("features", 0.1)
    # Complaints and findings after the day are not known yet.
    end = midnight(chosen, calls.slice(day_slices(calls)[chosen].start)) + DAY
    moment = datetime.fromtimestamp(end / 1000, tz=UTC)
    complaints, findings = (table[table["known_at"] < moment] for table in (dataset.complaints, dataset.findings))
    scores, rows = score_calls(scorer, calls, dataset.own, threads=threads)
    progress("compare", 0.9)
    scored = ScoredCalls(calls, feed_of_all(rows), scores.raw, complaints, scorer.bands(scores.feed))
    span = day_slices(calls)[chosen]
    figures = day_figures(chosen, span, scored, usual.cuts)
    shifts = compare(usual, figures)
    proof = certificate(scorer.bundle, scored, span, findings)
    drifted = figures.feed != usual.feed or any(shift["alarm"] for shift in shifts)
    result: MonitorFigures = {
        "day": str(chosen),
        "kind": figures.kind,
        "resembles": resembles(usual, figures),
        "model": usual.model,
        "reference": [usual.first, usual.last],
        "calls": figures.calls,
        "days_before": (chosen - min(day_slices(calls))).days,
        "days_wanted": HISTORY_DAYS,
        "feed": figures.feed,
        "reference_feed": usual.feed,
        "alarm": drifted or proof["flagged_too_often"],
        "shifts": shifts,
        "certificate": proof,
    }
    return result if look is None else {**result, **look}


def calls_until(calls: pa.Table, day: date | None) -> tuple[pa.Table, date]:
    """Returns the calls of a day and of HISTORY_DAYS before it, and the day; the last day by default."""
    days = day_slices(calls)
    chosen = day or max(days)
    if chosen not in days:
        raise ValueError(f"{chosen}: expected a day of the calls, {min(days)} to {max(days)}")
    window = [earlier for earlier in days if 0 <= (chosen - earlier).days <= HISTORY_DAYS]
    if (chosen - min(window)).days < WINDOW_DAYS:
        raise ValueError(f"{chosen}: expected calls of at least {WINDOW_DAYS} days before it, from {min(days)} on")
    begin = days[min(window)].start
    return calls.slice(begin, days[chosen].stop - begin), chosen
