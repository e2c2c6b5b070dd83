"""The signed bundle that an adaptation starts from, with LightGBM's texts of its models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from callsieve.features.arrays import Array
from callsieve.features.catalogue import catalogue_hash
from callsieve.features.online.feeds import needs_second_model
from callsieve.serving.bundle.bundle import Bundle, load
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.level import Shift, level_of
from callsieve.serving.bundle.metadata import OPTIONAL_MODELS, SECOND, Band, Calibration
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.rules.strata import STRATA
from callsieve.serving.scorer.network_scores import sampled
from callsieve.training.model.trees import signed_manifest, signed_texts


@dataclass(frozen=True, slots=True)
class Base:
    """A verified bundle, the SHA-256 of its manifest, and LightGBM's texts of its models by name."""

    bundle: Bundle
    manifest: str
    texts: dict[str, str]

    def model(self, feed: str) -> str:
        """Returns the name of the risk model that scores records on a feed."""
        second = self.bundle.second is not None and needs_second_model(feed, self.bundle.feed)
        return SECOND if second else "model"

    def forest(self, feed: str) -> Forest:
        """Returns the risk model that scores records on a feed."""
        return self.bundle.risk_model(feed)[0]

    def calibration(self, feed: str) -> Calibration:
        """Returns the map from raw score to probability on a feed."""
        return self.bundle.risk_model(feed)[1]

    def bands(self, feed: str) -> tuple[Band, ...]:
        """Returns the bands on a feed; none if the bundle abstains there."""
        return self.bundle.thresholds if feed == self.bundle.feed else self.bundle.feeds.get(feed, ())

    def at_level(self, feed: str, raw: Array) -> Base:
        """Returns the base with the fixed thresholds and calibration that hold for a network by its score level."""
        level = self.bundle.levels.get(feed)
        if level is None:
            return self
        shift = level.shift(level_of(sampled(raw).tolist()))
        moved = tuple(moved_band(band, shift) for band in self.bands(feed))
        flags = self.bundle.flags
        if feed in flags:
            flags = {**flags, feed: moved_band(flags[feed], shift)}
        bundle = replace(self.bundle, levels={}, flags=flags)
        if feed == bundle.feed:
            bundle = replace(bundle, thresholds=moved)
        else:
            bundle = replace(bundle, feeds={**bundle.feeds, feed: moved})
        name = "second_calibration" if self.model(feed) == SECOND else "calibration"
        x = tuple(score + shift.amount for score in self.calibration(feed).x)
        return Base(replace(bundle, **{name: replace(self.calibration(feed), x=x)}), self.manifest, self.texts)

    def even_score(self, feed: str) -> float:
        """Returns the raw score at which innocent and nuisance calls were equally likely where the base was trained."""
        calibration = self.calibration(feed)
        return float(np.interp(0.5, calibration.y, calibration.x))

    def class_texts(self) -> dict[str, str]:
        """Returns the texts of the models of content and mode that the bundle has."""
        return {name: text for name, text in self.texts.items() if name in OPTIONAL_MODELS}


def moved_band(band: Band, shift: Shift) -> Band:
    """Returns a band with the thresholds for raw scores of a network; it abstains if the network is unlike others."""
    if shift.unlike:
        return replace(band, abstains=STRATA, raised={})
    raised = {stratum: threshold + shift.amount for stratum, threshold in band.raised.items()}
    return replace(band, threshold=band.threshold + shift.amount, raised=raised)


def read_base(folder: Path | None = None, trusted: Iterable[Ed25519PublicKey] | None = None) -> Base:
    """Reads and verifies a bundle; the shipped one without a folder.

    >>> from callsieve.training import read_base
    >>> read_base().bundle.feed
    'complete'

    Args:
        trusted: public keys; by default that of the shipped model, and `signer.pub` beside a bundle of one's own.
    Raises:
        BundleError: for any defect of the folder, or if its features are computed otherwise by this version.
    """
    folder = SHIPPED_BUNDLE if folder is None else folder
    if trusted is None:
        beside = folder.parent / SHIPPED_SIGNER.name
        trusted = [read_public_key(path) for path in {SHIPPED_SIGNER, beside} if path.exists()]
    bundle = load(folder, tuple(trusted), expected_catalogue=catalogue_hash())
    return Base(bundle, signed_manifest(folder, bundle)[0], signed_texts(folder, bundle))
