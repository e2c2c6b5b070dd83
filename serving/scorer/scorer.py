"""The scorer: turns one call and the history before it into a verdict. Scoring never raises.

It computes the vector of the call, looks up the facts of the rules, and decides as `vector_scorer` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from callsieve.features.catalogue import OWN, catalogue_hash, own_columns
from callsieve.features.online.history import History
from callsieve.features.online.trusted_moment import AHEAD_MS
from callsieve.features.records import KeyedCall
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.rules.policy import Policy, read_policy
from callsieve.serving.rules.preferences import rejected_categories
from callsieve.serving.rules.register_lookup import look_up
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_input import RuleInput, rule_input
from callsieve.serving.rules.rules import Fact, candidate_rules, collect_facts
from callsieve.serving.rules.strata import stratum_of

from .own_columns import OwnColumns
from .vector_scorer import VectorScorer
from .verdict import Scored, Verdict, case_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from callsieve.serving.bundle.bundle import Bundle

MAKE_HISTORY = "make it as History(scorer.history_features)"


class Scorer(VectorScorer):
    """A verified bundle and a policy, ready to score calls. A new model needs a new scorer.

    Nothing but `problems` ever changes, so threads may share a scorer. A `History` is not safe to share: each thread
    needs its own, or a lock around `score` and `observe`. Call `check` once with the history that calls will use.

    Attributes:
        features: names of the columns of a vector, in order.
        history_features: the features that `History` computes: all but own columns. Pass them to `History`.
        bundle: the verified bundle.
        policy: the policy that turns facts and bands into actions.
        registers: the registers to look calls up in, or None.
        columns: own columns of callers, or None. Only a model with own columns needs them.
        valid_until_ms: end of the model's validity, Unix ms.
        problems: counts the calls with the status "wrong_input" or "fault", and logs each at most once a minute.

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
        """Checks that this version computes the bundle's features and that the bundle has the policy's bands.

        Raises:
            BundleError: if the bundle needs a feature that this version does not compute.
            ValueError: if the policy names a band that the bundle does not have, or the own columns lack one.
        """
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
    ) -> Scorer:
        """Opens a signed bundle and returns a scorer.

        The first verdict with reasons takes about 20 ms longer than later ones. Call `scorer.bundle.model.prepare()` at
        start-up to spend that time before the first call.

        Args:
            folder: the bundle; by default the shipped one, trained on simulated worlds.
            trusted: public keys; one of them must have signed the bundle. Needed unless the bundle is the shipped one.
            policy: the shipped policy if None.
            registers: registers to look calls up in.
            columns: own columns of callers, for a model that has some.
            minimum_epoch: bundles of an earlier epoch are refused, so that a withdrawn bundle cannot come back.

        Raises:
            BundleError: in one line, if the bundle is damaged, not signed by a trusted key, or made for another
                feature catalogue.
            TypeError: if keys are missing.
            ValueError: if the policy does not fit the bundle, or the own columns lack one of the model.

        >>> Scorer.load().bundle.training["learn_from"]
        'truth'
        """
        if folder is None:
            folder, trusted = SHIPPED_BUNDLE, [read_public_key(SHIPPED_SIGNER)] if trusted is None else trusted
        if trusted is None:
            raise TypeError("trusted: expected the public keys that may have signed the bundle, from read_public_key")
        from callsieve.serving.bundle.bundle import load  # with msgspec, which takes time to import

        bundle = load(folder, trusted, minimum_epoch=minimum_epoch, expected_catalogue=catalogue_hash())
        return cls(bundle, policy or read_policy(), registers, columns)

    def check(self, history: History) -> None:
        """Checks at wiring time that a history fits this scorer. A host calls it once, before the first call.

        Raises:
            TypeError: if `history` is not a `History`.
            ValueError: if the history gives other columns or another order, or the model has own columns and the
                scorer no table of them.
        """
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

    def scored(self, history: History, call: KeyedCall, *, explain: bool = False, reasons: bool = True) -> Scored:
        """Returns the verdict with the vector behind it. Never raises.

        Args:
            explain: whether to give reasons for every action, "pass" included.
            history, call, reasons: as for `score`.
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
            facts = self._facts(vector, call)
            filling = not history.covers(call.start, self.policy.history_days)
            behind, feed = history.lag(call.start) > AHEAD_MS, self.policy.feed or history.feed
            if self.registers is not None and not (filling or behind):
                with contextlib.suppress(Exception):  # facts of rules stay valid when a model fails
                    facts += self._predicted_facts(vector, call, feed)
            verdict = self._verdict(
                vector,
                call.start,
                facts,
                case=case,
                explain=explain,
                reasons=reasons,
                feed=feed,
                filling=filling,
                behind=behind,
            )
        except Exception as error:
            verdict = self._unscored(case, "fault", type(error).__name__)
        return Scored(verdict, vector)

    def _facts(self, vector: Sequence[float], call: KeyedCall) -> tuple[Fact, ...]:
        """Returns the facts that need no model."""
        terms, registers, own_number = self.policy.terms, self.registers, call.caller == call.callee
        if registers is not None:
            registered = look_up(registers, call, terms)
            return collect_facts(rule_input(vector, registered, float(own_number)), terms, registers)
        rules = candidate_rules(
            call.attestation, call.route, call.caller_class, call.callee_class, call.presented_differs, own_number
        )
        return collect_facts(rule_input(vector, None, float(own_number)), terms, None, rules)

    def _predicted_facts(self, vector: Sequence[float], call: KeyedCall, feed: str) -> tuple[Fact, ...]:
        """Returns the fact that the call is likely of a category that the called person rejects, if it is."""
        row_of = rejected_categories(self.registers, call.callee, call.start, self.bundle.classes.get("content", ()))
        if not row_of or self.bundle.content is None:
            return ()
        row = self._model_row(vector)
        model, _ = self.bundle.risk_model(feed)
        if not self.reaches_band(model.predict_one(row), stratum_of(vector), feed):
            return ()
        content = self._confident_class(self.bundle.content.predict_few([row])[0])
        if content is None or content not in row_of:
            return ()
        predicted = RuleInput(unwanted=1.0, rows={"preferences": row_of[content]})
        return collect_facts(predicted, self.policy.terms, self.registers)


def misfit(history: object, features: Sequence[str], lacking: Sequence[str]) -> str:
    """Returns why a history does not fit a scorer; "" if it does.

    Args:
        features: names that the history must give, in order.
        lacking: own columns that the model needs and the scorer has no table of.
    """
    names = getattr(history, "features", None)
    if names == features:
        own = ", ".join(lacking)
        return f"columns: the model has own columns: {own}; load it with Scorer.load(columns=...)" if own else ""
    if names is None:
        return f"history: expected a History, got {kind(history)}; {MAKE_HISTORY}"
    if sorted(names) == sorted(features):
        return f"history: its features are in another order than the model's; {MAKE_HISTORY}"
    return f"history: it was made for other features; {MAKE_HISTORY}"


def kind(value: object) -> str:
    """Returns the name of a value's type, which shows nothing of the value."""
    return type(value).__name__
