"""From rules and certified bands to an action, by one reviewed file.

The model's score is what it is; a rule adds a fact beside it, and the stronger of what the file allows for the two is
done. Calls to and from protected numbers are never blocked, whatever rules, bands and file say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from callsieve.features.dataclass import dataclass, field
from callsieve.features.files.toml_file import read_toml
from callsieve.features.online.coverage import COVERAGE_DAYS
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.bundle.metadata import Band

from .register_lookup import Terms
from .rules import ACTION_RULES, NETWORK, PREDICTED, PROTECTED, RULE_BY_NAME

ACTIONS = ("pass", "label", "screen", "block")
MAX_HISTORY_DAYS = 28  # what the longest memory of a feature asks for
_TABLES = ("bands", "rules", "terms")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file: the action of each band and of each rule, and what rules go by.

    `appeal` says where a caller whose call was blocked turns to; without it nothing is blocked. `accepted` is the
    strongest action that bands lead to where the called person accepts calls of the caller's registered business.
    `history_days` is how many days of history the model needs before it scores (`features/online/coverage.py`).

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
    terms: Terms = field(default_factory=Terms)
    history_days: int = COVERAGE_DAYS

    def of_band(self, name: str) -> str:
        """The action of a band."""
        return self._possible(self.bands.get(name, "pass"))

    def of_rule(self, name: str) -> str:
        """The action of a rule; at most a label where it rests on a guess."""
        action = self._possible(self.rules.get(name, "pass"))
        return _at_most("label", action) if RULE_BY_NAME[name].kind == PREDICTED else action

    def _possible(self, action: str) -> str:
        return "label" if action == "block" and not self.appeal else action


def read_policy(path: str | Path | None = None) -> Policy:
    """Read a policy file; the one that comes with the package if no path is given.

    Raises:
        ValueError: in one line, if the file is not a policy.

    >>> read_policy().of_band("certified")
    'label'
    """
    name = str(path or "the shipped policy")
    table = read_toml(Path(path or Path(__file__).with_name("policy.toml")), name)
    bands = table.get("bands")
    known = {"version", "appeal", "accepted", "history_days", *_TABLES}
    if not table.keys() <= known or not isinstance(table.get("version"), str) or not isinstance(bands, dict):
        raise ValueError(f"{name}: expected a text `version` and a table `bands`, got {', '.join(sorted(table))}")
    for table_name in ("rules", "terms"):
        if not isinstance(table.get(table_name, {}), dict):
            raise ValueError(f"{name}: {table_name}: expected a table")
    rules, appeal = table.get("rules", {}), table.get("appeal", "")
    for kind, actions in (("band", bands), ("rule", rules), ("", {"accepted": table.get("accepted", "block")})):
        for each, action in actions.items():
            if action not in ACTIONS:
                raise ValueError(f"{name}: {kind} {each}: expected one of {', '.join(ACTIONS)}, got {action!r}")
    unknown = sorted(rules.keys() - set(ACTION_RULES))
    if unknown:
        raise ValueError(f"{name}: rule {unknown[0]}: not known, expected one of {', '.join(ACTION_RULES)}")
    for each in sorted(rules):
        if RULE_BY_NAME[each].kind == PREDICTED and rules[each] not in ("pass", "label"):
            raise ValueError(f"{name}: rule {each} rests on a guess: expected pass or label, got {rules[each]!r}")
    if not isinstance(appeal, str):
        raise ValueError(f"{name}: appeal: expected a text that says where one appeals, got {appeal!r}")
    days = table.get("history_days", COVERAGE_DAYS)
    if type(days) is not int or not 0 <= days <= MAX_HISTORY_DAYS:
        raise ValueError(f"{name}: history_days: expected a whole number from 0 to {MAX_HISTORY_DAYS}, got {days!r}")
    try:
        terms = _terms(table.get("terms", {}))
    except ValueError as error:
        raise ValueError(f"{name}: terms: {error}") from None
    return Policy(table["version"], bands, rules, appeal.strip(), table.get("accepted", "block"), terms, days)


def band_action(policy: Policy, bands: Sequence[Band], raw: float, stratum: str) -> tuple[str, str]:
    """The strongest action that the reached bands allow, and the highest of them. `stratum`: as `strata.stratum_of`.

    >>> decide(Policy("1", {}), (), 3.0, "mobile")
    ('pass', '')
    """
    reached = [band for band in bands if raw >= band.threshold_for(stratum)]
    if not reached:
        return "pass", ""
    actions = [certified_action(policy.of_band(band.name), band, stratum) for band in reached]
    return max(actions, key=ACTIONS.index), reached[0].name


def certified_action(action: str, band: Band, stratum: str) -> str:
    """The action, or the gentler one that the band's certificates allow."""
    if stratum in PROTECTED:
        return "pass"
    own = band.strata.get(stratum)
    if action in ("screen", "block") and not (band.certificate.certified and own is not None and own.certified):
        return "label"
    return action


def final_action(policy: Policy, banded: str, hits: Collection[str]) -> str:
    """What is done with a call: the stronger of what its bands and its rules lead to.

    Args:
        banded: the action that `band_action` gives.
        hits: names of the rules that the call meets.

    >>> outcome(Policy("1", {}, {"ring_once": "screen"}), "label", {"ring_once"})
    'screen'
    """
    if not hits:
        return banded
    if "protected_caller" in hits:
        # Whoever shows the number of the police need not be the police: say so, but never block.
        seen = [policy.of_rule(name) for name in hits if RULE_BY_NAME[name].kind == NETWORK]
        return _at_most("label", _strongest(["pass", *seen]))
    if "accepted_category" in hits:
        banded = _at_most(policy.accepted, banded)
    done = _strongest([banded, *(policy.of_rule(name) for name in hits)])
    return _at_most("label", done) if "protected_callee" in hits else done


def _strongest(actions: Sequence[str]) -> str:
    return max(actions, key=ACTIONS.index)


def _at_most(limit: str, action: str) -> str:
    return min(limit, action, key=ACTIONS.index)


def _terms(table: Mapping[str, Any]) -> Terms:
    unknown = sorted(table.keys() - _TERMS.keys())
    if unknown:
        raise ValueError(f"{unknown[0]} is not known, expected {', '.join(_TERMS)}")
    return Terms(**{name: _TERMS[name](value, name) for name, value in table.items()})


def _number(most: float) -> Callable[[Any, str], float]:
    def read(value: Any, name: str) -> float:
        if type(value) not in (int, float) or not 0 < value <= most:
            raise ValueError(f"{name}: expected a number above 0 and at most {most:g}, got {value!r}")
        return float(value)

    return read


def _words(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise ValueError(f"{name}: expected a list of texts, got {value!r}")
    return tuple(value)


def _classes(value: Any, name: str) -> tuple[str, ...]:
    odd = [word for word in _words(value, name) if word not in NUMBER_CLASSES]
    if odd:
        raise ValueError(f"{name}: {odd[0]!r} is no class of numbers, expected {', '.join(NUMBER_CLASSES)}")
    return tuple(value)


def _uses(value: Any, name: str) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a table of declared uses, got {value!r}")
    return {use: _classes(classes, f"{name}.{use}") for use, classes in value.items()}


_TERMS: dict[str, Callable[[Any, str], Any]] = {
    "ring_once_share": _number(1.0),
    "ring_once_calls": _number(1e6),
    "bombing_calls": _number(1e6),
    "content_share": _number(1.0),
    "marketing": _words,
    "must_register": _classes,
    "uses": _uses,
}
