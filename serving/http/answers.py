"""The JSON that the HTTP service answers, as types: each field has its unit and meaning for the OpenAPI document.

The service encodes a `Verdict` itself; `tests/serving/http` compares its fields with `VerdictOut`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from callsieve.features.catalogue import BY_NAME
from callsieve.features.files.dates import now_ms
from callsieve.features.online.feeds import FEEDS, UNKNOWN_FEED
from callsieve.serving.live.health import days_left, health
from callsieve.serving.live.live import BOUNDS, Live
from callsieve.serving.live.swap import Swap
from callsieve.serving.rules.plan_classes import PLAN_CLASSES
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.reasons import in_chinese
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import MESSAGES, STATUSES

from .metrics import STATE, gauges
from .schema import doc

_Action = Literal[ACTIONS]  # type: ignore[valid-type]
_Status = Literal[STATUSES]  # type: ignore[valid-type]
_PlanClass = Literal[("", *PLAN_CLASSES)]  # type: ignore[valid-type]
_English = Annotated[str, doc("The sentence in English.")]
_Chinese = Annotated[str, doc("The sentence in Chinese.")]
_Counts = dict[str, int]
_TOP = 8  # reasons that the page shows
_ServiceStatus = Annotated[_Status, doc('"scored", or "starting", "no_model", "stale", "filling" or "other_feed".')]
_Why = Annotated[str, doc('What is wrong, in words; "" if nothing is.')]


class ReasonOut(msgspec.Struct):
    """A feature's contribution to the raw score, with its value and a sentence."""

    feature: Annotated[str, doc("Name of the feature.")]
    value: Annotated[float | None, doc("Value of the feature for this call; null if unknown.")]
    contribution: Annotated[float, doc("Part of the raw score, in log-odds.")]
    en: _English
    zh: _Chinese


class FactOut(msgspec.Struct):
    """A rule that the call meets."""

    rule: Annotated[str, doc("Name of the rule.")]
    en: _English
    zh: _Chinese
    value: Annotated[float | None, doc("Measured value; null if the rule measures nothing.")]
    limit: Annotated[float | None, doc("Limit that the value was compared with; null without a value.")]
    register: Annotated[str, doc('Register behind the fact; "" if there is none.')]
    entry: Annotated[str, doc('Name of the row in the register; "" without a register.')]
    valid_from: Annotated[str, doc('Start of the row\'s validity, UTC; "" without a register.')]
    known_at: Annotated[str, doc('Time since when the row is known, UTC; "" without a register.')]


class VerdictOut(msgspec.Struct):
    """A verdict on one call."""

    action: Annotated[_Action, doc("What to do with the call. Without a score only `rules` can lead to an action.")]
    score: Annotated[
        float | None,
        doc('Calibrated probability of a nuisance call, 0 to 1; null without a score, and with the status "filling".'),
    ]
    band: Annotated[str, doc('Highest band of scores that the call reaches; "" for none.')]
    content: Annotated[str | None, doc("Likely kind of nuisance; null if the call passes or it is open.")]
    mode: Annotated[str | None, doc("Who or what is calling; null if the call passes or it is open.")]
    reasons: Annotated[list[ReasonOut], doc("Strongest contributions to the raw score, strongest first.")]
    status: Annotated[
        _Status,
        doc(
            '"scored", or one word for what is wrong. In all cases but "scored" and "stale" only `rules`'
            " can lead to an action."
        ),
    ]
    case: Annotated[str, doc('Identifies the verdict for `/v1/explain` and for an appeal: 16 hex digits, or "".')]
    model: Annotated[str, doc('Identifies the bundle; "" if none is in service.')]
    valid_until: Annotated[str, doc('End of the validity of the bundle, UTC; "" without a bundle.')]
    raw: Annotated[float | None, doc("Score of the model in log-odds; null without a score.")]
    threshold: Annotated[float | None, doc("Raw score at which the band begins; null without a band.")]
    rules: Annotated[list[FactOut], doc("Rules that the call meets.")]
    feed: Annotated[str, doc("Kind of the records by what they lack, whose thresholds apply.")]
    confidence: Annotated[
        float | None,
        doc(
            "Probability of a nuisance call by the evidence that leads to the action: `score` if the model"
            ' does, the figure of the policy file if a rule does. null for "pass", and for rules without a figure.'
        ),
    ]
    message: Annotated[str, doc("The status in words; it names all conditions that hold.")]
    plan_class: Annotated[
        _PlanClass, doc('Class in the plan of thirteen ministries; "" for "pass", and if nothing names a class.')
    ]
    shift: Annotated[
        float, doc("Difference of the network's score level from the highest of those learnt from, in log-odds.")
    ]


