"""Whether a service gives verdicts that its model and its history can stand for."""

from __future__ import annotations

from dataclasses import dataclass

from callsieve.features.kernel.windows import DAY_MS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import Status, message_of

from .live import Live
from .swap import Swap


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a service.

    Attributes:
        ready: whether it should get calls.
        status: "scored" if nothing is wrong, else the gravest of "starting", "no_model", "stale", "filling" and
            "other_feed".
        message: the status in words, for people.
    """

    ready: bool
    status: Status
    message: str

    @property
    def why(self) -> str:
        """The fault in words; "" without one."""
        return "" if self.status == "scored" else self.message


def health(live: Live | None, scorers: Swap, now: int) -> Health:
    """Returns the health of a service.

    Args:
        now: Unix ms.
    """
    scorer = scorers.scorer
    if live is None:
        return _unready("starting")
    if scorer is None:
        return _unready("no_model", scorers.refusal or "")
    if days_left(scorer, now) < 0:
        return _unready("stale", f"valid until {scorer.bundle.valid_until}")
    if not live.memory.history.covers(now, scorer.policy.history_days):
        return Health(scorer.policy.filling_is_ready, "filling", message_of("filling"))
    if fault := scorer.feed_fault(live.feed):
        return Health(scorer.policy.filling_is_ready, "other_feed", message_of("other_feed", fault))
    return Health(ready=True, status="scored", message=message_of("scored"))


def days_left(scorer: Scorer, now: int) -> float:
    """Returns the days until the model's validity ends; negative afterwards. `now` is Unix ms."""
    return (scorer.valid_until_ms - now) / DAY_MS


def _unready(status: Status, detail: str = "") -> Health:
    return Health(ready=False, status=status, message=message_of(status, detail))
