"""Verdicts: the result of scoring one call, and the results of scoring a table of calls."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from callsieve.features.dataclass import dataclass
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.rules.rules import Fact

from .reasons import Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILLING = "filling"
"""Status of a verdict without a band, because the history does not reach back far enough yet."""
BEHIND = "behind"
"""Status of a verdict without a band, because the history has moved more than a minute past the start of the call."""
OTHER_FEED = "other feed"
"""Status of a verdict without a band, because the bundle has no bands for the feed of the records."""
NO_BANDS = (FILLING, BEHIND, OTHER_FEED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of scoring one call.

    Attributes:
        action: "pass", "label", "screen" or "block".
        score: calibrated probability that the call is a nuisance call; NaN without a score.
        band: the highest band that the raw score reached; "" for none. A band is a score interval that begins at a
            certified threshold or at the looser "watch" threshold.
        content: the likely kind of nuisance, or None.
        mode: who or what is calling, or None.
        reasons: the strongest contributions to the raw score.
        status: "ok"; "stale" (after `valid_until`); "filling" (the history is shorter than the policy's
            `history_days`, or had no room for all calls, so every band abstains); "behind" (the history has moved more
            than a minute past the start of the call, so every band abstains); "other feed" (the bundle has no bands
            for `feed`, so every band abstains); or why there is no score. With "filling", "behind", "other feed" and
            without a score, the action follows from the rules alone.
        case: identifies the call for an appeal; the verdict log stores the record of the verdict under it.
        model: identifies the bundle.
        valid_until: the end of the bundle's validity, UTC.
        raw: the model's own score in log-odds; NaN without a score.
        threshold: the raw score at which the reached band begins; NaN without a band.
        rules: the facts that hold for the call. Facts and score do not change each other.
        feed: the feed of the records (`features/online/feeds.py`), whose bands apply.
        confidence: probability that the call is a nuisance call, by the evidence that leads to `action`: the score if
            the bands lead to it, and otherwise the figure of the rule in the policy file. NaN for "pass", and for rules
            without a figure.

    >>> from callsieve.features import Call, History, Intake, Key
    >>> from callsieve.serving import Scorer, read_public_key
    >>> call = Intake(Key("e1", bytes(32)))(Call(1772500000.0, "13800138000", "13900139000"))
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> verdict = scorer.score(History(), call)
    >>> verdict.action, verdict.status, 0 < verdict.score < 1, len(verdict.case)
    ('pass', 'filling', True, 16)
    """

    action: str
    score: float
    band: str
    content: str | None
    mode: str | None
    reasons: tuple[Reason, ...]
    status: str
    case: str
    model: str
    valid_until: str
    raw: float = math.nan
    threshold: float = math.nan
    rules: tuple[Fact, ...] = ()
    feed: str = COMPLETE
    confidence: float = math.nan


@dataclass(frozen=True, slots=True)
class Scores:
    """The results of scoring n calls: arrays of shape (n,).

    Attributes:
        raw: raw scores in log-odds; NaN without a score.
        score: calibrated probabilities; NaN without a score.
        action: indexes of `policy.ACTIONS`.
        band_action: the action that the bands alone lead to, as indexes of `policy.ACTIONS`.
        rule_bits: bit i is set if the call meets `rules.RULES[i]`.
        feed: the feed of the records, whose bands apply.

    >>> import numpy as np
    >>> from callsieve.serving import Scorer, read_public_key
    >>> from callsieve.serving.rules.policy import ACTIONS
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> scores = scorer.score_table(np.full((2, len(scorer.features)), np.nan))
    >>> scores.score.shape, [ACTIONS[i] for i in scores.action]
    ((2,), ['pass', 'pass'])
    """

    raw: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    action: npt.NDArray[np.int8]
    band_action: npt.NDArray[np.int8]
    rule_bits: npt.NDArray[np.int64]
    feed: str = COMPLETE


def case_id(model: str, caller: str, callee: str, start: int) -> str:
    """Returns 16 hex digits that identify a call scored by a model.

    The same call and model give the same id. No token can be read back from it.

    Args:
        model: the model id of the bundle.
        caller, callee: tokens.
        start: Unix ms.
    """
    identity = f"{model} {caller} {callee} {start}"
    return hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
