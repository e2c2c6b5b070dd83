"""The list of features. Engines, documents, reasons, the audit page and the bundle check read it.

Imports `kernel`, `records`. Start with `declarations`, then `feature`.

>>> FEATURES[0].name, FEATURES[0].unit, FEATURES[0].en
('out_calls_count_1h', 'calls', 'calls made in the last hour')
>>> sorted({feature.role for feature in FEATURES})
['block', 'callee', 'caller', 'device', 'trunk']
"""

from __future__ import annotations

import hashlib
import json
from functools import cache

from .declarations import MEASURES
from .feature import ROLES, Feature
from .withdrawn import WITHDRAWN

FEATURES: tuple[Feature, ...] = tuple(
    sorted((feature for rows in MEASURES for feature in rows), key=lambda feature: ROLES.index(feature.role))
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
BY_NAME = {feature.name: feature for feature in FEATURES}

OWN = "own_"
"""Prefix of own columns: features that a user brings, and that this catalogue does not compute."""


def own_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names that begin with OWN.

    >>> own_columns(("call_hour", "own_tariff"))
    ('own_tariff',)
    """
    return tuple(name for name in names if name.startswith(OWN))


def select_features(names: tuple[str, ...]) -> tuple[Feature, ...]:
    """Returns the features with these names, in catalogue order."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise ValueError(f"features: expected names of the catalogue, got {', '.join(map(str, unknown))}")
    wanted = set(names)
    return tuple(feature for name, feature in BY_NAME.items() if name in wanted)


def vector_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the columns of the vectors that contain these features.

    They are all of `NAMES`, followed by the own columns among `names`.
    """
    return NAMES + own_columns(names)


@cache
def catalogue_hash() -> str:
    """Returns the SHA-256 of all definitions and of WITHDRAWN: engines with the same hash compute the same features.

    >>> len(catalogue_hash())
    64
    """
    text = json.dumps([*(feature.definition for feature in FEATURES), *WITHDRAWN], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
