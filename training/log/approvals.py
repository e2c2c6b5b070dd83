"""Approvals: signed statements that a run's model may become the champion, by approvers whom the gates name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.atomic import write_new
from callsieve.features.files.strict_json import as_fields, as_mapping, as_text, decode, encode
from callsieve.serving.bundle.signing import key_id, sign, verify_signature

KIND = "callsieve approval"


def statement(run: Mapping[str, Any], gates_sha256: str, moves: int) -> dict[str, Any]:
    """Returns the statement that approves a model, judged by these gates, as the next champion.

    Args:
        run: payload of the run's entry in the audit log.
        gates_sha256: hash of the gates file.
        moves: promotions and rollbacks so far. It makes an approval valid for one promotion only.
    """
    return {
        "kind": KIND,
        "run": run["run"],
        "model": run["model"],
        "manifest_sha256": run["manifest_sha256"],
        "gates_sha256": gates_sha256,
        "move": moves,
    }


def approve(statement: Mapping[str, Any], key: Ed25519PrivateKey, path: Path) -> str:
    """Signs a statement into a new file; returns the id of the key.

    Raises:
        FileExistsError: if the file exists.
    """
    dated = {**statement, "at": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    line = sign(encode(dated), key).decode().strip()
    write_new(path, encode({"statement": dated, "signature": line}))
    return key_id(key.public_key())


def check(
    paths: Sequence[Path],
    expected: Mapping[str, Any],
    approvers: Mapping[str, Ed25519PublicKey],
    needed: int,
    signer: str,
) -> list[dict[str, Any]]:
    """Returns the approvals of these files, if enough different keys signed them.

    Args:
        expected: fields that each statement must have, with their values.
        approvers: public keys by name.
        needed: minimum of approvals.
        signer: id of the key that signed the bundle; it cannot approve its own work.
    Returns:
        For the log: each `statement` with its `signature`, the id of its `key`, and the approver's name as `by`.
    Raises:
        ValueError: in one line with the file and the broken rule.
    """
    approvals: dict[str, dict[str, Any]] = {}
    for path in paths:
        try:
            approval = _read(path.read_bytes(), expected, approvers)
            if approval["key"] in approvals:
                raise ValueError(f"key {approval['key']} approved already")
            if approval["key"] == signer:
                raise ValueError(f"key {signer} signed the bundle, and cannot approve it")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        approvals[approval["key"]] = approval
    if len(approvals) < needed:
        raise ValueError(f"approvals: expected {needed} by different keys that the gates name, got {len(approvals)}")
    return list(approvals.values())


def _read(data: bytes, expected: Mapping[str, Any], approvers: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    value = as_fields(decode(data), "approval", ("statement", "signature"))
    signed, line = as_mapping(value["statement"], "statement"), as_text(value["signature"], "signature")
    key = verify_signature(encode(signed), line.encode() + b"\n", list(approvers.values()))
    for name, expected_value in expected.items():
        if signed.get(name) != expected_value:
            raise ValueError(f"statement: {name} must be {expected_value!r}, got {str(signed.get(name))[:80]!r}")
    by = next(name for name, public in approvers.items() if key_id(public) == key)
    return {"statement": signed, "signature": line, "key": key, "by": by}
