"""Predicted preferences: only in a band, only for a confident content model, and never a block."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.serving.batch.file_scoring import score_vectors
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.verdict_log import verdict_record
from callsieve.serving.rules.policy import ACTIONS, Policy, read_policy
from callsieve.serving.rules.preferences import PREFERENCE_RULE, confident_class, rejected_categories
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, rule_names
from callsieve.training.model.trees import read_forest
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.real_bundle import load_scorer

SHARE = 0.34
BANDS = {"certified": "label", "watch": "pass"}
TERMS = dataclasses.replace(read_policy().terms, content_share=SHARE)
BLOCKING = Policy("blocking", BANDS, {PREFERENCE_RULE: "block"}, appeal="office", terms=TERMS, history_days=0)


@pytest.fixture(scope="module")
def registers():
    """Every callee rejects one content class, every fifth all; every seventh accepts it again later."""
    rows, keyed = [], real_bundle.key_calls(real_bundle.calls(200))
    for i, callee in enumerate(sorted({call.callee for call in keyed})):
        rows.append({"callee": callee, "category": "any" if i % 5 == 0 else small.CONTENT[i % 3], "accepts": False})
        if i % 7 == 0:
            rows.append(rows[-1] | {"accepts": True, "valid_from": 1, "known_at": 1})
    return real_bundle.make_registers(preferences=rows)


@pytest.fixture(scope="module")
def scored_calls(bundle_folder, registers):
    """The scorer, and for each call its vector and the verdicts with and without registers."""
    keyed = real_bundle.key_calls(real_bundle.calls(200))
    with_registers, without = load_scorer(bundle_folder, BLOCKING, registers), load_scorer(bundle_folder, BLOCKING)
    history, verdicts = History(), []
    for call in keyed:
        vector = history.vector(call)
        verdicts.append((call, vector, with_registers.score(history, call), without.score(history, call)))
        history.observe(call)
    return with_registers, verdicts


@pytest.mark.source("L22", by="serving/rules/preferences.py")
def test_a_call_is_labelled_if_the_callee_rejects_its_confident_content(scored_calls, registers):
    """The oracle computes the content class with LightGBM and scans the rows of the register."""
    scorer, verdicts = scored_calls
    content = read_forest(real_bundle.model_texts()["content"])
    lowest = min(real_bundle.thresholds())
    columns = registers.columns["preferences"]
    warned, places = 0, [scorer.features.index(name) for name in scorer.bundle.features]
    for call, vector, verdict, without in verdicts:
        raw = content.predict_raw(np.array([[vector[place] for place in places]]))[0]
        shares = np.exp(raw) / np.exp(raw).sum()
        likely = small.CONTENT[int(shares.argmax())] if shares.max() >= SHARE else None
        last = {}
        for callee, category, accepts in zip(columns["callee"], columns["category"], columns["accepts"], strict=True):
            if callee == call.callee:
                last[category] = accepts  # a later row replaces an earlier one
        rejects = last.get(likely, last.get("any", True)) is False
        meets = likely is not None and rejects and verdict.raw >= lowest and verdict.band != ""
        assert (PREFERENCE_RULE in [fact.rule for fact in verdict.rules]) == meets
        # A prediction labels. It never blocks, although the policy asks for it, and never weakens an action.
        guarded = "protected_caller" in [fact.rule for fact in verdict.rules]
        assert verdict.action == ("label" if meets and not guarded else without.action)
        warned += verdict.action != without.action
        assert (verdict.raw, verdict.band, verdict.score) == (without.raw, without.band, without.score)
        [fact] = [fact for fact in verdict.rules if fact.rule == PREFERENCE_RULE] or [None]
        assert fact is None or (fact.register == "preferences" and fact.entry)
    assert warned >= 5


def test_preferences_are_not_predicted_without_enough_history(scored_calls, bundle_folder, registers):
    patient = load_scorer(bundle_folder, dataclasses.replace(BLOCKING, history_days=2), registers)
    history, predicted, left = History(), [], 0
    for call, _, verdict, _ in scored_calls[1]:
        names = [fact.rule for fact in patient.score(history, call).rules]
        at_once = [fact.rule for fact in verdict.rules]
        covered = history.covers(call.start, 2)
        assert names == [rule for rule in at_once if covered or rule != PREFERENCE_RULE]
        left += not covered and PREFERENCE_RULE in at_once
        predicted.append(tuple(names))
        history.observe(call)
    assert left and any(PREFERENCE_RULE in names for names in predicted)
    table = real_bundle.key_table(real_bundle.calls(200))
    scores = score_vectors(patient, table, vectors(table, threads=1), 1)
    assert [rule_names(bits) for bits in scores.rule_bits.tolist()] == predicted


def test_the_table_equals_single_calls(scored_calls, bundle_folder, registers):
    scorer, verdicts = scored_calls
    table = real_bundle.key_table(real_bundle.calls(200))
    scores = score_vectors(scorer, table, vectors(table, threads=1), 1)
    expected = [tuple(fact.rule for fact in verdict.rules) for _, _, verdict, _ in verdicts]
    assert [rule_names(bits) for bits in scores.rule_bits.tolist()] == expected
    assert [ACTIONS[i] for i in scores.action] == [verdict.action for _, _, verdict, _ in verdicts]
    unsure = dataclasses.replace(BLOCKING, terms=dataclasses.replace(TERMS, content_share=1.0))
    none = score_vectors(load_scorer(bundle_folder, unsure, registers), table, vectors(table, threads=1), 1)
    assert not (none.rule_bits & BITS[PREFERENCE_RULE]).any()


def test_a_case_rescores_equally_and_a_prediction_does_not_label_a_cleared_caller(scored_calls):
    scorer, verdicts = scored_calls
    call, vector, verdict, _ = next(row for row in verdicts if row[2].action != row[3].action)
    assert rescore(verdict_record(verdict, call, vector, scorer), scorer).differences == ()
    assert scorer.action_if_cleared(verdict)[0] == "pass"


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(0.05, 1.0))
def test_confidence_is_the_softmax_probability(raw, share):
    shares = np.exp(raw) / np.exp(raw).sum()
    match = confident_class(raw, [str(i) for i in range(len(raw))], share)
    if abs(shares.max() - share) > 1e-9:
        assert (match is not None) == (shares.max() > share)
    assert match is None or math.isclose(shares[int(match)], shares.max())


def test_no_category_is_rejected_without_a_register_of_preferences():
    assert rejected_categories(None, "a", 0, ("loans",)) == {} == rejected_categories(Registers({}), "a", 0, ("loans",))


@pytest.mark.parametrize("action", ["screen", "block"])
def test_a_policy_that_blocks_on_a_prediction_is_refused(tmp_path, action):
    path = tmp_path / "policy.toml"
    path.write_text(f'version = "1"\nappeal = "office"\n[bands]\n[rules]\n{PREFERENCE_RULE} = "{action}"\n')
    with pytest.raises(ValueError, match="rests on a prediction: expected pass or label"):
        read_policy(path)
