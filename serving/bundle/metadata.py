"""What a bundle says about its model. `cardfile.py` writes and reads it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from callsieve.features.dataclass import dataclass, field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 3
OPTIONAL_MODELS = ("content", "mode")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Piecewise linear map from raw score to probability: constant outside the knots.

    >>> Calibration((-1.0, 1.0), (0.2, 0.6)).probability(0.5)
    0.5
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def probability(self, raw: float) -> float:
        """Probability of one raw score, equal bit for bit to `probabilities`."""
        x, y = self.x, self.y
        if raw >= x[-1]:
            return y[-1]
        j = bisect_right(x, raw) - 1
        if j < 0:
            return y[0]
        return y[j] + (y[j + 1] - y[j]) / (x[j + 1] - x[j]) * (raw - x[j])

    def probabilities(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of raw scores, shape (n,)."""
        import numpy as np  # for tables alone

        x, y = np.array(self.x), np.array(self.y)
        j = np.clip(np.searchsorted(x, raw, "right") - 1, 0, len(x) - 2)
        inside = y[j] + (y[j + 1] - y[j]) / (x[j + 1] - x[j]) * (raw - x[j])
        return np.asarray(np.where(raw >= x[-1], y[-1], np.where(raw < x[0], y[0], inside)))


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a threshold is worth on a fold it was not chosen on.

    `bound` is the exact one-sided upper bound (Clopper-Pearson) of the rate of false calls among benign ones,
    at `confidence`; `certified` says that it is at most `target`.
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
    """Scores from `threshold` (raw score) on; its certificate over all calls and per observable stratum.

    In a stratum of `raised` it begins at the raw score that is given there, above `threshold`. Of calls of a `silent`
    stratum it says nothing, whatever their score: no innocent ones were there to hold a threshold to. Strata are those
    of `strata.py`.
    """

    name: str
    threshold: float
    certificate: Certificate
    strata: Mapping[str, Certificate] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    raised: Mapping[str, float] = field(default_factory=dict)

    def threshold_for(self, stratum: str) -> float:
        """The least raw score that reaches the band, of a call of this stratum.

        >>> band = Band("top", 2.0, Certificate("certify", 9, 0, 0.3, 0.95, 0.3, True), {}, ("iot",), {"fixed": 2.5})
        >>> [band.threshold_for(word) for word in ("mobile", "fixed", "iot")]
        [2.0, 2.5, inf]
        """
        return math.inf if stratum in self.silent else self.raised.get(stratum, self.threshold)


@dataclass(frozen=True, slots=True)
class GoldenVectors:
    """Rows of feature values (NaN: missing) and the raw scores that each model gives for them."""

    rows: tuple[tuple[float, ...], ...]
    scores: Mapping[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMetadata:
    """All that a bundle says beside its models.

    `categorical` gives the number of levels of each categorical feature. `classes` names the classes of the
    optional models "content" and "mode". `thresholds` run from the highest to the lowest. `valid_from` and
    `valid_until` are UTC moments such as "2026-03-01T00:00:00Z". `label_policy` and `training` are free JSON
    objects. `golden` is filled when the bundle is saved.
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
    format: int = FORMAT
