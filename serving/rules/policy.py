"""The policy: turns the facts of a call and the bands that its score reached into an action, by one reviewed file.

A band is a score interval that begins at a threshold: "certified" has a certified false positive rate, "watch" has a
looser one. Rules do not change the score. The policy takes the stronger action of rules and bands. Calls from and to
protected numbers are never blocked, not even by the file. Bands and rules on behaviour never act on a trusted number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from callsieve.features.online.coverage import COVERAGE_DAYS
from callsieve.features.online.feeds import FEEDS, LACKS

from .register_lookup import Terms
from .rules import BEHAVIOUR, GUARD, KNOWN, NETWORK, PREDICTED, PROTECTED, RULE_BY_NAME, Action

if TYPE_CHECKING:
    from callsieve.serving.bundle.metadata import Band

ACTIONS: tuple[Action, ...] = get_args(Action)
"""All actions, from the weakest to the strongest."""
PROFILES = {"default": "policy.toml", "plan-2018": "plan-2018.toml"}
"""The shipped policies by name: the cautious default, and one that enforces the plan of thirteen ministries."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file.

    Attributes:
        version: version of the file.
        bands: action of each band.
        rules: action of each rule.
        appeal: where a person appeals against a block; without it nothing is blocked.
        accepted: the strongest action of the bands if the called person accepts calls of the caller's business.
        known_caller: the strongest action of the bands and of rules on behaviour if the called person knows the caller:
            called it first, or talked with it at length (guards `called_first` and `long_talks`).
        repeated_caller: the strongest action of the bands and of rules on behaviour if the caller rings the called
            person again (guard `repeated_caller`, which `terms.repeat_calls` turns on).
        terms: the limits that rule conditions use.
        history_days: days of history before the bands apply; until then every band abstains
            (`features/online/coverage.py`).
        feed: the feed of the records, one of `feeds.FEEDS`; "" recognises it from the calls that the scorer sees. A
            scorer that sees a share of the calls, as one of several processes, cannot recognise it.
        filling_is_ready: whether a service whose history is still shorter than `history_days`, or whose model has no
            band for the feed of the records, counts as ready (`serving/live/health.py`).
        require_declaration: whether folders of calls and registers without a declaration are refused
            (`serving/custody/purposes.py`).
        confidence: for some rules, the share of nuisance calls among the calls that meet the rule.

    >>> Policy("mine", {"certified": "block"}).of_band("certified")
    'label'
    >>> Policy("mine", {"certified": "block"}, appeal="https://example.org/appeal").of_band("certified")
    'block'
    """

    version: str
    bands: Mapping[str, str]
    rules: Mapping[str, str] = field(default_factory=dict)
    appeal: str = ""
    accepted: str = "block"
    known_caller: str = "block"
    terms: Terms = field(default_factory=Terms)
    history_days: int = COVERAGE_DAYS
    filling_is_ready: bool = False
    require_declaration: bool = False
    confidence: Mapping[str, float] = field(default_factory=dict)
    feed: str = ""
    repeated_caller: str = "label"

    def of_band(self, name: str) -> str:
        """Returns the action of a band; "pass" if the file does not name it."""
        return self._limit_block(self.bands.get(name, "pass"))

    def of_rule(self, name: str) -> str:
        """Returns the action of a rule; at most "label" for a rule that rests on a prediction."""
        action = self._limit_block(self.rules.get(name, "pass"))
        return _at_most("label", action) if RULE_BY_NAME[name].kind == PREDICTED else action

    def _limit_block(self, action: str) -> str:
        return "label" if action == "block" and not self.appeal else action


def policy_path(path: str | Path) -> Path:
    """Returns the path of a policy file, or of the shipped policy of that name; a file of the name comes first.

    >>> policy_path("plan-2018").name, policy_path("own.toml").name
    ('plan-2018.toml', 'own.toml')
    """
    own = Path(path)
    return own if str(path) not in PROFILES or own.exists() else Path(__file__).with_name(PROFILES[str(path)])


def read_policy(path: str | Path | None = None) -> Policy:
    """Reads a policy file, or a shipped policy by its name in PROFILES; the default if no path is given.

    Raises:
        ValueError: in one line, if the file is not a valid policy.

    >>> read_policy().of_band("certified")
    'label'
    """
    from .policy_file import policy_fields  # with msgspec, which takes time to import

    return Policy(**policy_fields(policy_path(path or "default"), str(path or "the shipped policy")))


def pin_feed(policy: Policy, feed: str) -> Policy:
    """Returns the policy with the feed of the records set; the policy itself if `feed` is "".

    >>> pin_feed(Policy("mine", {}), "no routes").feed
    'no routes'
    """
    if not feed:
        return policy
    if feed not in FEEDS:
        raise ValueError(
            f"feed: expected 'complete', or one or more of {', '.join(LACKS)}, in this order, got {feed!r}"
        )
    from dataclasses import replace  # slow to import, and rarely needed

    return replace(policy, feed=feed)


def band_action(policy: Policy, bands: Sequence[Band], raw: float, stratum: str) -> tuple[str, str]:
    """Returns the strongest action that the reached bands allow, and the name of the highest reached band.

    `raw`: raw score in log-odds.

    >>> band_action(Policy("1", {}), (), 3.0, "mobile")
    ('pass', '')
    """
    reached = [band for band in bands if raw >= band.threshold_for(stratum)]
    if not reached:
        return "pass", ""
    actions = [certified_action(policy.of_band(band.name), band, stratum) for band in reached]
    return _strongest(actions), reached[0].name


def certified_action(action: str, band: Band, stratum: str) -> str:
    """Returns the action of a band, or the weaker action that the band's certificates allow for the stratum."""
    if stratum in PROTECTED:
        return "pass"
    certificate = band.strata.get(stratum)
    certified = band.certificate.certified and certificate is not None and certificate.certified
    return _at_most("label", action) if not certified else action


