"""The versioned label policy: a TOML file, each of whose values is a field here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

from callsieve.features.files.toml_file import read_toml


@dataclass(frozen=True, slots=True)
class Listed:
    """Label and confidence that an entry on a list gives a number."""

    nuisance: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class ComplaintRules:
    """How much a complaint weighs, and what weight makes a label; `labels.toml` explains each value."""

    against: tuple[str, ...]
    complaint: float
    prior_right: float
    prior_wrong: float
    behind_days: float
    unfounded: float
    untold: float
    half_life_days: float
    alike_numbers: int
    alike_share: float
    burst_hours: float
    burst_share: float
    burst_voices: float
    minimum_weight: float
    minimum_share: float
    minimum_rate: float
    doubt: float


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """The rules of `labels.toml`."""

    version: str
    effective: date
    finding_confidence: float
    lists: Mapping[str, Listed]
    complaints: ComplaintRules
    unreported_confidence: float
    unreported_most_calls: int
    unreported_look_alike: float

    def to_json(self) -> dict[str, Any]:
        """Returns the policy as plain JSON values, in the form of its file."""
        return {
            "version": self.version,
            "effective": self.effective.isoformat(),
            "findings": {"confidence": self.finding_confidence},
            "lists": {name: asdict(listed) for name, listed in self.lists.items()},
            "complaints": asdict(self.complaints) | {"against": list(self.complaints.against)},
            "unreported": {
                "confidence": self.unreported_confidence,
                "most_calls_in_a_day": self.unreported_most_calls,
                "look_alike": self.unreported_look_alike,
            },
        }


def read_label_policy(path: Path | None = None) -> LabelPolicy:
    """Reads a label policy; the shipped one without a path.

    Raises:
        ValueError: in one line, if the file is not a label policy.
    """
    where = path or "labels.toml"
    table = read_toml(path or files(__package__).joinpath("labels.toml"), where)
    try:
        return policy_of(table)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected a label policy like the shipped labels.toml, {error!r}") from error


def policy_of(table: Mapping[str, Any]) -> LabelPolicy:
    """Builds a policy from parsed TOML or from the result of `LabelPolicy.to_json`.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: if a value is missing, unknown, of another type or out of
            its range.
    """
    rules = dict(table["complaints"])
    words = tuple(str(word) for word in rules.pop("against"))
    policy = LabelPolicy(
        version=str(table["version"]),
        effective=date.fromisoformat(str(table["effective"])),
        finding_confidence=float(table["findings"]["confidence"]),
        lists={name: _listed(name, of) for name, of in table["lists"].items()},
        complaints=ComplaintRules(words, **{name: float(value) for name, value in rules.items()}),  # type: ignore[arg-type]
        unreported_confidence=float(table["unreported"]["confidence"]),
        unreported_most_calls=int(table["unreported"]["most_calls_in_a_day"]),
        unreported_look_alike=float(table["unreported"]["look_alike"]),
    )
    _check(policy)
    return policy


def _listed(name: str, table: Mapping[str, Any]) -> Listed:
    if not isinstance(table["nuisance"], bool):  # any text would count as true
        raise TypeError(f"lists.{name}.nuisance: expected true or false")
    return Listed(table["nuisance"], float(table["confidence"]))


def _check(policy: LabelPolicy) -> None:
    rules = policy.complaints
    negative = [name for name, value in asdict(rules).items() if name != "against" and not value >= 0]
    if negative:
        raise ValueError(f"complaints.{negative[0]}: expected 0 or more")
    if not 0.5 < rules.minimum_share <= 1:
        raise ValueError("complaints.minimum_share: expected more than 0.5, at most 1")
    if not (rules.half_life_days and rules.burst_hours and rules.prior_right + rules.prior_wrong):
        raise ValueError("complaints: half_life_days, burst_hours and prior_right + prior_wrong: expected more than 0")
    confidences = [
        policy.finding_confidence,
        policy.unreported_confidence,
        policy.unreported_look_alike,
        *(of.confidence for of in policy.lists.values()),
    ]
    if not all(0 <= value <= 1 for value in confidences):
        raise ValueError("confidence: expected 0 to 1")
