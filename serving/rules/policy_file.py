"""The policy file: its keys, and the values that each may have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from callsieve.features.files.decode import toml_as
from callsieve.features.online.feeds import FEEDS
from callsieve.features.records import NUMBER_CLASSES

from .register_lookup import Terms
from .rules import ACTION_RULES, PREDICTED, RULE_BY_NAME, Action

_Rule = Literal[ACTION_RULES]  # type: ignore[valid-type]
_Classes = tuple[Literal[NUMBER_CLASSES], ...]  # type: ignore[valid-type]
_Feed = Literal[("", *FEEDS)]  # type: ignore[valid-type]
Share = Annotated[float, Meta(gt=0, le=1)]
Calls = Annotated[float, Meta(gt=0, le=1e6)]


MAX_HISTORY_DAYS = 28  # the longest window of a feature


class TermsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `terms`; a missing key leaves the default of `Terms`."""

    ring_once_share: Share | UnsetType = UNSET
    ring_once_calls: Calls | UnsetType = UNSET
    bombing_calls: Calls | UnsetType = UNSET
    many_callers: Calls | UnsetType = UNSET
    repeat_calls: Calls | UnsetType = UNSET
    known_talk_days: Annotated[float, Meta(gt=0, le=6)] | UnsetType = UNSET
    content_share: Share | UnsetType = UNSET
    marketing: tuple[Annotated[str, Meta(min_length=1)], ...] | UnsetType = UNSET
    must_register: _Classes | UnsetType = UNSET
    uses: Mapping[str, _Classes] | UnsetType = UNSET


class PolicyFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy file; a missing key leaves the default of `Policy`."""

    version: str
    bands: Mapping[str, Action]
    rules: Mapping[_Rule, Action] | UnsetType = UNSET
    confidence: Mapping[_Rule, Share] | UnsetType = UNSET
    terms: TermsFile | UnsetType = UNSET
    appeal: str | UnsetType = UNSET
    accepted: Action | UnsetType = UNSET
    known_caller: Action | UnsetType = UNSET
    repeated_caller: Action | UnsetType = UNSET
    history_days: Annotated[int, Meta(ge=0, le=MAX_HISTORY_DAYS)] | UnsetType = UNSET
    feed: _Feed | UnsetType = UNSET
    filling_is_ready: bool | UnsetType = UNSET
    require_declaration: bool | UnsetType = UNSET


def policy_fields(path: Path, name: str) -> dict[str, Any]:
    """Returns the values in a policy file as arguments of `Policy`; `name` is the file's name in messages."""
    fields = _values_in_file(toml_as(PolicyFile, path, name))
    for rule, action in fields.get("rules", {}).items():
        if RULE_BY_NAME[rule].kind == PREDICTED and action not in ("pass", "label"):
            raise ValueError(f"{name}: rule {rule} rests on a prediction: expected pass or label, got {action!r}")
    if "terms" in fields:
        fields["terms"] = Terms(**_values_in_file(fields["terms"]))
    return fields | {"appeal": fields.get("appeal", "").strip()}


def _values_in_file(struct: Struct) -> dict[str, Any]:
    values = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: value for name, value in values.items() if value is not UNSET}
