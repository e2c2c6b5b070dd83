"""The scorer: a call and the history before it, to a verdict. Whatever happens, there is a verdict."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from callsieve.features.catalogue import catalogue_hash, vector_columns
from callsieve.features.online.history import History
from callsieve.features.records import KeyedCall
from callsieve.serving.bundle.booster import Booster
from callsieve.serving.bundle.bundle import Bundle, BundleError, load
from callsieve.serving.rules.policy import ACTIONS, Policy, band_action, certified_action, final_action, read_policy
from callsieve.serving.rules.preferences import confident_class, rejected_categories
from callsieve.serving.rules.register_lookup import look_up
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_input import RuleInput, rule_input
from callsieve.serving.rules.rules import BEHAVIOUR, PREDICTED, RULE_BY_NAME, Fact, candidate_rules, facts
from callsieve.serving.rules.strata import STRATA, strata_of, stratum_of

from .reasons import Reason, reasons
from .verdict import FILLING, Scores, Verdict, case_id

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Scorer:
    """A verified bundle and a policy, ready to judge calls. Immutable; to change the model make another scorer.

    `features` are the names that its vectors hold, in their order: what `History` is to be made with.
    `registers`, if there are any, are asked about each call.

    >>> from callsieve.features import Call, History, Intake, read_key
    >>> from callsieve.serving import read_public_key
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> intake, history = Intake(read_key("number.key")), History(scorer.features)
    >>> for second in range(30):  # half a minute of calls, each to another person, none taken
    ...     callee = f"136{second:08}"
    ...     call = intake(Call(1772500000.0 + second, "02887654321", callee, 1.0, 0.0, "no_answer"))
    ...     verdict = scorer.explain(history, call)
    ...     history.observe(call)
    >>> verdict.status, len(verdict.reasons) > 0  # nobody knows what was before these calls
    ('filling', True)
    """

    def __init__(self, bundle: Bundle, policy: Policy, registers: Registers | None = None) -> None:
        self.features = vector_columns(bundle.features)
        unknown = [name for name in bundle.features if name not in self.features]
        if unknown:
            raise BundleError(f"bundle needs features that this version does not compute: {', '.join(unknown[:3])}")
        odd = policy.bands.keys() - {band.name for band in bundle.thresholds}
        if odd:
            raise ValueError(f"policy names bands that the bundle does not have: {', '.join(sorted(odd))}")
        self.bundle = bundle
        self.policy, self.registers = policy, registers
        if registers is not None:
            _ = registers.indexes  # made now, so that no call waits for it
        place = {name: column for column, name in enumerate(self.features)}
        self._columns = [place[name] for name in bundle.features]
        # The last place twice: of one place alone it would give no tuple.
        self._picked = itemgetter(*self._columns, self._columns[-1])
        self._as_they_come = self._columns == list(range(len(self.features)))
        self._bands = {band.name: band for band in bundle.thresholds}
        self._until = datetime.fromisoformat(bundle.valid_until).timestamp() * 1000

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        trusted: Iterable[Ed25519PublicKey],
        policy: Policy | None = None,
        registers: Registers | None = None,
        minimum_epoch: int = 0,
    ) -> Scorer:
        """Open a signed bundle.

        Its first reasons take some 60 ms more than others, for a host that wants none waits for nothing;
        `scorer.bundle.contributions.prepare()` takes that time beforehand.

        Raises:
            Refused: in one line, if the bundle is not whole, not signed by a trusted key, or not of this catalogue.
        """
        bundle = load(folder, trusted, minimum_epoch=minimum_epoch, expected_catalogue=catalogue_hash())
        return cls(bundle, policy or read_policy(), registers)

    def score(self, history: History, call: KeyedCall, *, reasons: bool = True) -> Verdict:
        """The verdict at ring time, from what `history` knew before the call. Never raises.

        Args:
            reasons: give them where the call does not just pass; without them such a verdict takes half the time.
        """
        return self._judge(history, call, explain=False, reasons=reasons)

    def explain(self, history: History, call: KeyedCall) -> Verdict:
        """Like `score`, with reasons also for a call that passes."""
        return self._judge(history, call, explain=True)

    def score_table(
        self,
        vectors: npt.NDArray[np.float64],
        met: npt.NDArray[np.int64] | None = None,
        *,
        filled: npt.NDArray[np.bool_] | None = None,
        threads: int = 1,
    ) -> Scores:
        """Scores and actions of many calls.

        Args:
            vectors: float64 (n, len(self.features)), as from `features.table.vectors`, and after them those of
                `features.reports.report_vectors` if the model has such features; a row with an infinite value passes
                with a NaN score.
            met: the rules that each row meets, as from `ruled.rule_bits`; by default as far as the vectors tell.
            filled: of which rows enough was known of the week before, as from `features.filled.filled_rows`: of others
                no band says anything; by default of all.
        Raises:
            ValueError: if the width is another one.
        """
        import numpy as np  # a single call needs none of these: they take longer to import than a first verdict takes

        from callsieve.serving.rules.rule_bits import rule_bits, rule_columns, table_actions

        if vectors.ndim != 2 or vectors.shape[1] != len(self.features):
            raise ValueError(f"vectors: expected (n, {len(self.features)}), got {vectors.shape}")
        rows = np.ascontiguousarray(vectors[:, self._columns])
        sound = ~np.isinf(rows).any(axis=1)
        raw = np.full(len(rows), np.nan)
        if sound.any():
            raw[sound] = self.bundle.model.predict_raw(rows[sound], threads=threads)
        score = np.full(len(rows), np.nan)
        score[sound] = self.bundle.calibration.probabilities(raw[sound])
        met = rule_bits(rule_columns(vectors), None, self.policy.terms) if met is None else met
        met = np.where(sound, met, 0)  # of a broken row nothing is true
        banded = self._banded(raw, strata_of(vectors))
        if filled is not None:
            banded[~filled] = ACTIONS.index("pass")
        return Scores(raw, score, table_actions(self.policy, banded, met), banded, met)

    def _banded(self, raw: npt.NDArray[np.float64], stratum: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        import numpy as np

        action = np.zeros(len(raw), dtype=np.int8)
        for band in self.bundle.thresholds:
            reached = raw >= band.threshold
            for code in np.unique(stratum[reached]):
                name = STRATA[code]
                word = certified_action(self.policy.of_band(band.name), band, name)
                rows = (raw >= band.threshold_for(name)) & (stratum == code)
                action[rows] = np.maximum(action[rows], ACTIONS.index(word))
        return action

    def silent(self, vectors: npt.NDArray[np.float64]) -> list[str | None]:
        """The stratum of each call of which no band says anything, whatever its score; None where one may.

        Args:
            vectors: as for `score_table`.
        """
        mute = {name for name in STRATA if all(name in band.silent for band in self.bundle.thresholds)}
        return [name if (name := STRATA[code]) in mute else None for code in strata_of(vectors).tolist()]

    def explain_row(
        self,
        vector: Sequence[float],
        start: int = 0,
        told: tuple[Fact, ...] | None = None,
        *,
        always: bool = True,
        filled: bool = True,
    ) -> Verdict:
        """The verdict on a row of a table, with reasons. Never raises.

        Args:
            start: of the call, Unix milliseconds.
            told: the facts that were found when it rang; by default those that the row shows.
            always: with reasons also where bands lead to nothing; else only where `score` gives them.
            filled: whether enough was known of the week before the call for bands to say anything.
        """
        try:
            told = facts(rule_input(vector), self.policy.terms, None) if told is None else told
            return self._verdict(vector, start, case="", explain=always, told=told, filled=filled)
        except Exception as error:
            return self._unscored("", f"no score: {type(error).__name__}")

    def action_if_cleared(self, verdict: Verdict) -> str:
        """What is done with the call of a caller whom a person has cleared.

        Neither the model nor how the number behaves counts; what the network saw and what registers say does.
        """
        kept = [fact.rule for fact in verdict.rules if RULE_BY_NAME[fact.rule].kind not in (BEHAVIOUR, PREDICTED)]
        return final_action(self.policy, "pass", kept)

    def likely(self, vectors: npt.NDArray[np.float64], *, threads: int = 1) -> list[str | None]:
        """What each call is about, of the classes of contents; None where the model is not sure enough, or is none.

        Args:
            vectors: as for `score_table`, of calls that reached a band.
        """
        if self.bundle.content is None or not len(vectors):
            return [None] * len(vectors)
        raw = self.bundle.content.predict_raw(vectors[:, self._columns], threads=threads)
        return [self._surely(row) for row in raw.tolist()]

    def _surely(self, raw: Sequence[float]) -> str | None:
        return confident_class(raw, self.bundle.classes["content"], self.policy.terms.content_share)

    def reached(self, raw: float, stratum: str) -> bool:
        """Whether a score reaches any band that says something of this stratum."""
        return band_action(self.policy, self.bundle.thresholds, raw, stratum)[1] != ""

    def _judge(self, history: History, call: KeyedCall, *, explain: bool, reasons: bool = True) -> Verdict:
        case = ""
        try:
            case = case_id(self.bundle.model_id, call.caller, call.callee, call.start)
            vector = history.row(call)
            told = self._facts(vector, call)
            filled = history.filled(call.start, self.policy.history_days)
            if filled and self.registers is not None:
                with contextlib.suppress(Exception):  # what rules say stands, also where a model fails
                    told += self._guessed(vector, call)
            return self._verdict(
                vector, call.start, case=case, explain=explain, told=told, reasons=reasons, filled=filled
            )
        except Exception as error:
            return self._unscored(case, f"no score: {type(error).__name__}")

    def _facts(self, vector: Sequence[float], call: KeyedCall) -> tuple[Fact, ...]:
        terms, registers, own_number = self.policy.terms, self.registers, call.caller == call.callee
        if registers is not None:
            return facts(rule_input(vector, look_up(registers, call, terms), float(own_number)), terms, registers)
        shown = call.attestation, call.route, call.caller_class, call.callee_class, call.presented_differs
        return facts(rule_input(vector, None, float(own_number)), terms, None, candidate_rules(*shown, own_number))

    def _guessed(self, vector: Sequence[float], call: KeyedCall) -> tuple[Fact, ...]:
        """That the call is likely of a kind that the called person rejects."""
        places = rejected_categories(self.registers, call.callee, call.start, self.bundle.classes.get("content", ()))
        if not places or self.bundle.content is None:
            return ()
        row = self._row(vector)
        if not self.reached(self.bundle.model.predict_one(row), stratum_of(vector)):
            return ()
        content = self._surely(self.bundle.content.predict_few([row])[0])
        if content is None or content not in places:
            return ()
        found = RuleInput(unwanted=1.0, rows={"preferences": places[content]})
        return facts(found, self.policy.terms, self.registers)

    def _verdict(
        self,
        vector: Sequence[float],
        start: int,
        *,
        case: str,
        explain: bool,
        told: tuple[Fact, ...],
        reasons: bool = True,
        filled: bool = True,
    ) -> Verdict:
        """Rules first: what they say stands, also where the model fails."""
        names = [fact.rule for fact in told]
        try:
            row = self._row(vector)
            raw = self.bundle.model.predict_one(row)
        except Exception as error:
            return self._unscored(case, f"no score: {type(error).__name__}", told)
        if not math.isfinite(raw):
            return self._unscored(case, "no score: the model gave none that is finite", told)
        stratum = stratum_of(vector)
        banded, band = band_action(self.policy, self.bundle.thresholds, raw, stratum) if filled else ("pass", "")
        action = final_action(self.policy, banded, names)
        explain = explain or "pass" not in (banded, action)
        return Verdict(
            action=action,
            score=self.bundle.calibration.probability(raw),
            band=band,
            content=self._kind("content", row) if explain else None,
            mode=self._kind("mode", row) if explain else None,
            reasons=self._why(row) if explain and reasons else (),
            status=FILLING if not filled else "stale" if start > self._until else "ok",
            case=case,
            model=self.bundle.model_id,
            valid_until=self.bundle.valid_until,
            raw=raw,
            threshold=self._bands[band].threshold_for(stratum) if band else math.nan,
            rules=told,
        )

    def _row(self, vector: Sequence[float]) -> Sequence[float]:
        """What the model takes of a vector."""
        return vector if self._as_they_come else self._picked(vector)[:-1]

    def _why(self, row: Sequence[float]) -> tuple[Reason, ...]:
        return reasons(self.bundle.features, row, self.bundle.contributions(row))

    def _kind(self, name: str, row: Sequence[float]) -> str | None:
        model: Booster | None = getattr(self.bundle, name)
        if model is None:
            return None
        (raw,) = model.predict_few([row])
        return self.bundle.classes[name][raw.index(max(raw))]

    def _unscored(self, case: str, status: str, told: tuple[Fact, ...] = ()) -> Verdict:
        action = final_action(self.policy, "pass", [fact.rule for fact in told])
        model, until = self.bundle.model_id, self.bundle.valid_until
        return Verdict(action, math.nan, "", None, None, (), status, case, model, until, rules=told)
