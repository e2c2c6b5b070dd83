"""The verdict on one call from its vector and its facts: raw score, band, action, content and reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from callsieve.serving.bundle.level import NO_SHIFT, Shift
from callsieve.serving.rules.plan_classes import plan_class
from callsieve.serving.rules.policy import action_confidence, band_action, final_action
from callsieve.serving.rules.rules import Fact
from callsieve.serving.rules.strata import stratum_of

from .network_scores import NetworkScores
from .reasons import strongest_reasons
from .status import Status, message_of, status_of_score
from .verdict import Verdict

if TYPE_CHECKING:
    from callsieve.serving.bundle.bundle import Bundle

    from .served_model import ServedModel


def call_verdict(
    served: ServedModel,
    vector: Sequence[float],
    start: int,
    facts: tuple[Fact, ...],
    *,
    case: str,
    explain: bool,
    reasons: bool,
    feed: str,
    filling: bool,
    behind: bool = False,
    shift: Shift = NO_SHIFT,
    network: NetworkScores | None = None,
    end_stage: Callable[[str], object] | None = None,
) -> Verdict:
    """Scores the vector. Facts keep their action when the model fails.

    Args:
        start: start of the call, Unix ms.
        explain: whether to give reasons for every action, "pass" included.
        reasons: whether to give reasons at all.
        feed: the feed of the records.
        filling: whether the history does not reach back far enough, so there is no score and every band abstains.
        behind: whether the history has moved past the start of the call, so every band abstains.
        shift: of the network of the call.
        network: the scores of the network so far, which give the shift in place of `shift`.
        end_stage: called with "forest" when the raw score is known.
    """
    bundle, policy = served.bundle, served.policy
    try:
        row = served.model_input.row(vector, feed)
        model, calibration = bundle.risk_model(feed)
        raw = model.predict_one(row)
    except Exception as error:
        return unscored(served, case, "fault", type(error).__name__, facts)
    if end_stage is not None:
        end_stage("forest")
    if not math.isfinite(raw):
        return unscored(served, case, "fault", "the model's raw score is not finite", facts)
    if network is not None:
        shift = network.shift
        if not (filling or behind):
            network.add(start, raw)
    raw -= shift.amount
    stratum, bands = stratum_of(vector), () if shift.unlike else served.bands(feed)
    by_band, band = ("pass", "") if filling or behind else band_action(policy, bands, raw, stratum)
    status, message = status_of_score(
        stale=start > served.valid_until_ms,
        behind=behind,
        filling=filling,
        other_feed=not served.bands(feed),
        unlike=shift.unlike,
        silent=served.is_silent(stratum, feed),
        detail=shift.detail,
    )
    rules = [fact.rule for fact in facts]
    action = final_action(policy, by_band, rules)
    # The raw score of a call without a week before it is no probability: an ordinary first call would have 0.9.
    score = math.nan if filling else calibration.probability(raw)
    explain = explain or "pass" not in (by_band, action)
    content = _likely_class(bundle, "content", row) if explain else None
    return Verdict(
        action=action,
        score=score,
        band=band,
        content=content,
        mode=_likely_class(bundle, "mode", row) if explain else None,
        reasons=strongest_reasons(bundle.features, row, model.contributions(row)[0]) if explain and reasons else (),
        status=status,
        case=case,
        model=bundle.model_id,
        valid_until=bundle.valid_until,
        raw=raw,
        threshold=next((item.threshold_for(stratum) for item in bands if item.name == band), math.nan),
        rules=facts,
        feed=feed,
        shift=shift.amount,
        confidence=action_confidence(policy, action, by_band, score, rules),
        message=message,
        plan_class="" if action == "pass" else plan_class(content if by_band != "pass" else None, rules),
    )


def unscored(served: ServedModel, case: str, status: Status, detail: str, facts: tuple[Fact, ...] = ()) -> Verdict:
    """Returns the verdict on a call without a score, whose action follows from its facts, and notes the problem."""
    message = message_of(status, detail)
    served.problems.note(status, message, case)
    rules = [fact.rule for fact in facts]
    action = final_action(served.policy, "pass", rules)
    return Verdict(
        action=action,
        score=math.nan,
        band="",
        content=None,
        mode=None,
        reasons=(),
        status=status,
        case=case,
        model=served.bundle.model_id,
        valid_until=served.bundle.valid_until,
        rules=facts,
        confidence=action_confidence(served.policy, action, "pass", math.nan, rules),
        message=message,
        plan_class="" if action == "pass" else plan_class(None, rules),
    )


def _likely_class(bundle: Bundle, name: str, row: Sequence[float]) -> str | None:
    """Returns the likeliest class by the bundle's model "content" or "mode", or None without this model."""
    model = bundle.content if name == "content" else bundle.mode
    if model is None:
        return None
    (raw,) = model.predict_few([row])
    return bundle.classes[name][raw.index(max(raw))]