class Fault(msgspec.Struct):
    """A refused request."""

    error: Annotated[str, doc("The reason in one line, without content of the request.")]


class Nothing(msgspec.Struct):
    """An empty object: the event was accepted."""


class Health(msgspec.Struct):
    """Whether the service works."""

    ok: Annotated[bool, doc("Whether it works.")]
    why: Annotated[str, doc('Why it does not work; "" if it works.')]


class Readiness(msgspec.Struct):
    """Whether calls should come here now."""

    ok: Annotated[bool, doc("Whether they should.")]
    status: _ServiceStatus
    why: _Why


class Reloaded(msgspec.Struct):
    """The model in service after a reload."""

    model: Annotated[str, doc("Identifies the bundle.")]
    epoch: Annotated[int, doc("Epoch of the bundle; earlier ones are refused from now on.")]


class ModelOut(msgspec.Struct):
    """The model in service."""

    id: Annotated[str, doc("Identifies the bundle.")]
    signed_by: Annotated[str, doc("Id of the key that signed the bundle.")]
    epoch: Annotated[int, doc("Epoch of the bundle.")]
    valid_from: Annotated[str, doc("Start of its validity, UTC.")]
    valid_until: Annotated[str, doc("End of its validity, UTC.")]
    days_left: Annotated[float, doc("Days until that end; negative afterwards.")]
    policy: Annotated[str, doc("Version of the policy file.")]
    simulated: Annotated[bool, doc("Whether it learnt from the truth of simulated calls.")]


class CertificateOut(msgspec.Struct):
    """The certificate of one band on one feed."""

    feed: Annotated[str, doc("Feed on which it holds.")]
    band: Annotated[str, doc("Name of the band.")]
    action: Annotated[str, doc("Action of the policy for the band.")]
    certified: Annotated[bool, doc("Whether the bound is within the target.")]
    benign_calls: Annotated[int, doc("Innocent calls of the certificate.")]
    false_calls: Annotated[int, doc("Innocent calls among them that reach the band.")]
    bound: Annotated[float, doc("Upper bound of the share of innocent calls that reach the band.")]
    target: Annotated[float, doc("Largest bound that is certified.")]
    fold: Annotated[str, doc("Part of the data that the certificate was made on.")]


class FeedOut(msgspec.Struct):
    """The feed of the call records: what they lack decides which thresholds apply."""

    name: Annotated[str, doc("Feed whose thresholds apply.")]
    pinned: Annotated[bool, doc("Whether the policy sets it; otherwise it is recognised.")]
    recognised: Annotated[str, doc("Feed that the calls of the last seven days show.")]
    changes: Annotated[int, doc("Changes of the recognised feed since the start.")]
    shares: Annotated[dict[str, float] | None, doc("Shares that it follows from; null before they were measured.")]


class LatencyOut(msgspec.Struct):
    """A histogram of the time that verdicts take."""

    bounds: Annotated[list[float], doc("Upper bounds in seconds; a last class has no bound.")]
    counts: Annotated[list[int], doc("Verdicts in each class.")]


class ReasonCountOut(msgspec.Struct):
    """How often a feature was a reason for a verdict other than "pass"."""

    feature: Annotated[str, doc("Name of the feature.")]
    count: Annotated[int, doc("Verdicts.")]
    en: Annotated[str, doc("The feature in English.")]
    zh: Annotated[str, doc("The feature in Chinese.")]


class StatusCountOut(msgspec.Struct):
    """How many verdicts have a status."""

    status: Annotated[_Status, doc("The status.")]
    message: Annotated[str, doc("The status in words.")]
    count: Annotated[int, doc("Verdicts since the start.")]
    share: Annotated[float, doc("Share of the last 4,096 verdicts, 0 to 1.")]


_NULLABLE = "newest_event_age_seconds"  # null without a call
_GAUGES = {
    name: {"type": ["number", "null"] if name == _NULLABLE else "number", "description": text}
    for name, text in STATE.items()
}


