"""Gates: bounds on metrics that a model must meet before promotion, from a file whose hash is logged before the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.strict_json import as_fields, as_integer, as_list, as_mapping, as_number, as_text
from callsieve.features.files.toml_file import parse_toml

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on one metric, with the meaning of the metric in plain words."""

    metric: str
    means: str
    at_most: float | None
    at_least: float | None

    def results(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Returns the gate, the value of its metric, and whether it passed. A missing metric does not pass.

        Where a quantile is not reached, `floor` is its proven lower bound.
        """
        value = metrics.get(self.metric)
        passed = (
            value is not None
            and (self.at_most is None or value <= self.at_most)
            and (self.at_least is None or value >= self.at_least)
        )
        bounds = {"at_most": self.at_most, "at_least": self.at_least}
        return {
            "metric": self.metric,
            "means": self.means,
            **{name: bound for name, bound in bounds.items() if bound is not None},
            "value": value,
            "floor": metrics.get(f"{self.metric}_floor"),
            "passed": passed,
        }


@dataclass(frozen=True, slots=True)
class Gates:
    """The content of a gates file, and its bytes."""

    data: bytes
    version: str
    gates: tuple[Gate, ...]
    certified_slices: tuple[str, ...]
    margin: float
    confidence: float
    rounds: int
    least_callers: int
    approvals_needed: int
    approvers: Mapping[str, Ed25519PublicKey]

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()

    def results(self, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
        """Returns the result of every gate; each slice that must be certified counts as a gate on its metric."""
        slices = [
            Gate(
                f"slice/benign/{name}/certified",
                f"whether calls of {name} are certified as a separate slice",
                None,
                1.0,
            )
            for name in self.certified_slices
        ]
        return [gate.results(metrics) for gate in (*self.gates, *slices)]


def shipped_gates() -> Gates:
    """Returns the gates that the package ships."""
    return parse_gates((files(__package__) / "gates.toml").read_bytes(), "gates.toml")


def read_gates(path: Path | None) -> Gates:
    """Reads a gates file; the shipped one by default."""
    return parse_gates(path.read_bytes(), str(path)) if path else shipped_gates()


def parse_gates(data: bytes, where: str) -> Gates:
    """Parses a gates file.

    Raises:
        ValueError: in one line with the field and the broken rule.
    """
    read = parse_toml(data, where)
    try:
        fields = as_fields(read, "gates", ("version", "effective", "gate", "slices", "challenger", "approvals"))
        slices = as_fields(fields["slices"], "slices", ("certified",))
        challenger = as_fields(fields["challenger"], "challenger", ("margin", "confidence", "rounds", "callers"))
        approvals = as_fields(fields["approvals"], "approvals", ("needed", "keys"))
        return Gates(
            data=data,
            version=as_text(fields["version"], "version"),
            gates=tuple(_gate(item) for item in as_list(fields["gate"], "gate", 1, 1000)),
            certified_slices=_words(slices["certified"], "slices: certified"),
            margin=as_number(challenger["margin"], "challenger: margin", 0, 1),
            confidence=as_number(challenger["confidence"], "challenger: confidence", 0.5, 0.9999),
            rounds=as_integer(challenger["rounds"], "challenger: rounds", 100, 1_000_000),
            least_callers=as_integer(challenger["callers"], "challenger: callers", 1),
            approvals_needed=as_integer(approvals["needed"], "approvals: needed", 1, 100),
            approvers=_keys(as_mapping(approvals["keys"], "approvals: keys")),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _gate(value: Any) -> Gate:
    item = as_mapping(value, "gate")
    bounds = [name for name in ("at_most", "at_least") if name in item]
    if not bounds:
        raise ValueError("gate: expected at_most or at_least")
    as_fields(item, "gate", ["metric", "means", *bounds])
    limits = {name: as_number(item[name], f"gate: {name}") for name in bounds}
    metric, means = as_text(item["metric"], "gate: metric"), as_text(item["means"], "gate: means")
    return Gate(metric, means, limits.get("at_most"), limits.get("at_least"))


def _words(value: Any, where: str) -> tuple[str, ...]:
    return tuple(as_text(word, where) for word in as_list(value, where, 0, 1000))


def _keys(table: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    words = {as_text(name, "approvals: name"): as_text(word, "approvals: key") for name, word in table.items()}
    if len(set(words.values())) < len(words):
        raise ValueError("approvals: keys must differ")
    for word in words.values():
        if len(word) != 2 * KEY_BYTES or set(word) - set("0123456789abcdef"):
            raise ValueError(f"approvals: a key must be {2 * KEY_BYTES} hex digits, got {word[:80]!r}")
    return {name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(word)) for name, word in words.items()}
