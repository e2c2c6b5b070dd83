"""Predicted preferences: only in a band, only for a confident content model, and never a block."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.serving.batch.score import score_vectors
from callsieve.serving.bundle.booster import Booster
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.verdict_log import verdict_record
from callsieve.serving.rules.policy import ACTIONS, Policy, read_policy
from callsieve.serving.rules.preferences import PREFERENCE_RULE, confident_class, rejected_categories
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, rule_names
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.real_bundle import load_scorer

SHARE = 0.34
BANDS = {"certified": "label", "watch": "pass"}
TERMS = dataclasses.replace(read_policy().terms, content_share=SHARE)
WISHED = Policy("wished", BANDS, {PREFERENCE_RULE: "block"}, appeal="office", terms=TERMS, history_days=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    real_bundle.write_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def registers():
    """Each person rejects one content, every fifth all; every seventh accepts it again later."""
    told, keyed = [], real_bundle.key_calls(real_bundle.calls(200))
    for i, callee in enumerate(sorted({call.callee for call in keyed})):
        told.append({"callee": callee, "category": "any" if i % 5 == 0 else small.CONTENT[i % 3], "accepts": False})
        if i % 7 == 0:
            told.append(told[-1] | {"accepts": True, "valid_from": 1, "known_at": 1})
    return real_bundle.make_registers(preferences=told)


@pytest.fixture(scope="module")
def judged(folder, registers):
    """Calls, their vectors, and verdicts with and without wishes, one by one."""
    keyed = real_bundle.key_calls(real_bundle.calls(200))
    given_, without = load_scorer(folder, WISHED, registers), load_scorer(folder, WISHED)
    history, told = History(), []
    for call in keyed:
        vector = history.vector(call)
        told.append((call, vector, given_.score(history, call), without.score(history, call)))
        history.observe(call)
    return given_, told


@pytest.mark.source("L22", by="serving/rules/preferences.py")
def test_a_call_is_labelled_if_the_callee_rejects_its_confident_content(judged, registers):
    """The oracle: the texts of the models through LightGBM's own numbers, and the register's rows read plainly."""
    scorer, told = judged
    content = Booster(real_bundle.model_texts()["content"])
    lowest = min(real_bundle.thresholds())
    columns = registers.columns["preferences"]
    warned = 0
    for call, vector, verdict, without in told:
        raw = content.predict_raw(np.array([[vector[i] for i in scorer._columns]]))[0]
        shares = np.exp(raw) / np.exp(raw).sum()
        likely = small.CONTENT[int(shares.argmax())] if shares.max() >= SHARE else None
        last = {}
        for callee, category, accepts in zip(columns["callee"], columns["category"], columns["accepts"], strict=True):
            if callee == call.callee:
                last[category] = accepts  # a later row takes the place of the one before
        rejects = last.get(likely, last.get("any", True)) is False
        meets = likely is not None and rejects and verdict.raw >= lowest and verdict.band != ""
        assert (PREFERENCE_RULE in [fact.rule for fact in verdict.rules]) == meets
        # A guess warns; it neither blocks, though the policy says so, nor takes anything away.
        guarded = "protected_caller" in [fact.rule for fact in verdict.rules]
        assert verdict.action == ("label" if meets and not guarded else without.action)
        warned += verdict.action != without.action
        assert (verdict.raw, verdict.band, verdict.score) == (without.raw, without.band, without.score)
        [fact] = [fact for fact in verdict.rules if fact.rule == PREFERENCE_RULE] or [None]
        assert fact is None or (fact.register == "preferences" and fact.entry)
    assert warned >= 5


def test_without_enough_history_nothing_is_predicted(judged, folder, registers):
    patient = load_scorer(folder, dataclasses.replace(WISHED, history_days=2), registers)
    history, guessed, left = History(), [], 0
    for call, _, verdict, _ in judged[1]:
        found = [fact.rule for fact in patient.score(history, call).rules]
        at_once = [fact.rule for fact in verdict.rules]
        known = history.covers(call.start, 2)
        assert found == [rule for rule in at_once if known or rule != PREFERENCE_RULE]
        left += not known and PREFERENCE_RULE in at_once
        guessed.append(tuple(found))
        history.observe(call)
    assert left and any(PREFERENCE_RULE in found for found in guessed)
    table = real_bundle.key_table(real_bundle.calls(200))
    scores = score_vectors(patient, table, vectors(table, threads=1), 1)
    assert [rule_names(bits) for bits in scores.rule_bits.tolist()] == guessed


def test_the_table_equals_single_calls(judged, folder, registers):
    scorer, told = judged
    table = real_bundle.key_table(real_bundle.calls(200))
    scores = score_vectors(scorer, table, vectors(table, threads=1), 1)
    assert [rule_names(bits) for bits in scores.rule_bits.tolist()] == [
        tuple(fact.rule for fact in verdict.rules) for _, _, verdict, _ in told
    ]
    assert [ACTIONS[i] for i in scores.action] == [verdict.action for _, _, verdict, _ in told]
    unsure = dataclasses.replace(WISHED, terms=dataclasses.replace(TERMS, content_share=1.0))
    none = score_vectors(load_scorer(folder, unsure, registers), table, vectors(table, threads=1), 1)
    assert not (none.rule_bits & BITS[PREFERENCE_RULE]).any()


def test_a_case_rescores_equally_and_a_prediction_does_not_label_a_cleared_caller(judged):
    scorer, told = judged
    call, vector, verdict = next(
        (call, vector, verdict) for call, vector, verdict, without in told if without.action != verdict.action
    )
    assert rescore(verdict_record(verdict, call, vector, scorer), scorer).differences == ()
    assert scorer.action_if_cleared(verdict) == "pass"


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(0.05, 1.0))
def test_confidence_is_the_softmax_probability(raw, share):
    shares = np.exp(raw) / np.exp(raw).sum()
    found = confident_class(raw, [str(i) for i in range(len(raw))], share)
    if abs(shares.max() - share) > 1e-9:
        assert (found is not None) == (shares.max() > share)
    assert found is None or math.isclose(shares[int(found)], shares.max())


def test_without_a_register_of_preferences_nothing_is_rejected():
    assert rejected_categories(None, "a", 0, ("loans",)) == {} == rejected_categories(Registers({}), "a", 0, ("loans",))


@pytest.mark.parametrize("action", ["screen", "block"])
def test_a_policy_that_blocks_on_a_prediction_is_refused(tmp_path, action):
    path = tmp_path / "policy.toml"
    path.write_text(f'version = "1"\nappeal = "office"\n[bands]\n[rules]\n{PREFERENCE_RULE} = "{action}"\n')
    with pytest.raises(ValueError, match="rests on a prediction: expected pass or label"):
        read_policy(path)
