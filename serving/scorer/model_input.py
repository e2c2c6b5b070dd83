"""The columns of a vector that the models of a bundle take, for one call and for a table."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from callsieve.features.catalogue import BY_NAME
from callsieve.features.online.feeds import FEEDS, NO_ROUTES, lacks_of

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats
    from callsieve.serving.bundle.bundle import Bundle


class ModelInput:
    """Takes the models' columns from vectors. On a feed without routes trunk and device count as missing.

    Records of such a feed may have a few of them. A model that was trained on such records learned from these few, so
    its input has them.
    """

    def __init__(self, bundle: Bundle, columns: Sequence[str]) -> None:
        """Takes a bundle, and the names of all columns of a vector, in order."""
        column_of = {name: column for column, name in enumerate(columns)}
        self._bundle = bundle
        self._columns = [column_of[name] for name in bundle.features]
        self._spans = _spans(self._columns)
        self._in_order = self._columns == list(range(len(columns)))
        routes = [name for name in bundle.features if name in BY_NAME and BY_NAME[name].role in ("trunk", "device")]
        self._routes = [bundle.features.index(name) for name in routes]
        blanked = () if NO_ROUTES in lacks_of(bundle.feed) else FEEDS
        self._blanked = {feed for feed in blanked if NO_ROUTES in lacks_of(feed)}

    @cached_property
    def needs_routes(self) -> bool:
        """Whether a model reads trunk or device; this may read the second model, so it waits for the first need."""
        routes = {self._bundle.features[place] for place in self._routes}
        models = (model for model in (self._bundle.model, self._bundle.second) if model is not None)
        return any(not model.split_features.isdisjoint(routes) for model in models)

    def row(self, vector: Sequence[float], feed: str) -> Sequence[float]:
        """Returns the columns of the vector of a call on a feed that the models take, in their order."""
        blanked = self._routes if feed in self._blanked else ()
        if self._in_order and not blanked:
            return vector
        row = array("d")
        for span in self._spans:
            row.extend(vector[span])
        for place in blanked:
            row[place] = math.nan
        return row

    def rows(self, vectors: Floats, feed: str) -> Floats:
        """Returns the columns that the models take for each row of a table: shape (n, features of the bundle)."""
        import numpy as np

        if feed not in self._blanked:
            return np.ascontiguousarray(vectors if self._in_order else vectors[:, self._columns])
        rows = vectors[:, self._columns]  # a copy
        rows[:, self._routes] = np.nan
        return rows


def _spans(columns: list[int]) -> list[slice]:
    """Returns slices that take these columns in order: a model has most of the catalogue, so they are few and long."""
    spans: list[slice] = []
    for column in columns:
        if spans and spans[-1].stop == column:
            spans[-1] = slice(spans[-1].start, column + 1)
        else:
            spans.append(slice(column, column + 1))
    return spans
