"""The model of a bundle under a policy: which columns it takes, and which bands apply on which feed."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from callsieve.features.catalogue import BY_NAME, vector_columns
from callsieve.features.online.feeds import FEEDS, NO_ROUTES, UNKNOWN_FEED, feed_lacking, lacks_of
from callsieve.serving.rules.policy import Policy, band_action
from callsieve.serving.rules.preferences import confident_class
from callsieve.serving.rules.rules import FLAGGED
from callsieve.serving.rules.strata import STRATA, strata_of

from .flags import NAME, Flags
from .network_scores import NetworkScores
from .problems import ProblemLog

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats
    from callsieve.serving.bundle.bundle import Bundle
    from callsieve.serving.bundle.metadata import Band


class ServedModel:
    """A verified bundle under a policy.

    Attributes:
        features: names of the columns of a vector, in order.
        bundle: the verified bundle.
        policy: the policy that turns facts and bands into actions.
        valid_until_ms: end of the model's validity, Unix ms.
        problems: counts the calls with the status "wrong_input" or "fault", and logs each at most once a minute.
        model_input: takes the columns from a vector that the models take.
        flags: the numbers whose calls reached the highest band, for the rule `flagged`.
        acts_on_flags: whether the policy has an action for this rule; otherwise no number is flagged.
        networks: by feed, a sample of the scores so far. Thresholds that are distances from the score level of a
            network follow from it. It is empty for a model with fixed thresholds.
    """

    def __init__(self, bundle: Bundle, policy: Policy) -> None:
        """Checks that this version computes the bundle's features and that the bundle has the policy's bands.

        Raises:
            BundleError: if the bundle needs a feature that this version does not compute.
            ValueError: if the policy names a band that the bundle does not have.
        """
        self.features = vector_columns(bundle.features)
        missing = [name for name in bundle.features if name not in self.features]
        if missing:
            from callsieve.serving.bundle.bundle import BundleError

            raise BundleError(
                f"bundle needs features that this version does not compute: {', '.join(missing[:3])}; "
                "train a new bundle with this version"
            )
        names = [band.name for band in bundle.thresholds]
        unknown = policy.bands.keys() - set(names)
        if unknown:
            raise ValueError(
                f"policy {policy.version}: bands: the bundle has no band {', '.join(sorted(unknown))}; "
                f"expected {', '.join(names)}"
            )
        self.bundle, self.policy, self.problems = bundle, policy, ProblemLog()
        self.valid_until_ms = datetime.fromisoformat(bundle.valid_until).timestamp() * 1000
        self.model_input = ModelInput(bundle, self.features)
        self._bands = {bundle.feed: bundle.thresholds, **bundle.feeds}
        self.flags, self.acts_on_flags = Flags(), policy.of_rule(FLAGGED) != "pass"
        self.networks = {feed: NetworkScores(level) for feed, level in bundle.levels.items()}

    def bands(self, feed: str) -> tuple[Band, ...]:
        """Returns the bands on a feed, from the highest threshold to the lowest; none if the bundle has none for it."""
        return self._bands.get(feed, ())

    def flag_threshold(self, stratum: str, feed: str) -> float:
        """Returns the lowest raw score at which the rule `flagged` holds; infinity where it never holds."""
        band = self.bundle.flags.get(feed)
        return band.threshold_for(stratum) if band is not None and band.name == NAME else math.inf

    def feed_fault(self, feed: str) -> str:
        """Returns that no band applies on a feed, and the feeds that have bands, in one line; "" if some apply."""
        if self.bands(feed):
            return ""
        known = ", ".join(map(repr, self._bands))
        return f"the feed of the records is {feed!r}; the model has thresholds for the feeds {known}"

    def is_silent(self, stratum: str, feed: str) -> bool:
        """Returns whether every band on the feed abstains for the stratum; False without bands."""
        bands = self.bands(feed)
        return bool(bands) and all(stratum in band.abstains for band in bands)

    def feed_for(self, feed: str) -> str:
        """Returns the feed whose bands apply to records on a feed.

        That is the feed itself if the bundle has bands for it. A model that reads neither trunk nor device scores
        records with and without them alike, so the bands of the other feed apply.
        """
        if feed in self._bands or feed == UNKNOWN_FEED or self.model_input.needs_routes:
            return feed
        other = feed_lacking({*lacks_of(feed)} ^ {NO_ROUTES})
        return other if other in self._bands else feed

    def abstaining_strata(self, vectors: Floats, feed: str) -> list[str | None]:
        """Returns the stratum of each call for which every band abstains, and None for the other calls.

        Args:
            vectors, feed: as for `score_table`; None for all calls on a feed without bands.
        """
        silent = [name if self.is_silent(name, feed) else None for name in STRATA]
        return [silent[code] for code in strata_of(vectors).tolist()]

    def content_classes(self, vectors: Floats, feed: str) -> list[str | None]:
        """Returns the likely content of each call, or None where the content model is not sure enough or is missing.

        Args:
            vectors: as for `score_table`, of calls that reach a band.
            feed: the feed of the records.
        """
        if self.bundle.content is None or not len(vectors):
            return [None] * len(vectors)
        raw = self.bundle.content.predict_raw(self.model_input.rows(vectors, feed))
        names, share = self.bundle.classes["content"], self.policy.terms.content_share
        return [confident_class(row, names, share) for row in raw.tolist()]

    def reaches_band(self, raw: float, stratum: str, feed: str) -> bool:
        """Returns whether a raw score, less the shift, reaches any band on the feed that does not abstain."""
        return band_action(self.policy, self.bands(feed), raw, stratum)[1] != ""


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
    spans: list[slice] = []
    for column in columns:
        if spans and spans[-1].stop == column:
            spans[-1] = slice(spans[-1].start, column + 1)
        else:
            spans.append(slice(column, column + 1))
    return spans
