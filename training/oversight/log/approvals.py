"""Approvals: signed statements that a run's model may become the champion, by approvers whom the gates name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from callsieve.features.files.atomic import write_new
from callsieve.features.files.dates import utc_text
from callsieve.features.files.decode import as_kind
from callsieve.features.files.strict_json import decode, encode
from callsieve.serving.bundle.signing import key_id, sign, verify_signature
from callsieve.training.language import gettext, phrase

from .gates import Gates
from .payload_types import Approval, RunPayload, Statement

KIND = "callsieve approval"


def statement(run: RunPayload, gates_sha256: str, moves: int) -> Statement:
    """Returns the statement that approves a model, judged by these gates, as the next champion."""
    return {
        "kind": KIND,
        "run": run["run"],
        "model": run["model"],
        "manifest_sha256": run["manifest_sha256"],
        "gates_sha256": gates_sha256,
        "move": moves,
    }


def approve(statement: Statement, key: Ed25519PrivateKey, path: Path) -> str:
    """Signs a statement into a new file; returns the id of the key."""
    dated = {**statement, "at": utc_text()}
    line = sign(encode(dated), key).decode().strip()
    write_new(path, encode({"statement": dated, "signature": line}))
    return key_id(key.public_key())


def check(
    paths: Sequence[Path], expected: Statement, gates: Gates, needed: int, signers: Collection[str]
) -> list[Approval]:
    """Returns the approvals of these files, if enough different persons signed them."""
    files = [(str(path), _file(path)) for path in paths]
    faults, approvals = examined(files, expected, gates, needed, signers)
    if faults:
        raise ValueError(faults[0])
    return approvals


def examined(
    files: Sequence[tuple[str, Any]], expected: Statement, gates: Gates, needed: int, signers: Collection[str]
) -> tuple[list[str], list[Approval]]:
    """Returns every broken rule of approvals in words, and the approvals that count."""
    faults: list[str] = []
    approvals: dict[str, Approval] = {}
    for where, value in files:
        try:
            approval = _approval(value, expected, gates)
            if approval["by"] in approvals:
                first = approvals[approval["by"]]["key"]
                raise ValueError(gettext("%(by)s approved already, with key %(key)s", by=approval["by"], key=first))
            if approval["key"] in signers:
                key = approval["key"]
                raise ValueError(gettext("key %(key)s signed the bundle or its log, and cannot approve it", key=key))
        except ValueError as error:
            faults.append(gettext("%(where)s: %(what)s", where=where, what=phrase(str(error))))
        else:
            approvals[approval["by"]] = approval
    if len(approvals) < needed:
        faults.append(
            gettext(
                "approvals: expected %(needed)s by different persons that the gates name, got %(approved)s",
                needed=needed,
                approved=len(approvals),
            )
        )
    return faults, list(approvals.values())


def _file(path: Path) -> Any:
    try:
        return decode(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Signed(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of an approval's file."""

    statement: dict[str, str | int]
    signature: str


def _approval(value: Any, expected: Statement, gates: Gates) -> Approval:
    content = as_kind(value, _Signed, "")
    signed, line = content.statement, content.signature
    keys = [key for person in gates.approvers.values() for key in person]
    key = verify_signature(encode(signed), line.encode() + b"\n", keys)
    for name, expected_value in expected.items():
        if signed.get(name) != expected_value:
            must, actual = repr(expected_value), repr(str(signed.get(name))[:80])
            raise ValueError(
                gettext("statement: %(name)s must be %(must)s, got %(actual)s", name=name, must=must, actual=actual)
            )
    return {"statement": signed, "signature": line, "key": key, "by": gates.person(key)}
