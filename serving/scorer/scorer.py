"""The scorer: turns one call and the history before it into a verdict, or a table of vectors into scores.

The order of one verdict: the vector of the call, the facts of the rules, the model's raw score, the band that the score
reaches, and the action that the policy allows for facts and band together. Scoring a call never raises.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from callsieve.features.catalogue import OWN, catalogue_hash, own_columns
from callsieve.features.online.trusted_moment import AHEAD_MS
from callsieve.features.records import KeyedCall
from callsieve.serving.bundle.level import NO_SHIFT, Shift, level_of
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.rules.plan_classes import plan_class
from callsieve.serving.rules.policy import (
    Policy,
    action_confidence,
    band_action,
    final_action,
    pin_feed,
    read_policy,
)
from callsieve.serving.rules.preferences import confident_class, rejected_categories
from callsieve.serving.rules.register_lookup import look_up
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_input import RuleInput, rule_input
from callsieve.serving.rules.rules import (
    BEHAVIOUR,
    FLAGGED,
    ON_LISTS,
    PREDICTED,
    RULE_BY_NAME,
    Fact,
    candidate_rules,
    collect_facts,
)
from callsieve.serving.rules.strata import strata_of, stratum_of

from .listed import Listed
from .network_scores import NetworkScores, sampled
from .own_columns import OwnColumns
from .problems import MAKE_HISTORY, kind, misfit
from .reasons import english_reasons, strongest_reasons
from .served_model import ServedModel
from .status import Status, message_of, status_of_score
from .verdict import Scored, Scores, Verdict, case_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from callsieve.features.arrays import Bools, Floats, Int64s
    from callsieve.features.online.history import History
    from callsieve.serving.bundle.bundle import Bundle


class Scorer(ServedModel):
    """A verified bundle and a policy, ready to score calls. A new model needs a new scorer.

    Nothing but `problems`, `networks` and `flags` ever changes, so threads may share a scorer. A `History` is not safe
    to share: each thread needs its own, or a lock around `score` and `observe`. Call `check` once with the history that
    calls will use.

    Attributes:
        history_features: the features that `History` computes: all but own columns. Pass them to `History`.
        registers: the registers to look calls up in, or None.
        columns: own columns of callers, or None. Only a model with own columns needs them.
        listed: lists of other issuers, or None.

    >>> from callsieve.features import Call, History, Intake, read_key
    >>> from callsieve.serving import read_public_key
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> intake, history = Intake(read_key("number.key")), History(scorer.history_features)
    >>> for second in range(30):  # half a minute of calls, each to another number, all unanswered
    ...     callee = f"136{second:08}"
    ...     call = intake(Call(1772500000.0 + second, "02887654321", callee, 1.0, 0.0, "no_answer"))
    ...     verdict = scorer.explain(history, call)
    ...     history.observe(call)
    >>> verdict.status, len(verdict.reasons) > 0  # the history is shorter than the policy's `history_days`
    ('filling', True)
    """

    def __init__(
        self,
        bundle: Bundle,
        policy: Policy,
        registers: Registers | None = None,
        columns: OwnColumns | None = None,
        listed: Listed | None = None,
    ) -> None:
        """Checks the parts against each other; raises as `ServedModel`, and ValueError if the own columns lack one."""
        super().__init__(bundle, policy)
        self._own = own_columns(bundle.features)
        own = [name.removeprefix(OWN) for name in self._own]
        lacking = [name for name in own if columns is not None and OWN + name not in columns.features]
        if lacking:
            raise ValueError(f"own columns: the model needs {', '.join(lacking)}, which the table does not have")
        self.history_features = tuple(name for name in self.features if name not in self._own)
        self.registers, self.columns, self.listed = registers, columns, listed
        self._lacking = own if columns is None else []
        if registers is not None:
            _ = registers.indexes  # built here, so that the first call does not wait for it

    def __reduce__(self) -> NoReturn:
        """Refuses: a signed bundle is checked where it serves, and its models are C memory."""
        raise TypeError("a Scorer cannot be pickled or copied: call Scorer.load in each process")

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        trusted: Iterable[Ed25519PublicKey] | None = None,
        policy: Policy | None = None,
        registers: Registers | None = None,
        columns: OwnColumns | None = None,
        listed: Listed | None = None,
        minimum_epoch: int = 0,
        feed: str = "",
    ) -> Scorer:
        """Opens a signed bundle and returns a scorer.

        All files are verified here. The models for poorer records, content and mode are read at their first use, and
        what reasons need is computed for the first reasons. To spend that time before the first call, call `prepare()`
        of `scorer.bundle.model` and `scorer.bundle.second` at start-up, and `read()` of the others.

        Args:
            folder: the bundle; by default the shipped one, trained on simulated worlds.
            trusted: public keys; one of them must have signed the bundle. Needed unless the bundle is the shipped one.
            policy: the shipped policy if None.
            registers: registers to look calls up in.
            columns: own columns of callers, for a model that has some.
            listed: lists of other issuers, as `lists.following.open_lists` opens them.
            minimum_epoch: bundles of an earlier epoch are refused, so that a withdrawn bundle cannot come back.
            feed: pins the feed of the records, such as "complete", instead of the policy's setting.

        Raises:
            BundleError: in one line, if the bundle is damaged, not signed by a trusted key, or made for another
                feature catalogue.
            TypeError: if keys are missing.
            ValueError: if the policy does not fit the bundle, the feed is unknown, or the own columns lack one of the
                model.

        >>> Scorer.load().bundle.training["learn_from"]
        'truth'
        """
        if folder is None:
            from callsieve.serving.bundle.signing import read_public_key  # with cryptography, as below

            folder, trusted = SHIPPED_BUNDLE, [read_public_key(SHIPPED_SIGNER)] if trusted is None else trusted
        if trusted is None:
            raise TypeError("trusted: expected the public keys that may have signed the bundle, from read_public_key")
        from callsieve.serving.bundle.bundle import load  # with msgspec and cryptography, which take time to import

        bundle = load(folder, trusted, minimum_epoch=minimum_epoch, expected_catalogue=catalogue_hash(), lazy=True)
        return cls(bundle, pin_feed(policy or read_policy(), feed), registers, columns, listed)

    def check(self, history: History) -> None:
        """Checks at wiring time that a history fits this scorer. A host calls it once, before the first call.

        Raises:
            TypeError: if `history` is not a `History`.
            ValueError: if the history gives other columns or another order, or the model has own columns and the
                scorer no table of them.
        """
        from callsieve.features.online.history import History  # with the kernel, which loading a model does not need

        if not isinstance(history, History):
            raise TypeError(f"history: expected a History, got {kind(history)}; {MAKE_HISTORY}")
        if (problem := misfit(history, self.history_features, self._lacking)) != "":
            raise ValueError(problem)

    def score(self, history: History, call: KeyedCall, *, reasons: bool = True, shared: int = 0) -> Verdict:
        """Returns the verdict at ring time, from the history before the call. Never raises.

        Args:
            history: the events before the call, made as `History(scorer.history_features)`. Its windows move on
                to the call.
            call: the call, as `Intake` returns it.
            reasons: whether to give reasons if the bands and the policy lead to another action than "pass". Without
                reasons, such a verdict takes a fraction of the time.
            shared: token of the caller on lists, `listed.token` of the number as written; 0 without lists.
        """
        return self.scored(history, call, reasons=reasons, shared=shared).verdict

    def explain(self, history: History, call: KeyedCall, *, shared: int = 0) -> Verdict:
        """Returns the verdict at ring time, with reasons for every action, "pass" included. Never raises."""
        return self.scored(history, call, explain=True, shared=shared).verdict

    def scored(
        self,
        history: History,
        call: KeyedCall,
        *,
        explain: bool = False,
        reasons: bool = True,
        shared: int = 0,
    ) -> Scored:
        """Returns the verdict with the vector behind it. Never raises.

        Args:
            explain: whether to give reasons for every action, "pass" included.
            history, call, reasons, shared: as for `score`.
        """
        case, vector = "", None
        try:
            if type(call) is not KeyedCall:  # before `case_id`: an id of a number as written could be guessed back
                problem = f"call: expected a KeyedCall of Intake, got {kind(call)}"
                return Scored(self._unscored("", "wrong_input", problem), None)
            case = case_id(self.bundle.model_id, call.caller, call.callee, call.start)
            if (problem := misfit(history, self.history_features, self._lacking)) != "":
                return Scored(self._unscored(case, "wrong_input", problem), None)
            try:
                vector = history.row(call)
            except ValueError:  # its text could come from a class of the host
                problem = "call: a field is not as an Intake returns it"
                return Scored(self._unscored(case, "wrong_input", problem), None)
            if self._own and self.columns is not None:
                vector.extend(self.columns.row(self._own, call.caller, call.start))
            facts = self._facts_of(vector, call)
            if shared and self.listed is not None and (listing := self.listed.at(shared, call.start)) is not None:
                on_lists = listing.rule_input(call.start, call.caller_class)
                facts += collect_facts(on_lists, self.policy.terms, None, ON_LISTS, listing.words())
            filling = not history.covers(call.start, self.policy.history_days)
            behind, recognised = history.lag(call.start) > AHEAD_MS, history.feed
            feed = self.feed_for(self.policy.feed or recognised)
            if self.registers is not None and not (filling or behind):
                with contextlib.suppress(Exception):  # facts of rules stay valid when a model fails
                    facts += self._unwanted_content(vector, call, feed)
            verdict = self._verdict(
                vector,
                call.start,
                facts,
                call=call,
                case=case,
                explain=explain,
                reasons=reasons,
                feed=feed,
                filling=filling,
                behind=behind,
                network=self.networks.get(feed),
            )
        except Exception as error:
            verdict = self._unscored(case, "fault", type(error).__name__)
        return Scored(verdict, vector)

    def explain_row(
        self,
        vector: Sequence[float],
        start: int = 0,
        facts: tuple[Fact, ...] | None = None,
        *,
        always: bool = True,
        covered: bool = True,
        behind: bool = False,
        feed: str | None = None,
        shift: Shift = NO_SHIFT,
    ) -> Verdict:
        """Returns the verdict on one row of a table, with reasons. Never raises.

        Args:
            vector: F values, in the order of `features`.
            start: start of the call, Unix ms.
            facts: the facts of the call at ring time; by default those that follow from the vector alone.
            always: whether to give reasons for every action; otherwise only if `score` would give them.
            covered: whether the history reached back far enough; otherwise every band abstains, and the score is NaN.
            behind: whether the history had moved past the start of the call; then every band abstains.
            feed: the feed of the records that the vector was computed from; by default that of the training.
            shift: of the network of the call, as from `shift_of`.
        """
        try:
            if facts is None:
                facts = collect_facts(rule_input(vector), self.policy.terms, None)
            feed = self.bundle.feed if feed is None else feed
            return self._verdict(
                vector,
                start,
                facts,
                case="",
                explain=always,
                reasons=True,
                filling=not covered,
                behind=behind,
                feed=feed,
                shift=shift,
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
        shift: Shift = NO_SHIFT,
        threads: int = 1,
    ) -> Scores:
        """Scores many calls at once.

        Args:
            vectors: float64 of shape (n, F), in the order of `features`. A row with an infinite value passes with a
                NaN score.
            rule_bits: the rules that each row meets, as `rule_bits.matching_bits` returns them, shape (n,); by default
                the rules that follow from the vectors alone.
            covered: whether the history of each row reached back far enough, shape (n,). The other rows have no
                score, and every band abstains for them. By default all rows are covered.
            feed: the feed of the records that the vectors were computed from, by default that of the training. On a
                feed without bands no call reaches one.
            shift: of the network of the calls, as from `shift_of`.
            threads: threads of the model; 0 means one for each core.

        Raises:
            ValueError: if `vectors` has another shape.
        """
        import numpy as np  # takes longer than a first verdict

        from callsieve.serving.rules.rule_bits import matching_bits, rule_columns, table_actions, table_band_actions

        feed = self.bundle.feed if feed is None else feed
        if vectors.ndim != 2 or vectors.shape[1] != len(self.features):
            raise ValueError(f"vectors: expected (n, {len(self.features)}), got {vectors.shape}")
        rows = self.model_input.rows(vectors, feed)
        finite = ~np.isinf(rows).any(axis=1)
        scored = finite if covered is None else finite & covered  # half of a long file may be its first week
        raw, (model, calibration) = np.where(finite, -np.inf, np.nan), self.bundle.risk_model(feed)
        score = np.full(len(rows), np.nan)
        if scored.any():
            scored_rows = rows if scored.all() else rows[scored]
            raw[scored] = model.predict_raw(scored_rows, threads=threads) - shift.amount
            score[scored] = calibration.probabilities(raw[scored])
        if rule_bits is None:
            rule_bits = matching_bits(rule_input(rule_columns(vectors)), self.policy.terms)
        rule_bits = np.where(finite, rule_bits, 0)  # no rule holds for a row with an infinite value
        bands = () if shift.unlike else self.bands(feed)
        by_band = table_band_actions(self.policy, bands, raw, strata_of(vectors))
        return Scores(raw, score, table_actions(self.policy, by_band, rule_bits), by_band, rule_bits, feed, shift)

    def table_explanations(self, vectors: Floats, feed: str) -> dict[str, list[str | None]]:
        """Returns content, mode and English reasons of some calls, equal to those of `explain_row`.

        Args:
            vectors, feed: as for `score_table`, without infinite values.
        """
        bundle, rows = self.bundle, self.model_input.rows(vectors, feed)
        columns: dict[str, list[str | None]] = {}
        for name, model in (("content", bundle.content), ("mode", bundle.mode)):
            likely = None if model is None else model.predict_raw(rows).argmax(axis=1)
            columns[name] = [None] * len(rows) if likely is None else [bundle.classes[name][code] for code in likely]
        contributions = bundle.risk_model(feed)[0].contributions_of(rows)[:, 0]
        return columns | {
            "reasons": ["; ".join(texts) for texts in english_reasons(bundle.features, rows, contributions)]
        }

    def shift_of(self, vectors: Floats, covered: Bools | None = None, feed: str | None = None) -> Shift:
        """Returns the shift of the network that some calls are of, by the level of at most 20,000 of them, evenly.

        Args:
            vectors, covered, feed: as for `score_table`. Calls that are not covered do not count.
        """
        import numpy as np

        feed = self.bundle.feed if feed is None else feed
        level = self.bundle.levels.get(feed)
        if level is None:
            return NO_SHIFT
        rows = sampled(np.arange(len(vectors)) if covered is None else np.flatnonzero(covered))
        return level.shift(level_of(self.score_table(vectors[rows], feed=feed).raw.tolist()))

    def action_if_cleared(self, verdict: Verdict) -> tuple[str, float]:
        """Returns the action for a caller whom a person has cleared on appeal, and the confidence in it.

        It follows from facts of the network and of registers alone. The model and the number's behaviour do not count.
        """
        names = [fact.rule for fact in verdict.rules if RULE_BY_NAME[fact.rule].kind not in (BEHAVIOUR, PREDICTED)]
        action = final_action(self.policy, "pass", names)
        return action, action_confidence(self.policy, action, "pass", math.nan, names)

    def _facts_of(self, vector: Sequence[float], call: KeyedCall) -> tuple[Fact, ...]:
        terms, registers = self.policy.terms, self.registers
        own_number = call.caller == call.callee
        facts = rule_input(vector, float(own_number))
        if registers is not None:
            return collect_facts(look_up(registers, call, terms, facts), terms, registers)
        rules = candidate_rules(
            call.attestation, call.route, call.caller_class, call.callee_class, call.presented_differs, own_number
        )
        return collect_facts(facts, terms, None, rules)

    def _unwanted_content(self, vector: Sequence[float], call: KeyedCall, feed: str) -> tuple[Fact, ...]:
        """Returns the fact that the call is likely of a category that the called person rejects, if it is."""
        bundle, terms = self.bundle, self.policy.terms
        row_of = rejected_categories(self.registers, call.callee, call.start, bundle.classes.get("content", ()))
        if not row_of or bundle.content is None:
            return ()
        row = self.model_input.row(vector, feed)
        model, _ = bundle.risk_model(feed)
        network = self.networks.get(feed)
        shift = NO_SHIFT if network is None else network.shift
        if shift.unlike or not self.reaches_band(model.predict_one(row) - shift.amount, stratum_of(vector), feed):
            return ()
        content = confident_class(bundle.content.predict_few([row])[0], bundle.classes["content"], terms.content_share)
        if content is None or content not in row_of:
            return ()
        predicted = RuleInput(unwanted=1.0, rows={"preferences": row_of[content]})
        return collect_facts(predicted, terms, self.registers)

    def _verdict(
        self,
        vector: Sequence[float],
        start: int,
        facts: tuple[Fact, ...],
        *,
        call: KeyedCall | None = None,
        case: str,
        explain: bool,
        reasons: bool,
        feed: str,
        filling: bool,
        behind: bool = False,
        shift: Shift = NO_SHIFT,
        network: NetworkScores | None = None,
    ) -> Verdict:
        """Scores the vector. Facts keep their action when the model fails.

        Args:
            start: start of the call, Unix ms.
            call: the call whose number may be flagged; None if `facts` says so.
            explain: whether to give reasons for every action, "pass" included.
            reasons: whether to give reasons at all.
            feed: the feed of the records.
            filling: whether the history does not reach back far enough, so there is no score and every band abstains.
            behind: whether the history has moved past the start of the call, so every band abstains.
            shift: of the network of the call.
            network: the scores of the network so far, which give the shift in place of `shift`.
        """
        bundle, policy = self.bundle, self.policy
        try:
            row = self.model_input.row(vector, feed)
            model, calibration = bundle.risk_model(feed)
            raw = model.predict_one(row)
        except Exception as error:
            return self._unscored(case, "fault", type(error).__name__, facts)
        if not math.isfinite(raw):
            return self._unscored(case, "fault", "the model's raw score is not finite", facts)
        if network is not None:
            shift = network.shift
            if not (filling or behind):
                network.add(start, raw)
        raw -= shift.amount
        stratum, bands = stratum_of(vector), () if shift.unlike else self.bands(feed)
        by_band, band = ("pass", "") if filling or behind else band_action(policy, bands, raw, stratum)
        if band and call is not None and self.acts_on_flags and raw >= self.flag_threshold(stratum, feed):
            events = self.flags.events(call.caller, call.trunk, start, caught=band == bands[0].name)
            flagged = RuleInput(flag_events=float(events), caller_class=float(call.caller_class))
            facts += collect_facts(flagged, policy.terms, None, (RULE_BY_NAME[FLAGGED],))
        status, message = status_of_score(
            stale=start > self.valid_until_ms,
            behind=behind,
            filling=filling,
            other_feed=not self.bands(feed),
            unlike=shift.unlike,
            silent=self.is_silent(stratum, feed),
            detail=shift.detail,
        )
        rules = [fact.rule for fact in facts]
        action = final_action(policy, by_band, rules)
        # The raw score of a call without a week before it is no probability: an ordinary first call would have 0.9.
        score = math.nan if filling else calibration.probability(raw)
        explain = explain or "pass" not in (by_band, action)
        content = self._likely_class("content", row) if explain else None
        return Verdict(
            action=action,
            score=score,
            band=band,
            content=content,
            mode=self._likely_class("mode", row) if explain else None,
            reasons=strongest_reasons(bundle.features, row, model.contributions(row)[0]) if explain and reasons else (),
            status=status,
            case=case,
            model=bundle.model_id,
            valid_until=bundle.valid_until,
            raw=raw,
            threshold=next((item.threshold_for(stratum) for item in bands if item.name == band), math.nan),
            rules=facts,
            feed=feed,
            shift=shift.amount,
            confidence=action_confidence(policy, action, by_band, score, rules),
            message=message,
            plan_class="" if action == "pass" else plan_class(content if by_band != "pass" else None, rules),
        )

    def _unscored(self, case: str, status: Status, detail: str, facts: tuple[Fact, ...] = ()) -> Verdict:
        """Returns the verdict on a call without a score, whose action follows from its facts, and notes the problem."""
        message = message_of(status, detail)
        self.problems.note(status, message, case)
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

    def _likely_class(self, name: str, row: Sequence[float]) -> str | None:
        model = self.bundle.content if name == "content" else self.bundle.mode
        if model is None:
            return None
        (raw,) = model.predict_few([row])
        return self.bundle.classes[name][raw.index(max(raw))]
