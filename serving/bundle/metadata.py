"""The metadata of a bundle (`bundle.json`): features, calibration, bands with certificates, golden vectors, validity.

This is not the model card for people, which `training/reports` writes. The types declare the file. `metadata_from_json`
accepts only the bytes that `metadata_to_json` writes, so equal metadata have equal bytes.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from callsieve.features.files.decode import Record, as_kind, check_texts
from callsieve.features.files.strict_json import decode, encode, short
from callsieve.features.online.feeds import COMPLETE, FEEDS, LACKS, UNKNOWN_FEED

from .level import Shift, shift_by

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats

FORMAT: Literal[4] = 4
SECOND = "second"
"""Name of the optional yes-no model for poorer records, see `features/online/feeds.py`."""
OPTIONAL_MODELS = ("content", "mode")
OPTIONAL_KEYS: dict[str, dict[str, Any] | None] = {"flags": {}, "levels": {}}
"""By key, the value that is not in the file."""
_MAX_INTEGER = 2**53
_MAX_NESTING = 12
_HASH = re.compile(r"[0-9a-f]{8,128}")
_UTC_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
# Excludes what LightGBM refuses in a name and what its text format uses as a separator.
_FEATURE = re.compile(r"[^\s=,\[\]{}\":]{1,128}")

Knots = Annotated[tuple[float, ...], Meta(min_length=2, max_length=10_000)]
Count = Annotated[int, Meta(ge=0, le=10**10)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Calibration(Record, frozen=True):
    """Piecewise linear map from raw score to probability, constant outside the knots.

    Attributes:
        x: raw scores of the knots, ascending.
        y: probabilities at the knots.

    >>> Calibration((-1.0, 1.0), (0.2, 0.6)).probability(0.5)
    0.5
    """

    x: Knots
    y: Knots

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


class Certificate(Record, frozen=True):
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
    benign_calls: Count
    false_calls: Count
    bound: Share
    confidence: Annotated[float, Meta(ge=0.5, le=0.999999)]
    target: Share
    certified: bool


class Band(Record, frozen=True):
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
    abstains: Annotated[tuple[str, ...], Meta(max_length=100)] = field(default=(), name="silent")
    raised: Mapping[str, float] = field(default_factory=dict)

    def threshold_for(self, stratum: str) -> float:
        """Returns the lowest raw score that reaches the band for a call of this stratum; infinity if it abstains.

        >>> band = Band("top", 2.0, Certificate("certify", 9, 0, 0.3, 0.95, 0.3, True), {}, ("iot",), {"fixed": 2.5})
        >>> [band.threshold_for(stratum) for stratum in ("mobile", "fixed", "iot")]
        [2.0, 2.5, inf]
        """
        return math.inf if stratum in self.abstains else self.raised.get(stratum, self.threshold)


class Level(Record, frozen=True):
    """The score levels of the networks that thresholds were chosen on (`level.py`).

    Attributes:
        lowest, highest: raw scores (log-odds).
    """

    lowest: float
    highest: float

    def shift(self, level: float | None) -> Shift:
        """Returns the shift of a network by its level."""
        return shift_by(level, self.lowest, self.highest)


class GoldenVectors(Record, frozen=True):
    """Stored rows of features and the raw scores that the models must reproduce when the bundle is opened.

    Attributes:
        rows: F values each; NaN is a missing value.
        scores: for each model, the raw scores of each row, one a class.
    """

    rows: tuple[tuple[float, ...], ...]
    scores: Mapping[str, tuple[tuple[float, ...], ...]]


class _GoldenFile(Record, frozen=True):
    """Golden vectors in the file: null for NaN, and scores in hexadecimal, which is exact."""

    rows: Annotated[tuple[tuple[float | None, ...], ...], Meta(min_length=1, max_length=1000)]
    scores: Mapping[str, tuple[tuple[str, ...], ...]]


class BundleMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a bundle except the models.

    Attributes:
        features: names of the model's features, in order.
        categorical: number of levels of each categorical feature.
        catalogue_hash: hash of the feature catalogue that the model was trained with.
        calibration: map from raw score to probability.
        feed: the feed of the records that the model was trained on (`features/online/feeds.py`).
        thresholds: the bands on this feed, from the highest threshold to the lowest.
        feeds: for other feeds, bands of the same names in the same order. On a feed without bands every band abstains.
        levels: by feed, the score levels that the thresholds on it are distances from (`level.py`); a feed without an
            entry has fixed thresholds. The key is not in the file if there are none.
        flags: by feed, the lower threshold of numbers that were caught several times, with the certificate of model and
            flags together (`scorer/flags.py`). On a feed without an entry no number is flagged. The key
            is not in the file if there are none.
        second_calibration: map from the raw score of the second model to probability; None without such a model.
        label_policy, training: free JSON objects.
        valid_from, valid_until: UTC moments such as "2026-03-01T00:00:00Z".
        epoch: grows with each released bundle; a scorer can refuse earlier epochs.
        golden: the golden vectors; `bundle.save` fills them in.
        classes: class names of the optional models "content" and "mode".
        format: version of the file format.
    """

    features: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4096)]
    categorical: Mapping[str, Annotated[int, Meta(ge=1, le=1 << 16)]]
    catalogue_hash: str
    calibration: Calibration
    thresholds: Annotated[tuple[Band, ...], Meta(min_length=1, max_length=100)]
    label_policy: Mapping[str, Any]
    training: Mapping[str, Any]
    valid_from: str
    valid_until: str
    epoch: Annotated[int, Meta(ge=0, le=2**53)]
    golden: GoldenVectors = field(default_factory=lambda: GoldenVectors((), {}))
    classes: Mapping[str, Annotated[tuple[str, ...], Meta(min_length=2, max_length=100)]] = field(default_factory=dict)
    feed: str = COMPLETE
    feeds: Mapping[str, tuple[Band, ...]] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    flags: Mapping[str, Band] = field(default_factory=dict)
    second_calibration: Calibration | None = None
    format: Literal[4] = FORMAT


