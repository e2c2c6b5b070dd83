"""The facts about one call that its rules state: from its vector, from registers, and from its predicted content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callsieve.features.records import KeyedCall
from callsieve.serving.bundle.level import NO_SHIFT
from callsieve.serving.rules.preferences import confident_class, rejected_categories
from callsieve.serving.rules.register_lookup import Terms, look_up
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_input import RuleInput, rule_input
from callsieve.serving.rules.rules import Fact, candidate_rules, collect_facts
from callsieve.serving.rules.strata import stratum_of

if TYPE_CHECKING:
    from .served_model import ServedModel


def facts_of(vector: Sequence[float], call: KeyedCall, terms: Terms, registers: Registers | None) -> tuple[Fact, ...]:
    """Returns the facts that need no model."""
    own_number = call.caller == call.callee
    facts = rule_input(vector, float(own_number))
    if registers is not None:
        return collect_facts(look_up(registers, call, terms, facts), terms, registers)
    rules = candidate_rules(
        call.attestation, call.route, call.caller_class, call.callee_class, call.presented_differs, own_number
    )
    return collect_facts(facts, terms, None, rules)


def unwanted_content(
    served: ServedModel, registers: Registers | None, vector: Sequence[float], call: KeyedCall, feed: str
) -> tuple[Fact, ...]:
    """Returns the fact that the call is likely of a category that the called person rejects, if it is."""
    bundle, terms = served.bundle, served.policy.terms
    row_of = rejected_categories(registers, call.callee, call.start, bundle.classes.get("content", ()))
    if not row_of or bundle.content is None:
        return ()
    row = served.model_input.row(vector, feed)
    model, _ = bundle.risk_model(feed)
    network = served.networks.get(feed)
    shift = NO_SHIFT if network is None else network.shift
    if shift.unlike or not served.reaches_band(model.predict_one(row) - shift.amount, stratum_of(vector), feed):
        return ()
    content = confident_class(bundle.content.predict_few([row])[0], bundle.classes["content"], terms.content_share)
    if content is None or content not in row_of:
        return ()
    predicted = RuleInput(unwanted=1.0, rows={"preferences": row_of[content]})
    return collect_facts(predicted, terms, registers)
