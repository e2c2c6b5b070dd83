"""The scorer: turns one call and the history before it into a verdict, or a table of vectors into scores.

The order of one verdict: the vector of the call, the facts of the rules, the model's raw score, the band that the score
reaches, and the action that the policy allows for facts and band together. Scoring a call never raises.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from callsieve.features.catalogue import OWN, catalogue_hash, own_columns
from callsieve.features.online.trusted_moment import AHEAD_MS
from callsieve.features.records import KeyedCall
from callsieve.serving.bundle.level import NO_SHIFT, Shift
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.rules.policy import Policy, action_confidence, final_action, pin_feed, read_policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_input import rule_input
from callsieve.serving.rules.rules import BEHAVIOUR, PREDICTED, RULE_BY_NAME, Fact, collect_facts

from .call_facts import facts_of, unwanted_content
from .call_verdict import call_verdict, unscored
from .own_columns import OwnColumns
from .problems import MAKE_HISTORY, kind, misfit
from .served_model import ServedModel
from .verdict import Scored, Scores, Verdict, case_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from callsieve.features.arrays import Bools, Floats, Int64s
    from callsieve.features.online.history import History
    from callsieve.serving.bundle.bundle import Bundle


class Scorer(ServedModel):
    """A verified bundle and a policy, ready to score calls. A new model needs a new scorer.

    Nothing but `problems` and `networks` ever changes, so threads may share a scorer. A `History` is not safe to share:
    each thread needs its own, or a lock around `score` and `observe`. Call `check` once with the history that calls
    will use.

    Attributes:
        history_features: the features that `History` computes: all but own columns. Pass them to `History`.
        registers: the registers to look calls up in, or None.
        columns: own columns of callers, or None. Only a model with own columns needs them.

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
        self, bundle: Bundle, policy: Policy, registers: Registers | None = None, columns: OwnColumns | None = None
    ) -> None:
        """Checks the parts against each other; raises as `ServedModel`, and ValueError if the own columns lack one."""
        super().__init__(bundle, policy)
        self._own = own_columns(bundle.features)
        own = [name.removeprefix(OWN) for name in self._own]
        lacking = [name for name in own if columns is not None and OWN + name not in columns.features]
        if lacking:
            raise ValueError(f"own columns: the model needs {', '.join(lacking)}, which the table does not have")
        self.history_features = tuple(name for name in self.features if name not in self._own)
        self.registers, self.columns = registers, columns
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
        return cls(bundle, pin_feed(policy or read_policy(), feed), registers, columns)

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

    def score(self, history: History, call: KeyedCall, *, reasons: bool = True) -> Verdict:
        """Returns the verdict at ring time, from the history before the call. Never raises.

        Args:
            history: the events before the call, made as `History(scorer.history_features)`. Its windows move on
                to the call.
            call: the call, as `Intake` returns it.
            reasons: whether to give reasons if the bands and the policy lead to another action than "pass". Without
                reasons, such a verdict takes a fraction of the time.
        """
        return self.scored(history, call, reasons=reasons).verdict

    def explain(self, history: History, call: KeyedCall) -> Verdict:
        """Returns the verdict at ring time, with reasons for every action, "pass" included. Never raises."""
        return self.scored(history, call, explain=True).verdict

    def scored(
        self,
        history: History,
        call: KeyedCall,
        *,
        explain: bool = False,
        reasons: bool = True,
        end_stage: Callable[[str], object] | None = None,
    ) -> Scored:
        """Returns the verdict with the vector behind it. Never raises.

        Args:
            end_stage: called with "vector", "facts" and "forest" when this stage is over.
            explain: whether to give reasons for every action, "pass" included.
            history, call, reasons: as for `score`.
        """
        case, vector = "", None
        try:
            if type(call) is not KeyedCall:  # before `case_id`: an id of a number as written could be guessed back
                problem = f"call: expected a KeyedCall of Intake, got {kind(call)}"
                return Scored(unscored(self, "", "wrong_input", problem), None)
            case = case_id(self.bundle.model_id, call.caller, call.callee, call.start)
            if (problem := misfit(history, self.history_features, self._lacking)) != "":
                return Scored(unscored(self, case, "wrong_input", problem), None)
            try:
                vector = history.row(call)
            except ValueError:  # its text could come from a class of the host
                problem = "call: a field is not as an Intake returns it"
                return Scored(unscored(self, case, "wrong_input", problem), None)
            if self._own and self.columns is not None:
                vector.extend(self.columns.row(self._own, call.caller, call.start))
            if end_stage is not None:
                end_stage("vector")
            facts = facts_of(vector, call, self.policy.terms, self.registers)
            filling = not history.covers(call.start, self.policy.history_days)
            behind, recognised = history.lag(call.start) > AHEAD_MS, history.feed
            feed = self.feed_for(self.policy.feed or recognised)
            if self.registers is not None and not (filling or behind):
                with contextlib.suppress(Exception):  # facts of rules stay valid when a model fails
                    facts += unwanted_content(self, self.registers, vector, call, feed)
            if end_stage is not None:
                end_stage("facts")
            verdict = call_verdict(
                self,
                vector,
                call.start,
                facts,
                case=case,
                explain=explain,
                reasons=reasons,
                feed=feed,
                filling=filling,
                behind=behind,
                network=self.networks.get(feed),
                end_stage=end_stage,
            )
        except Exception as error:
            verdict = unscored(self, case, "fault", type(error).__name__)
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
            return call_verdict(
                self,
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
            return unscored(self, "", "fault", type(error).__name__)

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
            threads: threads of the model.

        Raises:
            ValueError: if `vectors` has another shape.
        """
        from .table_scores import table_scores  # with NumPy, whose import takes longer than a first verdict

        feed = self.bundle.feed if feed is None else feed
        return table_scores(self, vectors, rule_bits, covered=covered, feed=feed, shift=shift, threads=threads)

    def shift_of(self, vectors: Floats, covered: Bools | None = None, feed: str | None = None) -> Shift:
        """Returns the shift of the network that some calls are of, by the level of at most 20,000 of them, evenly.

        Args:
            vectors, covered, feed: as for `score_table`. Calls that are not covered do not count.
        """
        from .table_scores import table_shift

        feed = self.bundle.feed if feed is None else feed
        return table_shift(self, vectors, covered, feed)

    def action_if_cleared(self, verdict: Verdict) -> tuple[str, float]:
        """Returns the action for a caller whom a person has cleared on appeal, and the confidence in it.

        It follows from facts of the network and of registers alone. The model and the number's behaviour do not count.
        """
        names = [fact.rule for fact in verdict.rules if RULE_BY_NAME[fact.rule].kind not in (BEHAVIOUR, PREDICTED)]
        action = final_action(self.policy, "pass", names)
        return action, action_confidence(self.policy, action, "pass", math.nan, names)
