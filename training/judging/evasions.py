"""What each evasion buys the one who tries it: calls that get through before a number is found, beside plain diallers.

A number is burnt with its first call that is caught; all calls before that one got through, and of a number that is
never found all of them. So calls through a number are what an attacker gets for the price of one. Numbers that came
after the training are of two sorts: those that share nothing with whom the model learnt from, and those of a group
(block, trunk, device, campaign) that it learnt from, such as the next number of a rotation. Intervals of means come
from callers drawn anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.training.model.certify import ROUNDS, caller_bootstrap

from .detection import CONFIDENCE, OF_QUANTILES, calls_to_detection, detecting_calls
from .metrics import to_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from .headline import Scored

    Array = npt.NDArray[Any]

PLAIN = "no evasion"


def attack_figures(s: Scored, threshold: float) -> list[dict[str, Any]]:
    """One row for each evasion in the calls, plain nuisance first; also for one of which nothing was judged.

    `numbers` and `calls` are those whose whole life is known; `caught` is of the nuisance calls of the headline;
    `known_group` is of numbers whose whole life is known too, of groups that the model learnt from.

    Args:
        s: with raw scores that are held below the threshold where a band is silent.
    """
    told = np.unique(s.judged.attack[s.judged.known & s.judged.nuisance])
    plain = calls_through(s, threshold, s.lives & (s.judged.attack < 0))
    return [row(s, threshold, int(code), plain) for code in told]  # -1, no evasion, comes first


def row(s: Scored, threshold: float, code: int, plain: Array) -> dict[str, Any]:
    """The figures of one evasion; `plain` are the calls through each number of those who try none."""
    mine = s.judged.attack == code
    bad, lives = s.rows & s.judged.nuisance & mine, s.lives & mine
    through = calls_through(s, threshold, lives)
    people = people_reached(s, threshold, lives)
    return {
        "attack": PLAIN if code < 0 else s.judged.attacks[code],
        "judged_calls": int(bad.sum()),
        "caught": caught(s, threshold, bad),
        "numbers": len(through),
        "calls": int(lives.sum()),
        "detection": detection(s, threshold, lives),
        "calls_through_a_number": mean(through, s.seed),
        "people_reached_by_a_number": mean(people, s.seed),
        "times_plain": ratio(through, plain),
        "known_group": of_known_group(s, threshold, mine),
    }


def of_known_group(s: Scored, threshold: float, mine: Array) -> dict[str, Any]:
    """The same of numbers that came later, of groups that the model learnt from; all None if nobody knows which."""
    if s.known_lives is None:
        nobody = mean(np.zeros(0), s.seed)
        return {"numbers": None, "calls": None, "found": None, "calls_through_a_number": nobody}
    lives = s.known_lives & mine
    through = calls_through(s, threshold, lives)
    return {
        "numbers": len(through),
        "calls": int(lives.sum()),
        "found": detection(s, threshold, lives)["found"],
        "calls_through_a_number": mean(through, s.seed),
    }


def caught(s: Scored, threshold: float, bad: Array) -> dict[str, float | None]:
    """Share of calls caught, with callers resampled."""
    if not bad.any():
        return {"rate": None, "low": None, "high": None}
    hit = s.raw[bad] >= threshold
    low, high = caller_bootstrap(hit, s.caller[bad], seed=s.seed)
    return {"rate": float(hit.mean()), "low": low, "high": high}


def detection(s: Scored, threshold: float, lives: Array) -> dict[str, Any]:
    """Calls until found; where a quantile is not reached, None, beside the floor. Without a number all is None."""
    if not lives.any():
        return dict.fromkeys(("found", "stopped", *OF_QUANTILES))
    found = calls_to_detection(s.raw[lives], threshold, s.caller[lives], s.start[lives])
    quantiles = {name: getattr(found, name) for name in OF_QUANTILES}
    plain: dict[str, Any] = to_json({"found": found.detected, "stopped": found.stopped, **quantiles})
    return plain


def calls_through(s: Scored, threshold: float, lives: Array) -> Array:
    """For each number: its calls before the first that is caught; all if none is."""
    if not lives.any():
        return np.zeros(0)
    detected, made = detecting_calls(s.raw[lives], threshold, s.caller[lives], s.start[lives])
    return np.asarray(np.minimum(detected - 1, made))


def people_reached(s: Scored, threshold: float, lives: Array) -> Array:
    """For each number: how many people it called before its first call that is caught."""
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


def mean(values: Array, seed: int) -> dict[str, float | None]:
    """Mean over numbers with its interval, numbers drawn anew; of one number nothing bounds it."""
    if not len(values):
        return {"mean": None, "low": None, "high": None}
    if len(values) == 1:
        return {"mean": float(values[0]), "low": None, "high": None}
    drawn = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=ROUNDS)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn @ values / len(values), [tail, 1 - tail])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def ratio(through: Array, plain: Array) -> float | None:
    """How many times as many calls as a plain dialler's number gets through."""
    return float(through.mean() / plain.mean()) if len(through) and len(plain) and plain.mean() else None
