"""Approvals: a signed statement that one run's model may become the champion, by somebody whom the gates name."""

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
    """What is approved: this model, judged by these gates, as the next move of the champion.

    Args:
        run: the payload of the run's entry in the audit log.
        moves: promotions and rollbacks so far; an approval that was used is of no use again.
    """
    return {
        "kind": KIND,
        "run": run["run"],
        "model": run["model"],
        "manifest_sha256": run["manifest_sha256"],
        "gates_sha256": gates_sha256,
        "move": moves,
    }


def approve(said: Mapping[str, Any], key: Ed25519PrivateKey, path: Path) -> str:
    """Sign a statement into a new file; the id of the key.

    Raises:
        FileExistsError: if there is such a file.
    """
    dated = {**said, "at": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    line = sign(encode(dated), key).decode().strip()
    write_new(path, encode({"statement": dated, "signature": line}))
    return key_id(key.public_key())


def check(
    paths: Sequence[Path], said: Mapping[str, Any], approvers: Mapping[str, Ed25519PublicKey], needed: int, signer: str
) -> list[dict[str, Any]]:
    """The approvals, if there are enough of them by different people's keys.

    Args:
        said: what each must say.
        approvers: by name.
        signer: id of the key that signed the bundle; it cannot approve its own work.
    Returns: each statement with its signature, the id of its key and whose it is, for the log.
    Raises:
        ValueError: in one line that names the file and the rule.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        try:
            approval = _read(path.read_bytes(), said, approvers)
            if approval["key"] in found:
                raise ValueError(f"key {approval['key']} approved already")
            if approval["key"] == signer:
                raise ValueError(f"key {signer} signed the bundle, and cannot approve it")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        found[approval["key"]] = approval
    if len(found) < needed:
        raise ValueError(f"approvals: expected {needed} by different keys that the gates name, got {len(found)}")
    return list(found.values())


def _read(data: bytes, said: Mapping[str, Any], approvers: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    value = as_fields(decode(data), "approval", ("statement", "signature"))
    told, line = as_mapping(value["statement"], "statement"), as_text(value["signature"], "signature")
    key = verify_signature(encode(told), line.encode() + b"\n", list(approvers.values()))
    for name, wanted in said.items():
        if told.get(name) != wanted:
            raise ValueError(f"statement: {name} must be {wanted!r}, got {str(told.get(name))[:80]!r}")
    by = next(name for name, public in approvers.items() if key_id(public) == key)
    return {"statement": told, "signature": line, "key": key, "by": by}
