"""The model of a bundle under a policy: which columns it takes, and which bands apply on which feed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from callsieve.features.catalogue import vector_columns
from callsieve.features.online.feeds import NO_ROUTES, UNKNOWN_FEED, feed_lacking, lacks_of
from callsieve.serving.rules.policy import Policy, band_action
from callsieve.serving.rules.preferences import confident_class
from callsieve.serving.rules.strata import STRATA, strata_of

from .model_input import ModelInput
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
        self.networks = {feed: NetworkScores(level) for feed, level in bundle.levels.items()}

    def bands(self, feed: str) -> tuple[Band, ...]:
        """Returns the bands on a feed, from the highest threshold to the lowest; none if the bundle has none for it."""
        return self._bands.get(feed, ())

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
