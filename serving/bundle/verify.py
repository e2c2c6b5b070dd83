"""What a person asks of a bundle: is it whole, whose is it, and until when may it serve?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callsieve.features.catalogue import catalogue_hash

from .bundle import load
from .signing import read_public_key


def verify(folder: Path, key: Path | None = None, *, told: Callable[[str], object] | None = None) -> dict[str, Any]:
    """Check a bundle exactly as the scorer does when it opens one.

    Args:
        key: the public key (PEM) that must have signed it; by default `signer.pub` beside the bundle, which proves no
            more than that the bundle is whole.
        told: called with one line for each check that was passed.

    Returns:
        The checks and the facts of the bundle, ready for JSON.

    Raises:
        Refused: in one line, at the first check that fails.
        ValueError: if there is no key.
    """
    public = key or folder.parent / "signer.pub"
    if not public.is_file():
        raise ValueError(f"{public}: no public key; expected --trust FILE with the key that signed the bundle")
    checks: list[str] = []

    def passed(line: str) -> None:
        checks.append(line)
        if told:
            told(line)

    bundle = load(folder, [read_public_key(public)], expected_catalogue=catalogue_hash(), told=passed)
    stale = datetime.fromisoformat(bundle.valid_until) < datetime.now(UTC)
    passed(f"validity: {bundle.valid_from} to {bundle.valid_until}" + (", which is past" if stale else ""))
    return {
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
