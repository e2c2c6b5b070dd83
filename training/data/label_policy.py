"""The versioned label policy: a TOML file, each of whose values is a field here. `labels.toml` explains each value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from callsieve.features.files.decode import Record, as_kind, toml_as

Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class Findings(Record, frozen=True):
    """The confidence of a label from a finding."""

    confidence: Share


class Listed(Record, frozen=True):
    """Label and confidence that an entry on a list gives a number."""

    nuisance: bool
    confidence: Share


class ComplaintRules(Record, frozen=True):
    """How much a complaint weighs, and what weight makes a label."""

    against: tuple[str, ...]
    complaint: Amount
    prior_right: Amount
    prior_wrong: Amount
    behind_days: Amount
    unfounded: Amount
    untold: Amount
    half_life_days: Positive
    alike_numbers: Amount
    alike_share: Amount
    burst_hours: Positive
    burst_share: Amount
    burst_voices: Amount
    minimum_weight: Amount
    minimum_share: Annotated[float, Meta(gt=0.5, le=1)]
    minimum_rate: Amount
    doubt: Amount

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prior_right + self.prior_wrong:
            raise ValueError("prior_right + prior_wrong: expected more than 0")


class Unreported(Record, frozen=True):
    """How numbers without a complaint and a finding are labelled."""

    confidence: Share
    most_calls_in_a_day: int
    look_alike: Share


class LabelPolicy(Record, frozen=True):
    """The rules of `labels.toml`."""

    version: str
    effective: date
    findings: Findings
    lists: dict[str, Listed]
    complaints: ComplaintRules
    unreported: Unreported

    def to_json(self) -> dict[str, Any]:
        """Returns the policy as plain JSON values, in the form of its file."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain


def read_label_policy(path: Path | None = None) -> LabelPolicy:
    """Reads a label policy; the shipped one without a path."""
    return toml_as(LabelPolicy, path or files(__package__).joinpath("labels.toml"), path or "labels.toml")


def policy_of(table: Mapping[str, Any]) -> LabelPolicy:
    """Returns a policy from the result of `LabelPolicy.to_json`. Raises ValueError if a value is not as it must be."""
    return as_kind(table, LabelPolicy, "label policy")
