"""The types of the figures of a monitored day, for the terminal and for `--json`."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from callsieve.serving.scorer.status import Status


class CertificateFigures(TypedDict):
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
    shifts: list[dict[str, Any]]
    certificate: CertificateFigures
    fold: NotRequired[str | None]
    touches: NotRequired[int | None]
    registered: NotRequired[bool]
