"""Payloads of the entries on which a judgement rests: gates, looks, runs, promotions and rollbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

Payload = Mapping[str, Any]
Section = Mapping[str, Any]
"""The values of a run or a model version in MLflow, by name."""


class GatesPayload(TypedDict):
    """Gates: the text of their file, its SHA-256, and the signature of its owner, "" without an owner."""

    sha256: str
    text: str
    signature: str


class TouchPayload(TypedDict):
    """A look: the text of its fold, SHA-256 of the gates, and the command; promotions leave the command out.

    A round of an adaptation has its `round`, as `rounds.Round` declares it, and in `follows` the digest of the round
    before it, "" for the first.
    """

    fold: str
    gates: str
    by: NotRequired[str]
    round: NotRequired[Mapping[str, Any]]
    follows: NotRequired[str]


class Look(TypedDict):
    """A look at a fold, and the number of looks at its calls, this one included; both None if it was not counted.

    `registered` is whether the looks of all audit logs are counted, by the registry beside the calls.
    """

    fold: str | None
    touches: int | None
    registered: bool


class GateEntry(Look):
    """The gates of a run, logged before it as `entry`, the look at its test fold, and the metrics that fail a gate."""

    sha256: str
    entry: int
    refused: list[str]
    owner: str


class RunPayload(TypedDict):
    """A run: its id and model in MLflow, with all that MLflow shows of both; `version` is "" without a bundle."""

    run: str
    version: str
    registered: Section
    model: str
    manifest_sha256: str
    signer: str
    gates: GateEntry
    record: Mapping[str, Section]


Statement = Mapping[str, str | int]


class Approval(TypedDict):
    """A signed statement, as the audit log has it: with the id of the key and the approver's name."""

    statement: Statement
    signature: str
    key: str
    by: str


class Bounds(TypedDict, total=False):
    """The bounds of a gate; it has at least one."""

    at_most: float
    at_least: float


class GateResult(Bounds):
    """A gate with the value of its metric. Where a quantile is not reached, `floor` is its lower bound."""

    metric: str
    means: str
    value: float | None
    floor: float | None
    passed: bool


Move = TypedDict(
    "Move",
    {
        "run": str,
        "version": str,
        "model": str,
        "from": str | None,
        "gates": list[GateResult],
        "gates_sha256": str,
        "comparison": Section | None,
        "approvals": list[Approval],
        "why": str,
        "entry": int,
    },
    total=False,
)
"""A promotion or a rollback: the new champion, the version before it, and what allowed the move.

`entry` is the index of its entry, in results only.
"""
