"""Gates: bounds on metrics that a model must meet before promotion, from a file whose hash is logged before the run.

The file is also the roster of approvers: persons with their keys. Its owner signs it, with a key that is not the key of
the training. Without an owner's signature no model can be promoted.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.decode import Record, as_kind
from callsieve.features.files.toml_file import parse_toml
from callsieve.serving.bundle.signing import key_id, sign, verify_signature
from callsieve.training.language import gettext

from .payload_types import Bounds, GateEntry, GateResult, GatesPayload

KEY_BYTES = 32
SIGNATURE = ".sig"  # end of the name of the owner's signature, beside the gates file
_SCRIPTS = ("LATIN", "CJK", "DIGIT")


class Gate(Record, frozen=True):
    """A bound on one metric, with the meaning of the metric in plain words."""

    metric: str
    means: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at_most is None and self.at_least is None:
            raise ValueError("expected at_most or at_least")

    def result(self, metrics: Mapping[str, float]) -> GateResult:
        """Returns the gate, the value of its metric, and whether it passed. A missing metric does not pass."""
        value = metrics.get(self.metric)
        passed = (
            value is not None
            and (self.at_most is None or value <= self.at_most)
            and (self.at_least is None or value >= self.at_least)
        )
        bounds: Bounds = {}
        if self.at_most is not None:
            bounds["at_most"] = self.at_most
        if self.at_least is not None:
            bounds["at_least"] = self.at_least
        return {
            "metric": self.metric,
            "means": self.means,
            **bounds,
            "value": value,
            "floor": metrics.get(f"{self.metric}_floor"),
            "passed": passed,
        }


@dataclass(frozen=True, slots=True)
class Gates:
    """The content of a gates file, and its bytes.

    Attributes:
        approvers: keys of each person who may approve, by name.
        owner: name and key of the owner, whose `signature` was checked; None for a file without an owner.
    """

    data: bytes
    version: str
    gates: tuple[Gate, ...]
    certified_slices: tuple[str, ...]
    margin: float
    confidence: float
    rounds: int
    least_callers: int
    approvals_needed: int
    approvers: Mapping[str, Sequence[Ed25519PublicKey]]
    owner: tuple[str, Ed25519PublicKey] | None
    signature: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def owner_key(self) -> str:
        """Id of the owner's key; "" without an owner."""
        return key_id(self.owner[1]) if self.owner else ""

    def require_owned(self, signers: Collection[str]) -> None:
        """Raises a ValueError unless the gates have an owner, whose key is none of these key ids."""
        if self.owner is None:
            raise ValueError(
                gettext(
                    "gates: expected the signature of an owner (callsieve model sign-gates), and the file as --gates"
                )
            )
        if self.owner_key in signers:
            key = self.owner_key
            raise ValueError(
                gettext("gates: key %(key)s signed the model or its log, and cannot own its gates", key=key)
            )

    def person(self, key: str) -> str:
        """Returns the name of the approver with a key of this id; "" if there is none."""
        names = (name for name, keys in self.approvers.items() for public in keys if key_id(public) == key)
        return next(names, "")

    def to_json(self) -> GatesPayload:
        """Returns the payload of their entry in the audit log."""
        return {"sha256": self.sha256, "text": self.data.decode(), "signature": self.signature}

    def results(self, metrics: Mapping[str, float]) -> list[GateResult]:
        """Returns the result of every gate; each slice that must be certified counts as a gate on its metric."""
        slices = [
            Gate(
                f"slice/benign/{name}/certified",
                f"whether calls of {name} are certified as a separate slice",
                at_least=1.0,
            )
            for name in self.certified_slices
        ]
        return [gate.result(metrics) for gate in (*self.gates, *slices)]


class _Slices(Record, frozen=True):
    certified: Annotated[tuple[str, ...], Meta(max_length=1000)]


class _Challenger(Record, frozen=True):
    margin: Annotated[float, Meta(ge=0, le=1)]
    confidence: Annotated[float, Meta(ge=0.5, le=0.9999)]
    rounds: Annotated[int, Meta(ge=100, le=1_000_000)]
    callers: Annotated[int, Meta(ge=1, le=2**53)]


class _Approvals(Record, frozen=True):
    needed: Annotated[int, Meta(ge=1, le=100)]
    keys: dict[str, Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)] | str]


class _Owner(Record, frozen=True):
    name: str
    key: str


class _File(Record, frozen=True):
    """The tables of a gates file."""

    version: str
    effective: date
    gate: Annotated[tuple[Gate, ...], Meta(min_length=1, max_length=1000)]
    slices: _Slices
    challenger: _Challenger
    approvals: _Approvals
    owner: _Owner | None = None


