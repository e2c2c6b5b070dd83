"""Verifies a bundle and the statement beside it, and reports its completeness, signer, validity and provenance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.catalogue import catalogue_hash

from .attestation import attestation_path, verify_attestation
from .bundle import Bundle, BundleError, load
from .signing import read_public_key, signer_path


def verify(
    folder: Path, key: Path | None = None, *, on_check: Callable[[str], object] | None = None
) -> tuple[Bundle, dict[str, Any]]:
    """Runs all checks that the scorer runs when it opens a bundle, and checks the statement of how it was made, if any.

    Returns: the bundle, and its facts with the checks, ready for JSON.
    """
    public = signer_path(folder, key)
    checks: list[str] = []

    def passed(line: str) -> None:
        checks.append(line)
        if on_check:
            on_check(line)

    trusted = read_public_key(public)
    bundle = load(folder, [trusted], expected_catalogue=catalogue_hash(), on_check=passed)
    stale = datetime.fromisoformat(bundle.valid_until) < datetime.now(UTC)
    passed(f"validity: {bundle.valid_from} to {bundle.valid_until}" + ("; expired" if stale else ""))
    passed(_provenance(folder, trusted))
    return bundle, {
        "bundle": str(folder),
        "model": bundle.model_id,
        "signed_by": bundle.signed_by,
        "key": str(public),
        "epoch": bundle.epoch,
        "valid_from": bundle.valid_from,
        "valid_until": bundle.valid_until,
        "stale": stale,
        "features": len(bundle.features),
        "trees": bundle.model.trees,
        "bands": {band.name: band.certificate.certified for band in bundle.thresholds},
        "checks": checks,
    }


def _provenance(folder: Path, key: Ed25519PublicKey) -> str:
    path = attestation_path(folder)
    if not path.exists():
        return f"provenance: none; no {path.name} beside the bundle states how it was made"
    try:
        made = verify_attestation(folder, key)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name}: {error}") from None
    return f"provenance: {path.name} states how these {len(made.subject)} files were made, signed by the same key"
