"""The bundle that the package ships: `callsieve study worlds` made it from simulated worlds."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent.parent / "shipped"
SHIPPED_BUNDLE = FOLDER / "bundle"
SHIPPED_SIGNER = FOLDER / "signer.pub"
SHIPPED_IN_WORDS = "the shipped model, trained on simulated worlds; under the shipped policy it labels and never blocks"