def metadata_to_json(metadata: BundleMetadata) -> bytes:
    """Returns the bytes of `bundle.json`."""
    golden = _GoldenFile(
        tuple(tuple(None if math.isnan(x) else float(x) for x in row) for row in metadata.golden.rows),
        {
            name: tuple(tuple(float(x).hex() for x in row) for row in rows)
            for name, rows in metadata.golden.scores.items()
        },
    )
    fields = {name: getattr(metadata, name) for name in BundleMetadata.__struct_fields__}
    for name, absent in OPTIONAL_KEYS.items():
        if fields[name] == absent:
            del fields[name]
    return encode(_plain(fields | {"golden": golden}))


def metadata_from_json(data: bytes) -> BundleMetadata:
    """Reads the bytes of `bundle.json`."""
    value = as_kind(decode(data), dict[str, Any], "metadata")
    if value.get("format") != FORMAT:
        raise ValueError(f"format must be {FORMAT}, got {value.get('format')!r}")
    if missing := sorted(set(BundleMetadata.__struct_fields__) - value.keys() - {*OPTIONAL_KEYS}):
        raise ValueError(f"expected the keys {', '.join(missing)}")
    file = as_kind(value.pop("golden"), _GoldenFile, "golden")
    metadata = as_kind(value, BundleMetadata, "")
    _check(metadata)
    metadata = msgspec.structs.replace(metadata, golden=_golden(file, metadata))
    if metadata_to_json(metadata) != data:
        raise ValueError("must have the form in which `callsieve` writes it: sorted keys, floats as floats")
    return metadata


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {name: _plain(getattr(value, field)) for name, field in names}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check(metadata: BundleMetadata) -> None:
    """Checks the rules that no type declares."""
    for name in metadata.features:
        if not _FEATURE.fullmatch(name) or not name.isprintable():
            raise ValueError(f"features: a name must be one printable word, got {name!r}")
    _check_distinct("features", metadata.features)
    if not metadata.categorical.keys() <= set(metadata.features):
        raise ValueError("categorical: each name must be one of the features")
    for model, names in metadata.classes.items():
        if model not in OPTIONAL_MODELS:
            raise ValueError(f"classes: a model must be one of {OPTIONAL_MODELS}, got {model!r}")
        check_texts(names, "classes")
        _check_distinct(f"classes: {model}", names)
    if not _HASH.fullmatch(metadata.catalogue_hash):
        raise ValueError("catalogue_hash must be 8 to 128 hex digits")
    for calibration in (metadata.calibration, metadata.second_calibration):
        if calibration is not None:
            _check_calibration(calibration)
    _check_bands(metadata.thresholds, "thresholds")
    _check_feed(metadata.feed, "feed", (*FEEDS, UNKNOWN_FEED))
    bands = [band.name for band in metadata.thresholds]
    for feed, others in metadata.feeds.items():
        _check_feed(feed, "feeds", [name for name in FEEDS if name not in (COMPLETE, metadata.feed)])
        _check_bands(others, f"feed {feed!r}")
        if [band.name for band in others] != bands:
            raise ValueError(f"feed {feed!r} must have the bands {', '.join(bands)} in this order")
    for feed, band in metadata.flags.items():
        if feed not in (metadata.feed, *metadata.feeds):
            raise ValueError(f"flags: {feed!r} must be a feed with bands")
        _check_bands((band,), f"flags: {feed!r}")
    for feed, level in metadata.levels.items():
        if feed not in (metadata.feed, *metadata.feeds):
            raise ValueError(f"levels: {feed!r} must be a feed with bands")
        if not -1e6 < level.lowest <= level.highest < 1e6:
            raise ValueError(f"levels: {feed!r}: lowest must be at most highest, both between -1e6 and 1e6")
    _check_any(metadata.label_policy, "label_policy")
    _check_any(metadata.training, "training")
    for name in ("valid_from", "valid_until"):
        _check_moment(getattr(metadata, name), name)
    if metadata.valid_from >= metadata.valid_until:
        raise ValueError(f"valid_until must come after valid_from, got {metadata.valid_until}")


