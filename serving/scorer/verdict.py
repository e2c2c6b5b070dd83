"""Verdicts: the result of scoring one call, and the results of scoring a table of calls."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from callsieve.features.files.strict_json import finite
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.bundle.level import NO_SHIFT, Shift
from callsieve.serving.rules.rules import Fact

from .reasons import Reason
from .status import Status, message_of

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats, Int8s, Int64s


@dataclass(slots=True, unsafe_hash=True)
class Verdict:
    """The result of scoring one call.

    Attributes:
        action: "pass", "label", "screen" or "block".
        score: calibrated probability that the call is a nuisance call; NaN without a score, and while the history is
            shorter than the policy's `history_days`.
        band: the highest band that the raw score reached; "" for none. A band is a score interval that begins at a
            certified threshold or at the looser "watch" threshold.
        content: the likely kind of nuisance, or None.
        mode: who or what is calling, or None.
        reasons: the strongest contributions to the raw score.
        status: one word of `status.STATUSES`. "scored": nothing is wrong. "cleared": a person has cleared the caller.
            "stale": the call starts after `valid_until`; this hides no other condition from `message`. With "behind",
            "filling", "other_feed", "unlike_network" and "no_threshold" no band applies. With "filling", "wrong_input",
            "no_model", "starting" and "fault" there is no score. "deadline": the verdict came too late or was not
            begun. In all of these but "scored" and "stale" the action follows from the rules alone.
        case: identifies the call for an appeal; the verdict log stores the record of the verdict under it.
        model: identifies the bundle.
        valid_until: the end of the bundle's validity, UTC.
        raw: the model's own score in log-odds, less `shift`; NaN without a score.
        threshold: the raw score at which the reached band begins; NaN without a band.
        rules: the facts that hold for the call. Facts and score do not change each other.
        feed: the feed of the records (`features/online/feeds.py`), whose bands apply.
        shift: the difference of the score level of the network from the highest of those that thresholds were chosen on
            (`serving/bundle/level.py`); 0.0 for a model with fixed thresholds.
        confidence: probability that the call is a nuisance call, by the evidence that leads to `action`: the score if
            the bands lead to it, and otherwise the figure of the rule in the policy file. NaN for "pass", and for rules
            without a figure.
        message: the status in words, for people. It holds no value of the call.
        plan_class: "marketing", "harassment" or "illegal", the class in the plan of thirteen ministries
            (`rules/plan_classes.py`) by the rules and, if a band leads to an action, by the content. "" for "pass", and
            if none of them names a class.

    >>> from callsieve.features import Call, History, Intake, Key
    >>> from callsieve.serving import Scorer, read_public_key
    >>> call = Intake(Key("e1", bytes(32)))(Call(1772500000.0, "13800138000", "13900139000"))
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> verdict = scorer.score(History(), call)
    >>> verdict.action, verdict.status, verdict.score, len(verdict.case)  # a week of calls is not known yet
    ('pass', 'filling', nan, 16)
    """

    action: str
    score: float
    band: str
    content: str | None
    mode: str | None
    reasons: tuple[Reason, ...]
    status: Status
    case: str
    model: str
    valid_until: str
    raw: float = math.nan
    threshold: float = math.nan
    rules: tuple[Fact, ...] = ()
    feed: str = COMPLETE
    confidence: float = math.nan
    message: str = ""
    plan_class: str = ""
    shift: float = 0.0

    def to_json(self) -> str:
        """Returns the verdict as one line of JSON: an object of its attributes, with null for NaN and infinities."""
        plain = {name: getattr(self, name) for name in Verdict.__slots__}
        for name in ("reasons", "rules"):
            plain[name] = [{field: getattr(item, field) for field in type(item).__slots__} for item in plain[name]]
        return json.dumps(finite(plain), ensure_ascii=False, separators=(",", ":"))


class Scored(NamedTuple):
    """A verdict with the vector behind it: `row` has the columns of the scorer's `features`, or is None without one."""

    verdict: Verdict
    row: array[float] | None


@lru_cache(64)  # a service that sheds calls gives the same one many times
def no_verdict(status: Status, detail: str = "", *, model: str = "", valid_until: str = "") -> Verdict:
    """Returns the verdict on a call that no scorer has scored: it passes."""
    nothing = (math.nan, "", None, None, ())
    return Verdict("pass", *nothing, status, "", model, valid_until, message=message_of(status, detail))


@dataclass(frozen=True, slots=True)
class Scores:
    """The results of scoring n calls: arrays of shape (n,).

    Attributes:
        raw: raw scores in log-odds, less the shift. NaN for a row with an infinite value. -inf for a row that is not
            covered: the model is not evaluated for it.
        score: calibrated probabilities; NaN without a score.
        action: indexes of `policy.ACTIONS`.
        band_action: the action that the bands alone lead to, as indexes of `policy.ACTIONS`.
        rule_bits: bit i is set if the call meets `rules.RULES[i]`.
        feed: the feed of the records, whose bands apply.
        shift: of the network of the calls; `raw` is less by its amount.

    >>> import numpy as np
    >>> from callsieve.serving import Scorer, read_public_key
    >>> from callsieve.serving.rules.policy import ACTIONS
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> scores = scorer.score_table(np.full((2, len(scorer.features)), np.nan))
    >>> scores.score.shape, [ACTIONS[i] for i in scores.action]
    ((2,), ['pass', 'pass'])
    """

    raw: Floats
    score: Floats
    action: Int8s
    band_action: Int8s
    rule_bits: Int64s
    feed: str = COMPLETE
    shift: Shift = NO_SHIFT


def case_id(model: str, caller: str, callee: str, start: int) -> str:
    """Returns 16 hex digits that identify a call scored by a model.

    The same call and model give the same id. No token can be read back from it.

    Args:
        start: Unix ms.
    """
    identity = f"{model} {caller} {callee} {start}"
    return hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
