"""The gain of each evasion: calls that get through before a number is detected, compared with plain nuisance.

All calls of a number before its first caught one get through, or all its calls if none is caught. So "calls through a
number" is what an attacker gets for the price of one number. New numbers are of two sorts. Some share no group (block,
trunk, device, campaign) with a number that the model was trained on. Others do, such as the next number of a rotation
within a block. Intervals of means come from resampled callers.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from callsieve.features.arrays import Array
from callsieve.training.model.certify import ROUNDS, caller_bootstrap

from .detection import CONFIDENCE, NO_QUANTILES, detecting_calls, quantiles
from .figures import Mean, Quantiles, Rate
from .headline import FLAGGED, NO_RATE, JudgedCalls, PolicyActions

PLAIN = "no evasion"


class EvasionDetection(Quantiles):
    """Share of numbers detected, and share of their calls from the detecting one on."""

    detected: float | None
    stopped: float | None


class KnownGroup(TypedDict):
    """New numbers of groups that the model was trained on; None where the groups are not known."""

    numbers: int | None
    calls: int | None
    detected: float | None
    calls_through_a_number: Mean


class Evasion(TypedDict):
    """The gain of one evasion, over new numbers of groups that the model was not trained on.

    `judged_calls` and `caught` are of the calls of the headline. `caught` is of the model alone, `caught_by_rules` of
    the policy's rules alone, `caught_by_policy` of both. `calls_through_a_number`: calls before the first one that the
    model catches. `times_plain`: their mean over that of numbers without an evasion.
    """

    attack: str
    judged_calls: int
    caught: Rate
    caught_by_rules: Rate
    caught_by_policy: Rate
    numbers: int
    calls: int
    detection: EvasionDetection
    calls_through_a_number: Mean
    people_reached_by_a_number: Mean
    times_plain: float | None
    known_group: KnownGroup


def evasion_figures(s: JudgedCalls, threshold: float, actions: PolicyActions) -> list[Evasion]:
    """Returns one row for each evasion in the scored calls, plain nuisance first, also where no call of it was judged.

    `numbers` and `calls` are those whose whole life is in the records. `caught` is of the nuisance calls of the
    headline. `known_group` has numbers whose whole life is in the records, too, of groups that were trained on.
    """
    codes = np.unique(s.judged.attack[s.judged.known & s.judged.nuisance])
    plain = calls_through(s, threshold, s.lives & (s.judged.attack < 0))
    return [figures_of(s, threshold, actions, int(code), plain) for code in codes]  # -1, no evasion, comes first


def figures_of(s: JudgedCalls, threshold: float, actions: PolicyActions, code: int, plain: Array) -> Evasion:
    """Returns the figures of one evasion."""
    rows = s.judged.attack == code
    nuisance, lives = s.rows & s.judged.nuisance & rows, s.lives & rows
    through = calls_through(s, threshold, lives)
    return {
        "attack": PLAIN if code < 0 else s.judged.attacks[code],
        "judged_calls": int(nuisance.sum()),
        "caught": catch_rate(s, s.raw >= threshold, nuisance),
        "caught_by_rules": catch_rate(s, actions.rules >= FLAGGED, nuisance),
        "caught_by_policy": catch_rate(s, actions.both >= FLAGGED, nuisance),
        "numbers": len(through),
        "calls": int(lives.sum()),
        "detection": detection(s, threshold, lives),
        "calls_through_a_number": mean(through, s.seed),
        "people_reached_by_a_number": mean(people_reached(s, threshold, lives), s.seed),
        "times_plain": ratio(through, plain),
        "known_group": known_group(s, threshold, rows),
    }


def known_group(s: JudgedCalls, threshold: float, rows: Array) -> KnownGroup:
    """Returns the figures of new numbers whose group was in training; None where groups are not known."""
    if s.known_lives is None:
        return {"numbers": None, "calls": None, "detected": None, "calls_through_a_number": mean(np.zeros(0), s.seed)}
    lives = s.known_lives & rows
    through = calls_through(s, threshold, lives)
    return {
        "numbers": len(through),
        "calls": int(lives.sum()),
        "detected": detection(s, threshold, lives)["detected"],
        "calls_through_a_number": mean(through, s.seed),
    }


def catch_rate(s: JudgedCalls, caught: Array, rows: Array) -> Rate:
    """Returns the share of these nuisance calls that are caught, with callers resampled."""
    if not rows.any():
        return {**NO_RATE}
    hit = caught[rows]
    low, high = caller_bootstrap(hit, s.caller[rows], seed=s.seed)
    return {"rate": float(hit.mean()), "low": low, "high": high}


def detection(s: JudgedCalls, threshold: float, lives: Array) -> EvasionDetection:
    """Returns the calls until these numbers are detected; all figures are None without a number."""
    if not lives.any():
        return {"detected": None, "stopped": None, **NO_QUANTILES}
    detected, made = detecting_calls(s.raw[lives], threshold, s.caller[lives], s.start[lives])
    return {
        "detected": float(np.isfinite(detected).mean()),
        "stopped": float(np.maximum(made - detected + 1, 0).sum() / made.sum()),
        **quantiles(detected, made),
    }


def calls_through(s: JudgedCalls, threshold: float, lives: Array) -> Array:
    """Returns, for each number, its calls before the first caught call, or all its calls if none is caught."""
    if not lives.any():
        return np.zeros(0)
    detected, made = detecting_calls(s.raw[lives], threshold, s.caller[lives], s.start[lives])
    return np.asarray(np.minimum(detected - 1, made))


def people_reached(s: JudgedCalls, threshold: float, lives: Array) -> Array:
    """Returns, for each number, how many people it called before its first caught call."""
    rows = np.flatnonzero(lives)
    if not len(rows):
        return np.zeros(0)
    rows = rows[np.lexsort((s.start[rows], s.caller[rows]))]
    owner = np.unique(s.caller[rows], return_inverse=True)[1]
    hit = s.raw[rows] >= threshold
    hits, first = np.cumsum(hit), np.searchsorted(owner, np.arange(owner[-1] + 1))
    before: Array = hits == (hits - hit)[first][owner]  # no call of the number was caught up to here
    pairs = np.unique(np.column_stack([owner[before], s.callee[rows][before]]), axis=0)
    return np.bincount(pairs[:, 0], minlength=owner[-1] + 1).astype(float)


def mean(values: Array, seed: int) -> Mean:
    """Returns the mean over numbers with its interval, numbers resampled; a single number has no interval."""
    if not len(values):
        return {"mean": None, "low": None, "high": None}
    if len(values) == 1:
        return {"mean": float(values[0]), "low": None, "high": None}
    draws = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=ROUNDS)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws @ values / len(values), [tail, 1 - tail])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def ratio(through: Array, plain: Array) -> float | None:
    """Returns the mean calls through a number over those of plain nuisance; None if either has no number, or plain has
    no call.
    """
    return float(through.mean() / plain.mean()) if len(through) and len(plain) and plain.mean() else None
