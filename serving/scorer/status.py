"""Statuses of verdicts: a closed set of machine words, each with one message for people.

Everything that gives a verdict uses these words: the scorer, the services around it, files of verdicts, metrics, pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypedDict, get_args

Status = Literal[
    "scored",
    "cleared",
    "stale",
    "behind",
    "filling",
    "other_feed",
    "unlike_network",
    "no_threshold",
    "wrong_input",
    "no_model",
    "starting",
    "deadline",
    "fault",
]
STATUSES: tuple[Status, ...] = get_args(Status)
MESSAGES: Mapping[Status, str] = {
    "scored": "scored",
    "cleared": "a person has cleared this caller: the score has no effect",
    "stale": "the validity of the model has ended: train or load a new one",
    "behind": "the history has moved more than a minute past the start of the call: the score has no effect",
    "filling": "the history is shorter than the policy's history_days, or lacks calls of them: there is no score yet",
    "other_feed": "the model has no thresholds for records that lack what these lack: the score has no effect",
    "unlike_network": "the model's thresholds were chosen on other networks: the score has no effect; adapt the model",
    "no_threshold": "the model has no threshold for this class of number: the score has no effect",
    "wrong_input": "not scored: the call or the history is not what the scorer takes",
    "no_model": "not scored: no model is in service",
    "starting": "not scored: the service is starting",
    "deadline": "the verdict came after the deadline, or was not begun in time: the call passes",
    "fault": "not scored: a fault of the scorer",
}
"""Messages for people, by status."""


def message_of(status: Status, detail: str = "") -> str:
    """Returns the message of a status.

    >>> message_of("fault", "KeyError")
    'not scored: a fault of the scorer (KeyError)'
    """
    return f"{MESSAGES[status]} ({detail})" if detail else MESSAGES[status]


@lru_cache(maxsize=64)
def status_of_score(
    *,
    stale: bool,
    behind: bool,
    filling: bool,
    other_feed: bool,
    silent: bool,
    unlike: bool = False,
    detail: str = "",
) -> tuple[Status, str]:
    """Returns status and message of a call that has a score.

    The status is the most serious condition that holds. The message names all of them, so none hides another.

    Args:
        behind: the history has moved more than a minute past the start of the call.

    >>> status_of_score(stale=True, behind=False, filling=True, other_feed=False, silent=False)[0]
    'stale'
    """
    conditions: tuple[tuple[Status, bool], ...] = (
        ("stale", stale),
        ("behind", behind),
        ("filling", filling),
        ("other_feed", other_feed),
        ("unlike_network", unlike),
        ("no_threshold", silent),
    )
    words = [word for word, holds in conditions if holds] or ["scored"]
    message = "; ".join(MESSAGES[word] for word in words)
    return words[0], f"{message} ({detail})" if detail else message


class BandConditions(TypedDict):
    """Conditions under which bands abstain, as `Scorer.explain_row` takes them."""

    covered: bool
    behind: bool


def band_conditions(status: str, band: str, *, scored: bool) -> BandConditions:
    """Returns the conditions of a verdict, by its status, the band that it reached, and whether it has a score.

    A verdict without a band says the same whether or not its bands applied: a status that can hide another counts as
    without bands.

    >>> band_conditions("stale", "", scored=True)
    {'covered': True, 'behind': True}
    """
    return {"covered": scored, "behind": band == "" and status in ("behind", "stale", "unlike_network")}