def _check_any(value: Any, where: str, nesting: int = _MAX_NESTING) -> None:
    if nesting == 0:
        raise ValueError(f"{where} must not be nested more than {_MAX_NESTING} deep")
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise ValueError(f"{where} must be a whole number in {-_MAX_INTEGER}..{_MAX_INTEGER}, got {short(value)}")
    if isinstance(value, dict):
        check_texts(tuple(value), where)
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_any(item, where, nesting - 1)


def _check_distinct(where: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: names must differ")


def _check_moment(text: str, where: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.strftime(_UTC_MOMENT) != text:
        raise ValueError(f"{where} must be a moment such as 2026-03-01T00:00:00Z")


def _check_feed(feed: str, where: str, feeds: Sequence[str]) -> None:
    if feed not in feeds:
        raise ValueError(f"{where}: must name one or more of {', '.join(LACKS)}, in this order, got {feed!r}")


def _check_calibration(calibration: Calibration) -> None:
    x, y = calibration.x, calibration.y
    if len(x) != len(y):
        raise ValueError(f"calibration: x and y must be of one length, got {len(x)} and {len(y)}")
    # Two knots that nearly coincide would give an infinite slope.
    if any(
        b <= a or not math.isfinite((d - c) / (b - a)) for (a, b), (c, d) in zip(pairwise(x), pairwise(y), strict=True)
    ):
        raise ValueError("calibration: x must ascend, with finite slopes between the knots")
    if any(b < a for a, b in pairwise(y)) or y[0] < 0 or y[-1] > 1:
        raise ValueError("calibration: y must not descend, and must lie in 0..1")


def _check_bands(bands: Sequence[Band], where: str) -> None:
    for band in bands:
        _check_certificate(band.certificate, f"band {band.name!r}")
        for stratum, certificate in band.strata.items():
            _check_certificate(certificate, f"stratum {stratum!r}")
        for stratum, raw in band.raised.items():
            if raw < band.threshold:
                raise ValueError(f"raised: {stratum} must be at least the threshold {band.threshold}, got {raw}")
    _check_distinct(where, [band.name for band in bands])
    own = {stratum for band in bands for stratum in (*band.abstains, *band.raised)}
    if any(low.threshold > high.threshold for high, low in pairwise(bands)) or any(
        low.threshold_for(stratum) > high.threshold_for(stratum) for high, low in pairwise(bands) for stratum in own
    ):
        raise ValueError(f"{where}: must run from the highest to the lowest")


def _check_certificate(certificate: Certificate, where: str) -> None:
    if certificate.false_calls > certificate.benign_calls:
        raise ValueError(f"{where}: false_calls must be at most benign_calls")
    if certificate.certified is not (certificate.bound <= certificate.target):
        raise ValueError(f"{where}: certified must be true exactly if bound is at most target")
    if certificate.certified and not _covers(certificate):
        raise ValueError(f"{where}: bound must be at least the exact bound of its counts")


def _covers(certificate: Certificate) -> bool:
    """Returns whether `bound` is at least the exact upper bound for the counts, up to 0.1 % of rounding.

    The exact upper bound p (Clopper and Pearson 1934) solves P(X <= k | n, p) = 1 - confidence.
    """
    k, n, p = certificate.false_calls, certificate.benign_calls, certificate.bound
    if p == 1:
        return True
    if k >= n * p:
        return False
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = total = math.exp(choose + k * math.log(p) + (n - k) * math.log1p(-p))
    # Below the mean the terms fall faster than a geometric series, so few of them matter.
    for i in range(k, 0, -1):
        term *= i / (n - i + 1) * (1 - p) / p
        total += term
        if term <= 1e-9 * total:
            break
    return total <= (1 - certificate.confidence) * 1.001


def _golden(file: _GoldenFile, metadata: BundleMetadata) -> GoldenVectors:
    """Returns the golden vectors of a file, which must have a score of each model for each row."""
    for row in file.rows:
        if len(row) != len(metadata.features):
            raise ValueError(f"golden: rows must have {len(metadata.features)} values, got {len(row)}")
    classes = {"model": 1} | ({} if metadata.second_calibration is None else {SECOND: 1})
    classes |= {name: len(names) for name, names in metadata.classes.items()}
    if file.scores.keys() != classes.keys():
        raise ValueError(f"golden: scores must have the keys {', '.join(classes)}, got {', '.join(file.scores)}")
    for name, table in file.scores.items():
        if len(table) != len(file.rows) or any(len(row) != classes[name] for row in table):
            raise ValueError(f"golden: scores of {name} must be {classes[name]} for each of {len(file.rows)} rows")
    return GoldenVectors(
        tuple(tuple(math.nan if x is None else x for x in row) for row in file.rows),
        {name: tuple(tuple(map(_from_hex, row)) for row in table) for name, table in file.scores.items()},
    )


def _from_hex(text: str) -> float:
    try:
        number = float.fromhex(text)
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number) or number.hex() != text:
        raise ValueError("golden: scores must be finite floats in hexadecimal")
    return number
