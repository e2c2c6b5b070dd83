"""The metadata of a bundle (`bundle.json`): features, calibration, bands with certificates, golden vectors, validity.

This is not the model card for people, which `training/reports` writes. `metadata_file.py` reads and writes the file.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from callsieve.features.dataclass import dataclass, field
from callsieve.features.online.feeds import COMPLETE

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats

FORMAT = 4
SECOND = "second"
"""Name of the optional yes-no model for poorer records, see `features/online/feeds.py`."""
OPTIONAL_MODELS = ("content", "mode")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Piecewise linear map from raw score to probability, constant outside the knots.

    Attributes:
        x: raw scores of the knots, ascending.
        y: probabilities at the knots.

    >>> Calibration((-1.0, 1.0), (0.2, 0.6)).probability(0.5)
    0.5
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def probability(self, raw: float) -> float:
        """Returns the probability of one raw score, equal bit for bit to `probabilities`."""
        x, y = self.x, self.y
        if raw >= x[-1]:
            return y[-1]
        j = bisect_right(x, raw) - 1
        if j < 0:
            return y[0]
        return y[j] + (y[j + 1] - y[j]) / (x[j + 1] - x[j]) * (raw - x[j])

    def probabilities(self, raw: Floats) -> Floats:
        """Returns the probabilities of raw scores, both of shape (n,)."""
        import numpy as np  # a single call needs no NumPy

        x, y = np.array(self.x), np.array(self.y)
        j = np.clip(np.searchsorted(x, raw, "right") - 1, 0, len(x) - 2)
        inside = y[j] + (y[j + 1] - y[j]) / (x[j + 1] - x[j]) * (raw - x[j])
        return np.asarray(np.where(raw >= x[-1], y[-1], np.where(raw < x[0], y[0], inside)))


@dataclass(frozen=True, slots=True)
class Certificate:
    """The false positive rate of a threshold, measured on a fold that did not choose the threshold.

    Attributes:
        fold: name of the fold.
        benign_calls: innocent calls in the fold.
        false_calls: innocent calls that reach the threshold.
        bound: exact one-sided upper bound of the false positive rate (Clopper-Pearson), at `confidence`.
        confidence: confidence level of the bound.
        target: the highest false positive rate that is allowed.
        certified: whether `bound` is at most `target`.
    """

    fold: str
    benign_calls: int
    false_calls: int
    bound: float
    confidence: float
    target: float
    certified: bool


@dataclass(frozen=True, slots=True)
class Band:
    """A score interval that begins at a certified threshold or at a looser "watch" threshold.

    Attributes:
        name: name of the band, such as "certified" or "watch".
        threshold: the raw score (log-odds) at which the band begins.
        certificate: the certificate over all calls.
        strata: the certificate of each stratum (`rules/strata.py`).
        abstains: strata for which the band abstains at every score, because they had no innocent calls to
            calibrate a threshold on. The file calls this field "silent".
        raised: for some strata, a stricter threshold than `threshold`.
    """

    name: str
    threshold: float
    certificate: Certificate
    strata: Mapping[str, Certificate] = field(default_factory=dict)
    abstains: tuple[str, ...] = ()
    raised: Mapping[str, float] = field(default_factory=dict)

    def threshold_for(self, stratum: str) -> float:
        """Returns the lowest raw score that reaches the band for a call of this stratum; infinity if it abstains.

        >>> band = Band("top", 2.0, Certificate("certify", 9, 0, 0.3, 0.95, 0.3, True), {}, ("iot",), {"fixed": 2.5})
        >>> [band.threshold_for(stratum) for stratum in ("mobile", "fixed", "iot")]
        [2.0, 2.5, inf]
        """
        return math.inf if stratum in self.abstains else self.raised.get(stratum, self.threshold)


@dataclass(frozen=True, slots=True)
class GoldenVectors:
    """Stored rows of features and the raw scores that the models must reproduce when the bundle is opened.

    Attributes:
        rows: F values each; NaN is a missing value.
        scores: for each model, the raw scores of each row, one a class.
    """

    rows: tuple[tuple[float, ...], ...]
    scores: Mapping[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMetadata:
    """Everything in a bundle except the models.

    Attributes:
        features: names of the model's features, in order.
        categorical: number of levels of each categorical feature.
        catalogue_hash: hash of the feature catalogue that the model was trained with.
        calibration: map from raw score to probability.
        feed: the feed of the records that the model was trained on (`features/online/feeds.py`).
        thresholds: the bands on this feed, from the highest threshold to the lowest.
        feeds: for other feeds, bands of the same names in the same order. On a feed without bands every band abstains.
        second_calibration: map from the raw score of the second model to probability; None without such a model.
        label_policy, training: free JSON objects.
        valid_from, valid_until: UTC moments such as "2026-03-01T00:00:00Z".
        epoch: grows with each released bundle; a scorer can refuse earlier epochs.
        golden: the golden vectors; `bundle.save` fills them in.
        classes: class names of the optional models "content" and "mode".
        format: version of the file format.
    """

    features: tuple[str, ...]
    categorical: Mapping[str, int]
    catalogue_hash: str
    calibration: Calibration
    thresholds: tuple[Band, ...]
    label_policy: Mapping[str, Any]
    training: Mapping[str, Any]
    valid_from: str
    valid_until: str
    epoch: int
    golden: GoldenVectors = field(default_factory=lambda: GoldenVectors((), {}))
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    feed: str = COMPLETE
    feeds: Mapping[str, tuple[Band, ...]] = field(default_factory=dict)
    second_calibration: Calibration | None = None
    format: int = FORMAT
