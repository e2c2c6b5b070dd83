"""Reads and writes the metadata file of a bundle (`bundle.json`), with a check of every field.

`metadata_from_json` accepts only the bytes that `metadata_to_json` writes, so equal metadata have equal bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from callsieve.features.files.strict_json import (
    as_fields,
    as_integer,
    as_list,
    as_mapping,
    as_number,
    as_text,
    check_any,
    decode,
    encode,
)
from callsieve.features.online.feeds import COMPLETE, FEEDS, LACKS, UNKNOWN_FEED

from .metadata import FORMAT, OPTIONAL_MODELS, SECOND, Band, BundleMetadata, Calibration, Certificate, GoldenVectors

MAX_FEATURES = 4096
MAX_LEVELS = 1 << 16
MAX_KNOTS = 10_000
MAX_GOLDEN_ROWS = 1000
MAX_CALLS = 10**10
# The keys of a band in the file. `Band.abstains` has the key "silent".
_BAND_FIELDS = ("name", "threshold", "certificate", "strata", "silent", "raised")
_HASH = re.compile(r"[0-9a-f]{8,128}")
_UTC_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
# Excludes what LightGBM refuses in a name and what its text format uses as a separator.
_FEATURE = re.compile(r"[^\s=,\[\]{}\":]{1,128}")


def metadata_to_json(metadata: BundleMetadata) -> bytes:
    """Returns the bytes of `bundle.json`."""
    golden = {
        "rows": [[None if math.isnan(x) else float(x) for x in row] for row in metadata.golden.rows],
        "scores": {
            name: [[float(x).hex() for x in row] for row in rows] for name, rows in metadata.golden.scores.items()
        },
    }
    second = metadata.second_calibration
    return encode(
        {
            "format": metadata.format,
            "features": list(metadata.features),
            "categorical": dict(metadata.categorical),
            "catalogue_hash": metadata.catalogue_hash,
            "calibration": _calibration_json(metadata.calibration),
            "second_calibration": second and _calibration_json(second),
            "thresholds": [_band_json(band) for band in metadata.thresholds],
            "feed": metadata.feed,
            "feeds": {feed: [_band_json(band) for band in bands] for feed, bands in metadata.feeds.items()},
            "classes": {name: list(classes) for name, classes in metadata.classes.items()},
            "label_policy": dict(metadata.label_policy),
            "training": dict(metadata.training),
            "golden": golden,
            "valid_from": metadata.valid_from,
            "valid_until": metadata.valid_until,
            "epoch": metadata.epoch,
        }
    )


def metadata_from_json(data: bytes) -> BundleMetadata:
    """Reads the bytes of `bundle.json`.

    Raises:
        ValueError: in one line, which names the field and its rule.
    """
    value = as_fields(decode(data), "metadata", tuple(BundleMetadata.__slots__))
    if value["format"] != FORMAT or type(value["format"]) is not int:
        raise ValueError(f"format must be {FORMAT}, got {value['format']!r}")
    features = _features(value["features"])
    thresholds = _bands(value["thresholds"], "thresholds")
    classes = _classes(value["classes"])
    valid_from, valid_until = (_utc_moment(value[key], key) for key in ("valid_from", "valid_until"))
    if valid_from >= valid_until:
        raise ValueError(f"valid_until must come after valid_from, got {valid_until}")
    if not isinstance(value["catalogue_hash"], str) or not _HASH.fullmatch(value["catalogue_hash"]):
        raise ValueError("catalogue_hash must be 8 to 128 hex digits")
    for key in ("label_policy", "training"):
        check_any(as_mapping(value[key], key), key)
    second = value["second_calibration"]
    risk_models = {"model": 1} if second is None else {"model": 1, SECOND: 1}
    metadata = BundleMetadata(
        features=features,
        categorical=_categorical(value["categorical"], features),
        catalogue_hash=value["catalogue_hash"],
        calibration=_calibration(value["calibration"]),
        second_calibration=None if second is None else _calibration(second),
        thresholds=thresholds,
        feed=_feed(value["feed"], "feed", (*FEEDS, UNKNOWN_FEED)),
        feeds=_feeds(value["feeds"], value["feed"], thresholds),
        classes=classes,
        label_policy=value["label_policy"],
        training=value["training"],
        golden=_golden(value["golden"], len(features), risk_models | {k: len(v) for k, v in classes.items()}),
        valid_from=valid_from,
        valid_until=valid_until,
        epoch=as_integer(value["epoch"], "epoch"),
    )
    if metadata_to_json(metadata) != data:
        raise ValueError("must have the form in which `callsieve` writes it: sorted keys, floats as floats")
    return metadata


def _calibration_json(calibration: Calibration) -> dict[str, list[float]]:
    return {"x": list(calibration.x), "y": list(calibration.y)}


def _band_json(band: Band) -> dict[str, Any]:
    strata = {name: _certificate_json(certificate) for name, certificate in band.strata.items()}
    certificate = _certificate_json(band.certificate)
    return {
        "name": band.name,
        "threshold": band.threshold,
        "certificate": certificate,
        "strata": strata,
        "silent": list(band.abstains),
        "raised": dict(band.raised),
    }


def _certificate_json(certificate: Certificate) -> dict[str, Any]:
    return {name: getattr(certificate, name) for name in Certificate.__slots__}


def _utc_moment(value: Any, where: str) -> str:
    try:
        moment = datetime.fromisoformat(as_text(value, where))
    except ValueError:
        moment = None
    if moment is None or moment.strftime(_UTC_MOMENT) != value:
        raise ValueError(f"{where} must be a moment such as 2026-03-01T00:00:00Z")
    return moment.strftime(_UTC_MOMENT)


def _features(value: Any) -> tuple[str, ...]:
    names = tuple(as_text(name, "features") for name in as_list(value, "features", 1, MAX_FEATURES))
    for name in names:
        if not _FEATURE.fullmatch(name) or not name.isprintable():
            raise ValueError(f"features: a name must be one printable word, got {name!r}")
    if len(set(names)) != len(names):
        raise ValueError("features: names must differ")
    return names


def _categorical(value: Any, features: Sequence[str]) -> dict[str, int]:
    levels = {
        name: as_integer(count, "categorical", 1, MAX_LEVELS)
        for name, count in as_mapping(value, "categorical").items()
    }
    if not levels.keys() <= set(features):
        raise ValueError("categorical: each name must be one of the features")
    return levels


def _classes(value: Any) -> dict[str, tuple[str, ...]]:
    classes = {}
    for model, names in as_mapping(value, "classes").items():
        if model not in OPTIONAL_MODELS:
            raise ValueError(f"classes: a model must be one of {OPTIONAL_MODELS}, got {model!r}")
        classes[model] = tuple(as_text(name, "classes") for name in as_list(names, "classes", 2, 100))
        if len(set(classes[model])) != len(classes[model]):
            raise ValueError(f"classes: names of {model} must differ")
    return classes


def _calibration(value: Any) -> Calibration:
    knots = as_fields(value, "calibration", ("x", "y"))
    x, y = (
        tuple(as_number(v, "calibration") for v in as_list(knots[axis], "calibration", 2, MAX_KNOTS))
        for axis in ("x", "y")
    )
    if len(x) != len(y):
        raise ValueError(f"calibration: x and y must be of one length, got {len(x)} and {len(y)}")
    # Two knots that nearly coincide would give an infinite slope.
    if any(
        b <= a or not math.isfinite((d - c) / (b - a)) for (a, b), (c, d) in zip(pairwise(x), pairwise(y), strict=True)
    ):
        raise ValueError("calibration: x must ascend, with finite slopes between the knots")
    if any(b < a for a, b in pairwise(y)) or y[0] < 0 or y[-1] > 1:
        raise ValueError("calibration: y must not descend, and must lie in 0..1")
    return Calibration(x, y)


def _feed(value: Any, where: str, feeds: Sequence[str]) -> str:
    if value not in feeds:
        raise ValueError(f"{where}: must name one or more of {', '.join(LACKS)}, in this order, got {value!r}")
    return str(value)


def _feeds(value: Any, own: str, thresholds: Sequence[Band]) -> dict[str, tuple[Band, ...]]:
    feeds, names = {}, [band.name for band in thresholds]
    for feed, items in as_mapping(value, "feeds").items():
        _feed(feed, "feeds", [name for name in FEEDS if name not in (COMPLETE, own)])
        feeds[feed] = _bands(items, f"feed {feed!r}")
        if [band.name for band in feeds[feed]] != names:
            raise ValueError(f"feed {feed!r} must have the bands {', '.join(names)} in this order")
    return feeds


def _bands(value: Any, where: str) -> tuple[Band, ...]:
    bands = []
    for item in as_list(value, where, 1, 100):
        band = as_fields(item, where, _BAND_FIELDS)
        strata = {
            as_text(name, "strata"): _certificate(certificate, f"stratum {name!r}")
            for name, certificate in as_mapping(band["strata"], "strata").items()
        }
        name, threshold = as_text(band["name"], f"{where}: name"), as_number(band["threshold"], "threshold")
        abstains = tuple(as_text(stratum, "silent") for stratum in as_list(band["silent"], "silent", 0, 100))
        raised = {
            as_text(stratum, "raised"): as_number(raw, f"raised: {stratum}", threshold)
            for stratum, raw in as_mapping(band["raised"], "raised").items()
        }
        certificate = _certificate(band["certificate"], f"band {name!r}")
        bands.append(Band(name, threshold, certificate, strata, abstains, raised))
    if len({band.name for band in bands}) != len(bands):
        raise ValueError(f"{where}: names must differ")
    own = {stratum for band in bands for stratum in (*band.abstains, *band.raised)}
    if any(low.threshold > high.threshold for high, low in pairwise(bands)) or any(
        low.threshold_for(stratum) > high.threshold_for(stratum) for high, low in pairwise(bands) for stratum in own
    ):
        raise ValueError(f"{where}: must run from the highest to the lowest")
    return tuple(bands)


def _certificate(value: Any, where: str) -> Certificate:
    item = as_fields(value, where, Certificate.__slots__)
    certificate = Certificate(
        fold=as_text(item["fold"], f"{where}: fold"),
        benign_calls=as_integer(item["benign_calls"], f"{where}: benign_calls", 0, MAX_CALLS),
        false_calls=as_integer(item["false_calls"], f"{where}: false_calls", 0, MAX_CALLS),
        bound=as_number(item["bound"], f"{where}: bound", 0, 1),
        confidence=as_number(item["confidence"], f"{where}: confidence", 0.5, 0.999999),
        target=as_number(item["target"], f"{where}: target", 0, 1),
        certified=item["certified"],
    )
    if certificate.false_calls > certificate.benign_calls:
        raise ValueError(f"{where}: false_calls must be at most benign_calls")
    if certificate.certified is not (certificate.bound <= certificate.target):
        raise ValueError(f"{where}: certified must be true exactly if bound is at most target")
    if certificate.certified and not _covers(certificate):
        raise ValueError(f"{where}: bound must be at least the exact bound of its counts")
    return certificate


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


def _golden(value: Any, width: int, models: Mapping[str, int]) -> GoldenVectors:
    item = as_fields(value, "golden", ("rows", "scores"))
    rows = tuple(
        tuple(
            math.nan if x is None else as_number(x, "golden: rows") for x in as_list(row, "golden: rows", width, width)
        )
        for row in as_list(item["rows"], "golden: rows", 1, MAX_GOLDEN_ROWS)
    )
    scores = {}
    for name, table in as_fields(item["scores"], "golden: scores", tuple(models)).items():
        scores[name] = tuple(
            tuple(_hex(x) for x in as_list(row, "golden: scores", models[name], models[name]))
            for row in as_list(table, "golden: scores", len(rows), len(rows))
        )
    return GoldenVectors(rows, scores)


def _hex(value: Any) -> float:
    try:
        number = float.fromhex(as_text(value, "golden: scores"))
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number.hex() != value:
        raise ValueError("golden: scores must be finite floats in hexadecimal")
    return number