def final_action(policy: Policy, by_band: str, rules: Collection[str]) -> str:
    """Returns the final action: the stronger action of the bands and of the rules that the call meets.

    >>> final_action(Policy("1", {}, {"ring_once": "screen"}), "label", {"ring_once"})
    'screen'
    """
    if not rules:
        return by_band
    if "protected_caller" in rules:
        # A protected number may be forged: the network's facts may label the call, and nothing may block it.
        network = [policy.of_rule(name) for name in rules if RULE_BY_NAME[name].kind == NETWORK]
        return _at_most("label", _strongest(["pass", *network]))
    if "accepted_category" in rules:
        by_band = _at_most(policy.accepted, by_band)
    scored, facts = [by_band], ["pass"]
    for name in rules:
        (scored if RULE_BY_NAME[name].kind in (BEHAVIOUR, PREDICTED) else facts).append(policy.of_rule(name))
    by_score = _strongest(scored)
    if not KNOWN.isdisjoint(rules):
        by_score = _at_most(policy.known_caller, by_score)
    if "repeated_caller" in rules:
        by_score = _at_most(policy.repeated_caller, by_score)
    if "trusted_caller" in rules:
        by_score = "pass"
    action = _strongest([by_score, *facts])
    return _at_most("label", action) if "protected_callee" in rules else action


def action_confidence(policy: Policy, action: str, by_band: str, score: float, rules: Collection[str]) -> float:
    """Returns the probability that the call is a nuisance call, by the evidence that leads to the action.

    The evidence is the model if the bands alone lead to the action, and otherwise the rules that do. Of several rules
    the highest confidence counts.

    Returns: a share above 0 and at most 1. NaN for "pass", and for rules without a confidence in the policy file.

    >>> policy = Policy("1", {}, {"ring_once": "screen"}, confidence={"ring_once": 0.8})
    >>> action_confidence(policy, "screen", "label", 0.99, {"ring_once"})
    0.8
    >>> action_confidence(policy, "label", "label", 0.99, set())
    0.99
    """
    if action == "pass":
        return math.nan
    guards = [name for name in rules if RULE_BY_NAME[name].kind == GUARD]
    if final_action(policy, by_band, guards) == action:
        return score
    known = [name for name in rules if name in policy.confidence]
    leading = [name for name in known if final_action(policy, "pass", [*guards, name]) == action]
    return max((policy.confidence[name] for name in leading), default=math.nan)


def _strongest(actions: Sequence[str]) -> str:
    return max(actions, key=ACTIONS.index)


def _at_most(limit: str, action: str) -> str:
    return min(limit, action, key=ACTIONS.index)