def shipped_gates() -> Gates:
    """Returns the gates that the package ships."""
    return parse_gates((files(__package__) / "gates.toml").read_bytes(), "gates.toml")


def read_gates(path: Path | None) -> Gates:
    """Reads a gates file with its owner's signature; the shipped one by default."""
    if path is None:
        return shipped_gates()
    signature = path.with_name(path.name + SIGNATURE)
    return parse_gates(path.read_bytes(), str(path), signature.read_text().strip() if signature.exists() else "")


def sign_gates(path: Path, key: Ed25519PrivateKey) -> Path:
    """Signs a gates file as its owner; returns the path of the signature, which is replaced if it exists."""
    data, signature = path.read_bytes(), path.with_name(path.name + SIGNATURE)
    line = sign(data, key)
    if parse_gates(data, str(path), line.decode().strip()).owner is None:
        raise ValueError(f"{path}: expected a table [owner] with a name and a key")
    write_atomic(signature, line)
    return signature


def logged_gates(entries: Mapping[int, GatesPayload], reference: GateEntry, before: int) -> Gates:
    """Returns the gates of a run from the audit log."""
    payload = entries.get(reference["entry"])
    if payload is None or reference["entry"] >= before:
        what = gettext(
            "gates: expected entry %(index)s of the log, before the run's own entry", index=reference["entry"]
        )
        raise ValueError(what)
    gates = parse_gates(payload["text"].encode(), "gates", payload.get("signature", ""))
    if gates.sha256 != reference["sha256"]:
        what = gettext("gates: expected SHA-256 %(hash)s, got %(other)s", hash=reference["sha256"], other=gates.sha256)
        raise ValueError(what)
    return gates


def parse_gates(data: bytes, where: str, signature: str = "") -> Gates:
    """Parses a gates file."""
    file = as_kind(parse_toml(data, where), _File, where)
    try:
        return Gates(
            data=data,
            version=file.version,
            gates=file.gate,
            certified_slices=file.slices.certified,
            margin=file.challenger.margin,
            confidence=file.challenger.confidence,
            rounds=file.challenger.rounds,
            least_callers=file.challenger.callers,
            approvals_needed=file.approvals.needed,
            approvers=_persons(file.approvals.keys),
            owner=_owner(file.owner, data, signature) if file.owner else None,
            signature=signature if file.owner else "",
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def in_words(gate: GateResult) -> str:
    """Returns a gate with its value in one line."""
    return f"{gate['metric']} {condition(gate)}"


def condition(gate: GateResult) -> str:
    """Returns the condition of a gate and its value."""
    limits = (("at most", gate.get("at_most")), ("at least", gate.get("at_least")))
    bounds = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
    value, floor = gate["value"], gate["floor"]
    got = f"{value:g}" if value is not None else "not measured" if floor is None else f"over {floor:g}"
    return f"must be {bounds}, got {got}"


def _persons(table: Mapping[str, str | tuple[str, ...]]) -> dict[str, tuple[Ed25519PublicKey, ...]]:
    persons = {}
    for name, words in table.items():
        _require_plain(name)
        hexes = words if isinstance(words, tuple) else (words,)
        persons[name] = tuple(_key(word, "approvals: a key") for word in hexes)
    keys = [key.public_bytes_raw() for person in persons.values() for key in person]
    if len(set(keys)) < len(keys):
        raise ValueError("approvals: keys must differ")
    if len({_folded(name) for name in persons}) < len(persons):
        raise ValueError("approvals: names must differ by more than case and accents")
    return persons


def _require_plain(name: str) -> None:
    odd = [c for c in name if c.isalnum() and not unicodedata.name(c, "").startswith(_SCRIPTS)]
    if odd:
        raise ValueError(
            f"approvals: name {name!r}: expected Latin or Chinese letters, got {unicodedata.name(odd[0], '?')}"
        )


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in plain if c.isalnum())


def _owner(owner: _Owner, data: bytes, signature: str) -> tuple[str, Ed25519PublicKey]:
    name, key = owner.name, _key(owner.key, "owner: key")
    if not signature:
        raise ValueError(f"expected the signature of the owner, {name}, beside it; see callsieve model sign-gates")
    try:
        verify_signature(data, signature.encode() + b"\n", [key])
    except ValueError as error:
        raise ValueError(f"expected the signature of the owner, {name}: {error}") from None
    return name, key


def _key(text: str, where: str) -> Ed25519PublicKey:
    if len(text) != 2 * KEY_BYTES or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{where} must be {2 * KEY_BYTES} hex digits, got {text[:80]!r}")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