class StatusOut(msgspec.Struct):
    """The content of the operators' page. Fields from `counts` on are absent until the state is restored."""

    ready: Annotated[bool, doc("Whether calls should come here now.")]
    status: _ServiceStatus
    why: _Why
    uptime: Annotated[float, doc("Seconds since the start of the process.")]
    model: Annotated[ModelOut | None, doc("The model in service; null without one.")]
    refusal: Annotated[str | None, doc("Why the last bundle was refused; null if it was not.")]
    certificates: Annotated[list[CertificateOut], doc("One for each band and feed of the model.")]
    counts: Annotated[_Counts, doc("Events by result.")] | UnsetType = UNSET
    actions: Annotated[_Counts, doc("Verdicts by action.")] | UnsetType = UNSET
    state: (
        Annotated[
            dict[str, float | None],
            Meta(description="Gauges of memory and disk.", extra_json_schema={"properties": _GAUGES}),
        ]
        | UnsetType
    ) = UNSET
    statuses: Annotated[list[StatusCountOut], doc("All statuses that occurred, and scored.")] | UnsetType = UNSET
    feed: Annotated[FeedOut, doc("The feed of the records.")] | UnsetType = UNSET
    refused: (
        Annotated[str | None, doc("Why a snapshot of earlier processes was refused; null if it was not.")] | UnsetType
    ) = UNSET
    deadline: Annotated[float, doc("Seconds from the arrival of a call to its verdict.")] | UnsetType = UNSET
    latency: Annotated[LatencyOut, doc("Latency of verdicts.")] | UnsetType = UNSET
    reasons: Annotated[list[ReasonCountOut], doc("The commonest reasons of verdicts other than pass.")] | UnsetType = (
        UNSET
    )
    rules: Annotated[_Counts, doc("Calls that met each rule.")] | UnsetType = UNSET


def status_of(live: Live | None, scorers: Swap, uptime: float) -> StatusOut:
    """Returns the content of the operators' page; `uptime` is in seconds."""
    now = now_ms()
    state = health(live, scorers, now)
    content = StatusOut(
        ready=state.ready,
        status=state.status,
        why=state.why,
        uptime=uptime,
        model=None if scorers.scorer is None else _model(scorers.scorer, now),
        refusal=scorers.refusal,
        certificates=[] if scorers.scorer is None else _certificates(scorers.scorer),
    )
    if live is not None:
        content.counts, content.actions, content.rules = dict(live.counts), dict(live.actions), dict(live.rules)
        content.state, content.statuses = gauges(live), _statuses(live)
        content.feed = _feed(live)
        content.refused, content.deadline = live.memory.refusal, live.deadline
        content.latency = LatencyOut(list(BOUNDS), list(live.latency))
        content.reasons = [
            ReasonCountOut(name, count, BY_NAME[name].en, in_chinese(BY_NAME[name]))
            for name, count in live.reason_counts.most_common(_TOP)
            if name in BY_NAME
        ]
    return content


def _model(scorer: Scorer, now: int) -> ModelOut:
    bundle = scorer.bundle
    return ModelOut(
        id=bundle.model_id,
        signed_by=bundle.signed_by,
        epoch=bundle.epoch,
        valid_from=bundle.valid_from,
        valid_until=bundle.valid_until,
        days_left=days_left(scorer, now),
        policy=scorer.policy.version,
        simulated=bundle.training.get("learn_from") == "truth",
    )


def _feed(live: Live) -> FeedOut:
    recognised = live.memory.history.memory_feed
    return FeedOut(
        name=live.feed,
        pinned=live.feed_is_pinned,
        recognised=recognised.name,
        changes=recognised.changes,
        shares=None if recognised.shares is None else asdict(recognised.shares),
    )


def _certificates(scorer: Scorer) -> list[CertificateOut]:
    return [
        CertificateOut(
            feed=feed,
            band=band.name,
            action=scorer.policy.bands.get(band.name, "pass"),
            certified=band.certificate.certified,
            benign_calls=band.certificate.benign_calls,
            false_calls=band.certificate.false_calls,
            bound=band.certificate.bound,
            target=band.certificate.target,
            fold=band.certificate.fold,
        )
        for feed in (*FEEDS, UNKNOWN_FEED)
        for band in scorer.bands(feed)
    ]


def _statuses(live: Live) -> list[StatusCountOut]:
    shares = live.status_shares()
    return [
        StatusCountOut(word, message, live.statuses[word], shares[word])
        for word, message in MESSAGES.items()
        if word == "scored" or live.statuses[word]
    ]
