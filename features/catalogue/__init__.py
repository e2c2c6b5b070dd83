"""FEATURES: the list of features. The engines, the documents, reasons, audit and the bundle check read it.

Those of reports (`reports.py`) are apart, for no model has them unless it is asked to.

>>> FEATURES[0].name, FEATURES[0].unit, FEATURES[0].en
('out_calls_count_1h', 'calls', 'calls made in the last hour')
>>> sorted({feature.role for feature in FEATURES})
['block', 'callee', 'caller', 'device', 'trunk']
"""

from __future__ import annotations

import hashlib
import json
from functools import cache

from callsieve.features.complaints import COMPLAINT_FEATURES, COMPLAINT_NAMES, ComplaintFeature

from .declarations import MEASURES
from .feature import ROLES, Feature

FEATURES: tuple[Feature, ...] = tuple(
    sorted((feature for rows in MEASURES for feature in rows), key=lambda feature: ROLES.index(feature.role))
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
BY_NAME = {feature.name: feature for feature in FEATURES}


ALL_FEATURES: dict[str, Feature | ComplaintFeature] = {
    **BY_NAME,
    **{feature.name: feature for feature in COMPLAINT_FEATURES},
}


def select_features(names: tuple[str, ...]) -> tuple[Feature, ...]:
    """The features of these names, in the order of the catalogue. Raises ValueError for a name that is not in it."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise ValueError(f"features: expected names of the catalogue, got {', '.join(unknown)}")
    wanted = set(names)
    return tuple(feature for name, feature in BY_NAME.items() if name in wanted)


def vector_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of vectors that hold these features: all of FEATURES, then those of reports if one is wanted."""
    return NAMES + COMPLAINT_NAMES if set(names) & set(COMPLAINT_NAMES) else NAMES


@cache
def catalogue_hash() -> str:
    """SHA-256 over all definitions: two engines with the same hash compute the same features.

    >>> len(catalogue_hash())
    64
    """
    text = json.dumps([feature.definition for feature in ALL_FEATURES.values()], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
