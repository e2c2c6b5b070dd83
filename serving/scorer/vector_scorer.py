"""A bundle and a policy on vectors of calls: the verdict on one row, or the scores of a table.

The order of one verdict: the facts of the rules, the model's raw score, the band that the score reaches, and the action
that the policy allows for facts and band together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from callsieve.features.catalogue import vector_columns
from callsieve.serving.rules.plan_classes import plan_class
from callsieve.serving.rules.policy import ACTIONS, Policy, action_confidence, band_action, final_action
from callsieve.serving.rules.preferences import confident_class
from callsieve.serving.rules.rule_input import rule_input
from callsieve.serving.rules.rules import BEHAVIOUR, PREDICTED, RULE_BY_NAME, Fact, collect_facts
from callsieve.serving.rules.strata import STRATA, strata_of, stratum_of

from .problems import ProblemLog
from .reasons import Reason, strongest_reasons
from .status import Status, message_of, status_of_score
from .verdict import Scores, Verdict

if TYPE_CHECKING:
    from callsieve.features.arrays import Bools, Floats, Int64s
    from callsieve.serving.bundle.bundle import Bundle
    from callsieve.serving.bundle.forest import Forest
    from callsieve.serving.bundle.metadata import Band


class VectorScorer:
    """Scores vectors of calls. `Scorer` computes them from a history.

    Attributes:
        features: names of the columns of a vector, in order.
        bundle: the verified bundle.
        policy: the policy that turns facts and bands into actions.
        valid_until_ms: end of the model's validity, Unix ms.
        problems: counts the calls with the status "wrong_input" or "fault", and logs each at most once a minute.
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
        column_of = {name: column for column, name in enumerate(self.features)}
        self._columns = [column_of[name] for name in bundle.features]
        # The last column twice: an itemgetter of one column would not return a tuple.
        self._pick = itemgetter(*self._columns, self._columns[-1])
        self._in_order = self._columns == list(range(len(self.features)))
        self._bands = {bundle.feed: bundle.thresholds, **bundle.feeds}

    def explain_row(
        self,
        vector: Sequence[float],
        start: int = 0,
        facts: tuple[Fact, ...] | None = None,
        *,
        always: bool = True,
        covered: bool = True,
        feed: str | None = None,
    ) -> Verdict:
        """Returns the verdict on one row of a table, with reasons. Never raises.

        Args:
            vector: F values, in the order of `features`.
            start: start of the call, Unix ms.
            facts: the facts of the call at ring time; by default those that follow from the vector alone.
            always: whether to give reasons for every action; otherwise only if `score` would give them.
            covered: whether the history reached back far enough; otherwise every band abstains.
            feed: the feed of the records that the vector was computed from; by default that of the training.
        """
        try:
            if facts is None:
                facts = collect_facts(rule_input(vector), self.policy.terms, None)
            feed = self.bundle.feed if feed is None else feed
            return self._verdict(
                vector, start, facts, case="", explain=always, reasons=True, filling=not covered, feed=feed
            )
        except Exception as error:
            return self._unscored("", "fault", type(error).__name__)

    def score_table(
        self,
        vectors: Floats,
        rule_bits: Int64s | None = None,
        *,
        covered: Bools | None = None,
        feed: str | None = None,
        threads: int = 1,
    ) -> Scores:
        """Scores many calls at once.

        Args:
            vectors: float64 of shape (n, F), in the order of `features`. A row with an infinite value passes with a
                NaN score.
            rule_bits: the rules that each row meets, as `rule_bits.matching_bits` returns them, shape (n,); by default
                the rules that follow from the vectors alone.
            covered: whether the history of each row reached back far enough, shape (n,); every band abstains for the
                other rows. By default all rows are covered.
            feed: the feed of the records that the vectors were computed from, by default that of the training. On a
                feed without bands no call reaches one.
            threads: threads of the model.

        Raises:
            ValueError: if `vectors` has another shape.
        """
        import numpy as np  # a single call needs no NumPy, and importing it takes longer than a first verdict

        from callsieve.serving.rules.rule_bits import matching_bits, rule_columns, table_actions, table_band_actions

        if vectors.ndim != 2 or vectors.shape[1] != len(self.features):
            raise ValueError(f"vectors: expected (n, {len(self.features)}), got {vectors.shape}")
        feed = self.bundle.feed if feed is None else feed
        rows = np.ascontiguousarray(vectors if self._in_order else vectors[:, self._columns])
        finite = ~np.isinf(rows).any(axis=1)
        raw, (model, calibration) = np.full(len(rows), np.nan), self.bundle.risk_model(feed)
        if finite.any():
            finite_rows = rows if finite.all() else rows[finite]
            raw[finite] = model.predict_raw(finite_rows, threads=threads)
        score = np.full(len(rows), np.nan)
        score[finite] = calibration.probabilities(raw[finite])
        if rule_bits is None:
            rule_bits = matching_bits(rule_columns(vectors), None, self.policy.terms)
        rule_bits = np.where(finite, rule_bits, 0)  # no rule holds for a row with an infinite value
        by_band = table_band_actions(self.policy, self.bands(feed), raw, strata_of(vectors))
        if covered is not None:
            by_band[~covered] = ACTIONS.index("pass")
        return Scores(raw, score, table_actions(self.policy, by_band, rule_bits), by_band, rule_bits, feed)

    def bands(self, feed: str) -> tuple[Band, ...]:
        """Returns the bands on a feed, from the highest threshold to the lowest; none if the bundle has none for it."""
        return self._bands.get(feed, ())

    def abstaining_strata(self, vectors: Floats, feed: str) -> list[str | None]:
        """Returns the stratum of each call for which every band abstains, and None for the other calls.

        Args:
            vectors, feed: as for `score_table`; None for all calls on a feed without bands.
        """
        bands = self.bands(feed)
        without_band = {name for name in STRATA if bands and all(name in band.abstains for band in bands)}
        strata = (STRATA[code] for code in strata_of(vectors).tolist())
        return [name if name in without_band else None for name in strata]

    def content_classes(self, vectors: Floats) -> list[str | None]:
        """Returns the likely content of each call, or None where the content model is not sure enough or is missing.

        Args:
            vectors: as for `score_table`, of calls that reach a band.
        """
        if self.bundle.content is None or not len(vectors):
            return [None] * len(vectors)
        raw = self.bundle.content.predict_raw(vectors[:, self._columns])
        return [self._confident_class(row) for row in raw.tolist()]

    def reaches_band(self, raw: float, stratum: str, feed: str) -> bool:
        """Returns whether a raw score reaches any band on the feed that does not abstain for the stratum."""
        return band_action(self.policy, self.bands(feed), raw, stratum)[1] != ""

    def action_if_cleared(self, verdict: Verdict) -> tuple[str, float]:
        """Returns the action for a caller whom a person has cleared on appeal, and the confidence in it.

        It follows from facts of the network and of registers alone. The model and the number's behaviour do not count.
        """
        names = [fact.rule for fact in verdict.rules if RULE_BY_NAME[fact.rule].kind not in (BEHAVIOUR, PREDICTED)]
        action = final_action(self.policy, "pass", names)
        return action, action_confidence(self.policy, action, "pass", math.nan, names)

    def _verdict(
        self,
        vector: Sequence[float],
        start: int,
        facts: tuple[Fact, ...],
        *,
        case: str,
        explain: bool,
        reasons: bool,
        feed: str,
        filling: bool,
        behind: bool = False,
    ) -> Verdict:
        """Scores the vector. Facts keep their action when the model fails.

        Args:
            feed: the feed of the records.
            filling: whether the history does not reach back far enough, so every band abstains.
            behind: whether the history has moved past the start of the call, so every band abstains.
        """
        try:
            row = self._model_row(vector)
            model, calibration = self.bundle.risk_model(feed)
            raw = model.predict_one(row)
        except Exception as error:
            return self._unscored(case, "fault", type(error).__name__, facts)
        if not math.isfinite(raw):
            return self._unscored(case, "fault", "the model's raw score is not finite", facts)
        stratum, bands = stratum_of(vector), self.bands(feed)
        by_band, band = ("pass", "") if filling or behind else band_action(self.policy, bands, raw, stratum)
        status, message = status_of_score(
            stale=start > self.valid_until_ms,
            behind=behind,
            filling=filling,
            other_feed=not bands,
            silent=bool(bands) and all(stratum in item.abstains for item in bands),
        )
        rules = [fact.rule for fact in facts]
        action, score = final_action(self.policy, by_band, rules), calibration.probability(raw)
        explain = explain or "pass" not in (by_band, action)
        content = self._class_of("content", row) if explain else None
        return Verdict(
            action=action,
            score=score,
            band=band,
            content=content,
            mode=self._class_of("mode", row) if explain else None,
            reasons=self._reasons(model, row) if explain and reasons else (),
            status=status,
            case=case,
            model=self.bundle.model_id,
            valid_until=self.bundle.valid_until,
            raw=raw,
            threshold=next((item.threshold_for(stratum) for item in bands if item.name == band), math.nan),
            rules=facts,
            feed=feed,
            confidence=action_confidence(self.policy, action, by_band, score, rules),
            message=message,
            plan_class="" if action == "pass" else plan_class(content if by_band != "pass" else None, rules),
        )

    def _unscored(self, case: str, status: Status, detail: str, facts: tuple[Fact, ...] = ()) -> Verdict:
        message = message_of(status, detail)
        self.problems.note(status, message)
        rules = [fact.rule for fact in facts]
        action = final_action(self.policy, "pass", rules)
        return Verdict(
            action=action,
            score=math.nan,
            band="",
            content=None,
            mode=None,
            reasons=(),
            status=status,
            case=case,
            model=self.bundle.model_id,
            valid_until=self.bundle.valid_until,
            rules=facts,
            confidence=action_confidence(self.policy, action, "pass", math.nan, rules),
            message=message,
            plan_class="" if action == "pass" else plan_class(None, rules),
        )

    def _model_row(self, vector: Sequence[float]) -> Sequence[float]:
        """Returns the columns of the vector that the model takes, in the model's order."""
        return vector if self._in_order else self._pick(vector)[:-1]

    def _reasons(self, model: Forest, row: Sequence[float]) -> tuple[Reason, ...]:
        (contributions,) = model.contributions(row)
        return strongest_reasons(self.bundle.features, row, contributions)

    def _class_of(self, name: str, row: Sequence[float]) -> str | None:
        model: Forest | None = getattr(self.bundle, name)
        if model is None:
            return None
        (raw,) = model.predict_few([row])
        return self.bundle.classes[name][raw.index(max(raw))]

    def _confident_class(self, raw: Sequence[float]) -> str | None:
        return confident_class(raw, self.bundle.classes["content"], self.policy.terms.content_share)
