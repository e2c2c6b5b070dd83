"""Rules: facts and score do not change each other, and a protected number is never blocked."""

import dataclasses
import json
import math
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from callsieve.features import Call, History, Intake
from callsieve.features.catalogue import NAMES
from callsieve.features.intake.numbers import parse_in_period
from callsieve.features.offline.table import vectors
from callsieve.features.records import ATTESTATIONS, NUMBER_CLASSES, ROUTES
from callsieve.serving import Policy, Registers, Scorer, read_policy
from callsieve.serving.batch.file_scoring import score_vectors
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.batch.verdict_file import verdict_details
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.custody.purposes import declare
from callsieve.serving.live.swap import current_registers
from callsieve.serving.live.verdict_log import record_from_line, record_to_line, verdict_record
from callsieve.serving.rules.plan_classes import plan_table
from callsieve.serving.rules.policy import ACTIONS, final_action
from callsieve.serving.rules.register_lookup import Terms, look_up
from callsieve.serving.rules.rule_bits import BITS, matching_bits, rule_columns, rule_names, table_actions
from callsieve.serving.rules.rule_input import VECTOR_COLUMNS, RuleInput, rule_input
from callsieve.serving.rules.rules import (
    ACTION_RULES,
    BEHAVIOUR,
    CLASSES_ZH,
    NETWORK,
    ON_LISTS,
    PREDICTED,
    PROTECTED,
    RULE_BY_NAME,
    RULES,
    UNREGISTERED,
    candidate_rules,
    collect_facts,
    matching_rules,
)
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import verdict_from_json
from tests.support.real_bundle import load_scorer, replayed

NAN = math.nan
TERMS = dataclasses.replace(
    read_policy().terms, bombing_calls=30.0, ring_once_share=0.5, ring_once_calls=20.0, many_callers=20.0,
    repeat_calls=2.0,
)  # fmt: skip
EVERYTHING = dict.fromkeys(ACTION_RULES, "block")
HARSH = Policy(
    "harsh", {"certified": "block", "watch": "block"}, EVERYTHING, appeal="office", terms=TERMS, history_days=0
)
NUMBER = "13800138000"
LATE = real_bundle.START + 5 * 3600  # 14:06 in China


def kind(word):
    return float(NUMBER_CLASSES.index(word))


def plain(**changes):
    """Returns the input of a call that matches no rule, with `changes`."""
    usual = {
        "attestation": float(ATTESTATIONS.index("A")), "route": float(ROUTES.index("domestic")),
        "caller_class": kind("mobile"), "callee_class": kind("mobile"), "presented_differs": 0.0, "hour": 10.0,
        "calls_24h": 3.0, "one_rings_24h": 0.0, "callee_calls_1h": 1.0, "called_first": 0.0, "long_talk_days": 1.0,
        "pair_calls_1h": 1.0, "callee_callers_1h": 1.0, "own_number": 0.0,
    }  # fmt: skip
    return RuleInput(**usual | changes)


HITS = {
    "authentication_failed": [{"attestation": float(ATTESTATIONS.index("failed"))}],
    "irregular_number": [{"caller_class": kind(word)} for word in ("irregular", "106", "800")],
    "own_number": [{"own_number": 1.0}],
    "withheld_number": [{"caller_class": kind("withheld")}],
    "domestic_from_abroad": [
        {"route": float(ROUTES.index("international")), "caller_class": kind(word)}
        for word in ("mobile", "fixed", "96")
    ],
    "shown_number_differs": [{"presented_differs": 1.0}],
    "outside_trunk_ranges": [{"trunk_listed": 1.0, "on_trunk": 0.0}],
    "class_against_use": [{"use_allows": 0.0}],
    "lapsed_number": [{"lapsed": 1.0}],
    "unregistered_number": [{"caller_class": kind("95_call_centre"), "campaign": 0.0}],
    "contract_frequency": [{"calls_24h": 200.0, "calls_per_day": 200.0}, {"calls_24h": 201.0, "calls_per_day": 200.0}],
    "outside_hours": [
        {"campaign": 1.0, "hour": float(hour), "hour_from": float(begin), "hour_to": float(end)}
        for hour, begin, end in ((8, 9, 18), (18, 9, 18), (7, 22, 6), (21, 22, 6), (6, 22, 6), (9, 9, 9))
    ],
    "called_after_refusal": [{"refused": 1.0}],
    "no_consent": [{"marketing": 1.0, "consent": 0.0}],
    "against_preference": [{"rejects": 1.0}],
    "discredited_firm": [{"discredited": 1.0}],
    "risk_region": [{"risk_region": 1.0}],
    "ring_once": [{"one_rings_24h": 0.5, "calls_24h": 20.0}, {"one_rings_24h": 0.75, "calls_24h": 21.0}],
    "call_bombing": [{"callee_calls_1h": 30.0}, {"callee_calls_1h": 31.0, "callee_class": kind("resale")}],
    "many_callers": [{"callee_callers_1h": 20.0}, {"callee_callers_1h": 21.0, "callee_class": kind("resale")}],
    "protected_caller": [{"caller_protected": 1.0}, *({"caller_class": kind(word)} for word in PROTECTED)],
    "protected_callee": [{"callee_protected": 1.0}, *({"callee_class": kind(word)} for word in PROTECTED)],
    "accepted_category": [{"accepts": 1.0}],
    "called_first": [{"called_first": 1.0}, {"called_first": 1.0, "caller_class": kind("unknown")}],
    "long_talks": [{"long_talk_days": 2.0}, {"long_talk_days": 6.0, "caller_class": kind("fixed")}],
    "repeated_caller": [{"pair_calls_1h": 2.0}, {"pair_calls_1h": 29.0, "caller_class": kind("unknown")}],
    "trusted_caller": [{"caller_trusted": 1.0}, {"caller_trusted": 1.0, "attestation": NAN, "presented_differs": NAN}],
    "against_predicted_preference": [{"unwanted": 1.0}],
    "flagged": [{"flag_events": 10.0}],
    "listed": [{"list_issuers": 1.0, "list_bound": 1.0}],
    "listed_confirmed": [{"list_issuers": 2.0, "list_bound": 1.0}, {"list_issuers": 1.0, "list_bound": 1e-4}],
}
NO_HITS = [
    {"attestation": float(ATTESTATIONS.index("none"))},
    {"route": float(ROUTES.index("roaming"))},
    {"route": float(ROUTES.index("international")), "caller_class": kind("foreign")},
    {"route": float(ROUTES.index("international")), "caller_class": kind("unknown")},
    {"trunk_listed": 0.0, "on_trunk": 0.0},
    {"trunk_listed": 1.0, "on_trunk": 1.0, "use_allows": 1.0},
    {"caller_class": kind("95_call_centre"), "campaign": 1.0},
    {"caller_class": kind("95_call_centre")},  # no register of campaigns
    {"calls_24h": 199.0, "calls_per_day": 200.0},
    {"calls_24h": 9_999.0},
    {"hour": 9.0, "hour_from": 9.0, "hour_to": 18.0},
    {"hour": 22.0, "hour_from": 22.0, "hour_to": 6.0},
    {"hour": 23.0, "hour_from": 22.0, "hour_to": 6.0},
    {"hour": 5.0, "hour_from": 22.0, "hour_to": 6.0},
    {"marketing": 1.0, "consent": 1.0},
    {"marketing": 1.0},
    {"marketing": 0.0, "consent": 0.0},
    {"one_rings_24h": 0.49, "calls_24h": 20.0},
    {"one_rings_24h": 1.0, "calls_24h": 19.0},
    {"callee_calls_1h": 29.0},
    {"callee_calls_1h": 99.0, "callee_class": kind("fixed")},
    {"callee_callers_1h": 19.0},
    {"callee_callers_1h": 99.0, "callee_class": kind("fixed")},
    {"pair_calls_1h": 30.0},  # rather call bombing
    {"called_first": NAN, "long_talk_days": NAN},
    dict.fromkeys(("attestation", "route", "caller_class", "callee_class", "hour", "calls_24h"), NAN),
    # Facts that are known to be false.
    dict.fromkeys(
        ("own_number", "presented_differs", "lapsed", "refused", "rejects", "risk_region", "discredited"), 0.0
    ),
    dict.fromkeys(("accepts", "unwanted", "caller_protected", "callee_protected", "caller_trusted"), 0.0),
]


def test_each_rule_has_a_test_case_and_sentences_in_both_languages():
    assert list(HITS) == [rule.name for rule in RULES]
    assert len(CLASSES_ZH) == len(NUMBER_CLASSES)
    for rule in RULES:
        assert re.search(r"[\u4e00-\u9fff]", rule.zh) and not re.search("[,:;()]", rule.zh)
        assert not re.search(r"[\u4e00-\u9fff]", rule.en)


def test_values_are_formatted_for_people():
    (fact,) = collect_facts(plain(one_rings_24h=0.75, calls_24h=1000.0), TERMS, None)
    assert (fact.rule, fact.value) == ("ring_once", 0.75) and fact.en.startswith("75% of this number's calls")


@pytest.mark.source("L6", "L7", "L13", "L14", "L15", "L17", "L19", by="serving/rules/rules.py")
@pytest.mark.parametrize(("name", "changes"), [(name, case) for name, cases in HITS.items() for case in cases])
def test_exactly_one_rule_matches(name, changes):
    assert [rule.name for rule in matching_rules(plain(**changes), TERMS)] == [name]


@pytest.mark.parametrize("changes", [{}, *NO_HITS], ids=str)
def test_no_rule_matches(changes):
    assert matching_rules(plain(**changes), TERMS) == ()


values = st.sampled_from([NAN, 0.0, 1.0, 2.0, 3.0, 9.0, 17.0, 20.0, 200.0])
situations = st.builds(RuleInput, **{
    field.name: values for field in dataclasses.fields(RuleInput) if field.name != "rows"
})  # fmt: skip


@given(st.lists(situations, min_size=1, max_size=5))
def test_table_bits_equal_the_rules_of_single_calls(drawn):
    matrix = np.zeros((len(drawn), len(NAMES)))
    for name, place in VECTOR_COLUMNS:
        matrix[:, place] = [getattr(situation, name) for situation in drawn]
    calls = rule_input(rule_columns(matrix), np.array([situation.own_number for situation in drawn]))
    for field in dataclasses.fields(RuleInput):
        later = ("own_number", "unwanted", "flag_events", "list_issuers", "list_bound", "list_hours", "rows")
        if field.name not in (*dict(VECTOR_COLUMNS), *later):
            setattr(calls, field.name, np.array([getattr(situation, field.name) for situation in drawn]))
    table_bits = matching_bits(calls, TERMS)
    # Predictions and lists are added separately, see `test_preferences.py`, `test_flags.py` and `test_listed.py`.
    rules = tuple(rule for rule in RULES if rule.kind != PREDICTED and rule not in ON_LISTS)
    assert [rule_names(bits) for bits in table_bits.tolist()] == [
        tuple(rule.name for rule in matching_rules(situation, TERMS, rules)) for situation in drawn
    ]


FIELDS = {
    "attestation": st.integers(0, len(ATTESTATIONS) - 1), "route": st.integers(0, len(ROUTES) - 1),
    "caller_class": st.integers(0, len(NUMBER_CLASSES) - 1), "callee_class": st.integers(0, len(NUMBER_CLASSES) - 1),
    "presented_differs": st.integers(-1, 1),
}  # fmt: skip


@pytest.mark.system
@given(st.fixed_dictionaries(FIELDS), st.booleans(), st.tuples(*[values] * 7))
def test_candidate_rules_include_every_matching_rule(fields, own, before):
    call = Intake(real_bundle.NUMBER_KEY)(Call(LATE, NUMBER, NUMBER))
    vector = History(calls=1, numbers=2, compiled=False).row(dataclasses.replace(call, **fields))
    of_history = (
        "calls_24h", "one_rings_24h", "callee_calls_1h", "called_first", "long_talk_days", "pair_calls_1h",
        "callee_callers_1h",
    )  # fmt: skip
    for name, value in zip(of_history, before, strict=True):
        vector[dict(VECTOR_COLUMNS)[name]] = value
    situation = rule_input(vector, float(own))
    candidates = candidate_rules(**fields, own_number=own)
    assert matching_rules(situation, TERMS, candidates) == matching_rules(situation, TERMS, UNREGISTERED)


# Actions of policies

names = st.sets(st.sampled_from(sorted(RULE_BY_NAME)))
policies = st.builds(
    Policy, st.just("drawn"), st.just({}), st.dictionaries(st.sampled_from(ACTION_RULES), st.sampled_from(ACTIONS)),
    appeal=st.sampled_from(["", "office"]), accepted=st.sampled_from(ACTIONS), known_caller=st.sampled_from(ACTIONS),
    repeated_caller=st.sampled_from(ACTIONS),
)  # fmt: skip
banded = st.sampled_from(ACTIONS)
strength = ACTIONS.index


@given(policies, banded, names)
def test_the_final_action_is_the_stronger_one_unless_a_guard_limits_it(policy, action, matches):
    done = final_action(policy, action, matches)
    actions = [policy.of_rule(name) for name in matches]
    if not policy.appeal:
        assert "block" not in actions
    if "protected_callee" in matches:
        assert strength(done) <= strength("label")
    if "protected_caller" in matches:
        assert strength(done) <= strength("label")
        network_actions = [policy.of_rule(name) for name in matches if RULE_BY_NAME[name].kind == NETWORK]
        assert (done == "label") == any(word != "pass" for word in network_actions)
    else:
        most = strength(policy.accepted) if "accepted_category" in matches else 3
        least = strength("label") if "protected_callee" in matches else 3
        known = strength(policy.known_caller) if {"called_first", "long_talks"} & matches else 3
        known = min(known, strength(policy.repeated_caller) if "repeated_caller" in matches else 3)
        known = 0 if "trusted_caller" in matches else known
        limits = {BEHAVIOUR: known, PREDICTED: known}
        of_rules = [min(strength(policy.of_rule(name)), limits.get(RULE_BY_NAME[name].kind, 3)) for name in matches]
        assert strength(done) == min(max([min(strength(action), most, known), *of_rules]), least)


@given(policies, st.lists(st.tuples(st.sampled_from(range(len(ACTIONS))), names), min_size=1, max_size=6))
def test_table_actions_equal_those_of_single_calls(policy, drawn):
    bits = np.array([sum(BITS[name] for name in names) for _, names in drawn])
    done = table_actions(policy, np.array([action for action, _ in drawn], dtype=np.int8), bits)
    assert [ACTIONS[i] for i in done] == [final_action(policy, ACTIONS[action], names) for action, names in drawn]


# In the scorer


@pytest.fixture(scope="module")
def registers():
    """Registers with rows about the numbers of the calls, so that each table gives facts."""
    token = lambda text: real_bundle.NUMBER_KEY.token("number", parse_in_period(text, 0).canonical)
    callers, callees = ([token(text) for text in texts] for texts in (real_bundle.CALLERS, real_bundle.CALLEES))
    firm = {"number": callers[0], "business": "loans", "principal": "firm", "hour_from": 9, "hour_to": 10}
    return real_bundle.make_registers(
        campaigns=[firm, firm | {"number": callers[2], "business": "courier"}],
        number_resources=[{"number": callers[3], "valid_to": 1}],
        subscribers=[{"number": callers[1], "kind": "person", "calls_per_day": 2}],
        consents=[{"callee": callee, "principal": "firm"} for callee in callees[::2]],
        refusals=[{"callee": callee, "industry": "loans"} for callee in callees[::3]],
        preferences=[
            {"callee": callee, "category": "any", "accepts": i % 2 == 0} for i, callee in enumerate(callees[::2])
        ],
        protected=[{"number": number, "reason": "hospital"} for number in (callers[4], callees[9])],
        trusted=[{"number": callers[5], "kind": "survey"}],
    )


@pytest.fixture(scope="module")
def calls():
    """Random calls, and some of each kind that network rules match."""
    drawn = real_bundle.calls(200)
    for i, call in enumerate(drawn):
        odd = {0: {"attestation": "failed"}, 1: {"route": "international"}, 2: {"network_caller": "075512345678"},
               3: {"caller": "13900"}, 4: {"caller": ""}, 5: {"callee": "110"}, 6: {"caller": call.callee}}  # fmt: skip
        drawn[i] = dataclasses.replace(call, **odd.get(i % 19, {}))
    return drawn


@pytest.mark.system
@pytest.mark.source("L17", by="serving/scorer/scorer.py")
@pytest.mark.source("L17", by="serving/rules/rules.py")
def test_rules_and_model_do_not_change_each_other(bundle_folder, registers, calls):
    keyed = real_bundle.key_calls(calls)
    with_rules = replayed(load_scorer(bundle_folder, HARSH, registers), keyed)
    without = replayed(load_scorer(bundle_folder, dataclasses.replace(HARSH, rules={}, terms=Terms())), keyed)
    untouched = ("score", "raw", "band", "threshold", "status", "case", "model", "valid_until")
    for verdict, other in zip(with_rules, without, strict=True):
        assert repr([getattr(verdict, name) for name in untouched]) == repr(
            [getattr(other, name) for name in untouched]
        )
    # With the same scores but no score in a band, the facts are the same.
    scorer = load_scorer(bundle_folder, HARSH, registers)
    high = tuple(structs.replace(band, threshold=1e9) for band in scorer.bundle.thresholds)
    bandless = Scorer(structs.replace(scorer.bundle, thresholds=high), HARSH, registers)
    for verdict, other in zip(with_rules, replayed(bandless, keyed), strict=True):
        facts = [fact for fact in verdict.rules if RULE_BY_NAME[fact.rule].kind != PREDICTED]
        assert repr(tuple(facts)) == repr(other.rules)
    assert {fact.rule for verdict in with_rules for fact in verdict.rules} >= {
        "authentication_failed", "irregular_number", "own_number", "withheld_number", "domestic_from_abroad",
        "shown_number_differs", "lapsed_number", "contract_frequency", "outside_hours", "called_after_refusal",
        "no_consent", "against_preference", "protected_caller", "protected_callee", "accepted_category",
        "trusted_caller",
    }  # fmt: skip


def test_rules_actions_and_explanations_of_single_calls_equal_the_table(bundle_folder, registers, calls, monkeypatch):
    for content in small.CONTENT:  # words of the test's bundle
        monkeypatch.setitem(plan_table()["content"], content, "illegal")
    scorer = load_scorer(bundle_folder, dataclasses.replace(HARSH, bands={"certified": "block"}), registers)
    verdicts, table = replayed(scorer, real_bundle.key_calls(calls)), real_bundle.key_table(calls)
    matrix = vectors(table, threads=1)
    scores = score_vectors(scorer, table, matrix, 1)
    names = [tuple(fact.rule for fact in verdict.rules) for verdict in verdicts]
    assert [rule_names(bits) for bits in scores.rule_bits.tolist()] == names
    assert [ACTIONS[i] for i in scores.action] == [verdict.action for verdict in verdicts]
    assert {verdict.action for verdict in verdicts} == {"pass", "label", "block"}
    details = verdict_details(scorer, table, matrix, scores, np.ones(len(calls), bool), np.zeros(len(calls), bool))
    classes = [None if verdict.action == "pass" else verdict.plan_class for verdict in verdicts]
    assert details["plan_class"].to_pylist() == classes
    assert {None, "", "marketing", "illegal"} <= set(classes)
    for name in ("content", "mode"):
        assert details[name].to_pylist() == [getattr(verdict, name) for verdict in verdicts]
    sentences = ["; ".join(reason.en for reason in verdict.reasons) or None for verdict in verdicts]
    assert details["reasons"].to_pylist() == sentences
    for verdict in verdicts:
        by_band = verdict.action != "pass" and verdict.content is not None  # given only if a band leads to an action
        assert (verdict.plan_class == "illegal") == by_band


def sure_scorer(bundle_folder, policy, registers=None):
    """Returns a scorer whose bands every score reaches."""
    scorer = load_scorer(bundle_folder, policy, registers)
    sure = tuple(structs.replace(band, threshold=-1e9) for band in scorer.bundle.thresholds)
    return Scorer(structs.replace(scorer.bundle, thresholds=sure), policy, registers)


def test_protected_numbers_are_never_blocked(bundle_folder, registers, calls):
    scorer = sure_scorer(bundle_folder, HARSH, registers)
    counts = {"protected_caller": 0, "protected_callee": 0}
    for call, verdict in zip(real_bundle.key_calls(calls), replayed(scorer, real_bundle.key_calls(calls)), strict=True):
        names = {fact.rule for fact in verdict.rules}
        for guard in counts.keys() & names:
            counts[guard] += 1
            assert strength(verdict.action) <= strength("label")
        assert ("protected_callee" in names) or NUMBER_CLASSES[call.callee_class] not in PROTECTED
    assert min(counts.values()) > 5
    forged = Intake(real_bundle.NUMBER_KEY)(Call(real_bundle.START, "110", "13900001111", attestation="failed"))
    assert scorer.score(History(), forged).action == "label"


HOURS, SHOP, PERSON = 3600.0, "02887654321", "13600130001"


@pytest.mark.parametrize(
    ("earlier", "guards"),
    [
        ([], []),
        ([(PERSON, SHOP, 0.0, "no_answer", 0)], ["called_first"]),
        # The person returns a missed call, on the same day or on the next one.
        ([(SHOP, PERSON, 0.0, "no_answer", 0), (PERSON, SHOP, 40.0, "answered", 1)], []),
        ([(SHOP, PERSON, 0.0, "no_answer", 0), (PERSON, SHOP, 40.0, "answered", 24)], []),
        ([(SHOP, PERSON, 60.0, "answered", 0), (SHOP, PERSON, 60.0, "answered", 1)], []),  # both on one day
        ([(SHOP, PERSON, 60.0, "answered", 0), (SHOP, PERSON, 59.0, "answered", 24)], []),
        ([(SHOP, PERSON, 60.0, "answered", 0), (SHOP, PERSON, 60.0, "answered", 24)], ["long_talks"]),
    ],
)
def test_a_number_that_the_called_person_knows_passes_at_any_score(bundle_folder, earlier, guards):
    scorer = sure_scorer(bundle_folder, dataclasses.replace(read_policy(), history_days=0))
    intake, history = Intake(real_bundle.NUMBER_KEY), History()
    for caller, callee, talk, outcome, hours in earlier:
        history.observe(intake(Call(real_bundle.START + hours * HOURS, caller, callee, 5.0, talk, outcome)))
    later = Call(real_bundle.START + 48 * HOURS, SHOP, PERSON)
    verdict = scorer.score(history, intake(later))
    assert verdict.band == "certified"
    assert [fact.rule for fact in verdict.rules] == guards
    assert verdict.action == ("pass" if guards else "label")
    # A forged number may be one that the called person knows.
    forged = scorer.score(history, intake(dataclasses.replace(later, attestation="failed")))
    assert forged.action == "label"


@pytest.mark.source("P14", by="serving/rules/policy.py")
@pytest.mark.parametrize(
    ("limits", "before", "facts", "action"),
    [
        ({}, [(SHOP, 50), *((i, 40) for i in range(20))], [], "label"),  # the shipped limits
        ({"repeat_calls": 1.0}, [(SHOP, 59)], ["repeated_caller"], "pass"),
        ({"repeat_calls": 1.0}, [(SHOP, 61)], [], "label"),
        ({"repeat_calls": 1.0}, [(1, 5)], [], "label"),  # another caller
        ({"repeat_calls": 2.0}, [(SHOP, 50)], [], "label"),
        ({"repeat_calls": 1.0, "bombing_calls": 3.0}, [(SHOP, i) for i in (1, 2, 3)], ["call_bombing"], "screen"),
        ({"many_callers": 5.0}, [(i, 40) for i in range(5)], ["many_callers"], "label"),
        ({"many_callers": 5.0}, [(i % 4, i + 1) for i in range(9)], [], "label"),  # four numbers
    ],
)
def test_a_policy_can_know_a_caller_who_rings_again_and_a_burst_of_callers(
    bundle_folder, limits, before, facts, action
):
    terms = dataclasses.replace(Policy("1", {}).terms, **limits)
    bands, rules = {"certified": "label"}, {"call_bombing": "screen"}
    policy = Policy("1", bands, rules, history_days=0, terms=terms, repeated_caller="pass")
    scorer, intake, history = sure_scorer(bundle_folder, policy), Intake(real_bundle.NUMBER_KEY), History()
    now = real_bundle.START + HOURS
    earlier = [
        Call(now - 60 * minutes, caller if caller == SHOP else f"028876000{caller:02}", PERSON, 9.0, 0.0, "no_answer")
        for caller, minutes in before
    ]
    for call in earlier:
        history.observe(intake(call))
    verdict = scorer.score(history, intake(Call(now, SHOP, PERSON)))
    assert ([fact.rule for fact in verdict.rules], verdict.action) == (facts, action)
    table = real_bundle.key_table([*earlier, Call(now, SHOP, PERSON)])
    scores = score_vectors(scorer, table, vectors(table, threads=1), 1)
    assert (rule_names(scores.rule_bits[-1]), ACTIONS[scores.action[-1]]) == (tuple(facts), action)


@pytest.mark.parametrize(
    ("shown", "rules", "action"),
    [
        ({}, ["trusted_caller"], "pass"),
        ({"attestation": "A"}, ["trusted_caller"], "pass"),
        ({"attestation": "failed"}, ["authentication_failed"], "label"),
        ({"network_caller": "02887654322"}, ["shown_number_differs"], "label"),
        ({"route": "international"}, ["domestic_from_abroad", "trusted_caller"], "label"),
        ({"start": real_bundle.START - 3600}, [], "label"),  # before it is trusted
    ],
)
def test_the_model_does_not_act_on_a_trusted_number_that_the_network_does_not_doubt(
    bundle_folder, shown, rules, action
):
    intake = Intake(real_bundle.NUMBER_KEY)
    row = {"number": intake.token("number", SHOP), "kind": "survey"}
    registers = real_bundle.make_registers(trusted=[row | {"valid_from": round(real_bundle.START * 1000)}])
    scorer = sure_scorer(bundle_folder, dataclasses.replace(read_policy(), history_days=0), registers)
    call = dataclasses.replace(Call(real_bundle.START, SHOP, PERSON), **shown)
    verdict = scorer.score(History(), intake(call))
    assert verdict.band == "certified"
    assert ([fact.rule for fact in verdict.rules], verdict.action) == (rules, action)
    table = real_bundle.key_table([call])
    assert ACTIONS[score_vectors(scorer, table, vectors(table, threads=1), 1).action[0]] == action


def test_facts_name_the_register_row_and_the_time_it_became_known(bundle_folder, registers):
    intake, scorer = Intake(real_bundle.NUMBER_KEY), load_scorer(bundle_folder, HARSH, registers)
    call = intake(Call(LATE, real_bundle.CALLERS[0], real_bundle.CALLEES[0]))
    facts = {fact.rule: fact for fact in scorer.score(History(), call).rules}
    refusal = facts["called_after_refusal"]
    assert (refusal.register, refusal.known_at) == ("refusals", "1970-01-01T00:00:00Z")
    assert re.fullmatch("[a-p]{16}", refusal.entry)
    assert refusal.entry == registers.entry("refusals", 0)[0] != registers.entry("refusals", 1)[0]
    assert facts["outside_hours"].en == "The call comes at 14:00, outside the hours registered for this campaign."
    assert "14:00" in facts["outside_hours"].zh
    for fact in facts.values():
        assert "{" not in fact.en + fact.zh
    guarded = intake(Call(LATE, real_bundle.CALLERS[4], real_bundle.CALLEES[9]))
    guards = {fact.rule: fact.entry for fact in scorer.score(History(), guarded).rules if fact.register == "protected"}
    entries = [registers.entry("protected", row)[0] for row in (0, 1)]
    assert guards == {"protected_caller": entries[0], "protected_callee": entries[1]}


@pytest.mark.source("L10", by="serving/rules/rules.py")
def test_the_contract_limit_is_compared_with_counted_calls(bundle_folder, registers):
    intake, scorer, history = Intake(real_bundle.NUMBER_KEY), load_scorer(bundle_folder, HARSH, registers), History()
    verdicts = []
    for i in range(3):
        call = intake(Call(real_bundle.START + 60 * i, real_bundle.CALLERS[1], f"1360013{i:04d}", 5.0, 7.0, "answered"))
        verdicts.append(scorer.score(history, call))
        history.observe(call)
    limits = [[fact for fact in verdict.rules if fact.rule == "contract_frequency"] for verdict in verdicts]
    assert limits[:2] == [[], []]
    (fact,) = limits[2]
    assert (fact.value, fact.limit) == (2.0, 2.0)
    assert fact.en == "This number made 2 calls in the last 24 hours; its contract allows 2."


def test_a_case_rescores_with_its_stored_facts(bundle_folder, registers, calls):
    """The action comes from a rule, a band or both. Rescoring does not read the registers again."""
    scorer, other = load_scorer(bundle_folder, HARSH, registers), load_scorer(bundle_folder, HARSH)
    history, causes = History(), set()
    for call in real_bundle.key_calls(calls):
        vector, verdict = history.vector(call), scorer.score(history, call)
        history.observe(call)
        if verdict.action != "pass":
            record = record_from_line(record_to_line(verdict_record(verdict, call, vector, scorer)))
            again = rescore(record, other)
            assert again.differences == ()
            causes.add((bool(verdict.band), bool(verdict.rules)))
    assert causes >= {(True, False), (True, True), (False, True)}


class Broken(Registers):
    """Registers whose look-up fails."""

    def in_effect(self, *_):
        raise KeyError(NUMBER)


def test_a_broken_register_passes_and_a_broken_model_keeps_the_facts(bundle_folder, registers):
    call = Intake(real_bundle.NUMBER_KEY)(Call(real_bundle.START, NUMBER, "13900001111", attestation="failed"))
    verdict = load_scorer(bundle_folder, HARSH, Broken(registers.columns)).score(History(), call)
    assert (verdict.action, verdict.rules, verdict.status) == ("pass", (), "fault")
    scorer = load_scorer(bundle_folder, HARSH, registers)
    scorer.bundle = structs.replace(scorer.bundle, model=None)
    verdict = scorer.score(History(), call)
    assert verdict.action == "block"
    assert "authentication_failed" in [fact.rule for fact in verdict.rules]
    assert verdict.status == "fault"
    assert math.isnan(verdict.score)


def test_facts_pass_through_the_live_service_and_json(bundle_folder, registers, tmp_path):
    (tmp_path / "registers").mkdir()
    write_registers(registers, tmp_path / "registers")
    declare(tmp_path / "registers", "offices of the test", "law", ["export"], "2999-12-31")
    with pytest.raises(ValueError, match="declared for export, not for scoring"):
        current_registers(tmp_path / "registers")
    declare(tmp_path / "registers", "offices of the test", "law", ["scoring"], "2999-12-31", change=True)
    swap = live_states.loaded(bundle_folder, policy=HARSH, registers=tmp_path / "registers")
    live = live_states.begin(swap, tmp_path / "state")
    call = Call(LATE, real_bundle.CALLERS[0], real_bundle.CALLEES[0])
    verdict = live.attempt(call)
    assert {"called_after_refusal", "outside_hours"} <= {fact.rule for fact in verdict.rules}
    assert verdict.action == "block"
    assert repr(verdict_from_json(msgspec.json.encode(verdict)).rules) == repr(verdict.rules)
    assert live.rules["called_after_refusal"] == 1
    # Changed registers apply after the next reload, and earlier verdicts keep their facts.
    (tmp_path / "registers" / "refusals.jsonl").write_text("")
    swap.load(bundle_folder)
    again = live.attempt(dataclasses.replace(call, start=LATE + 60))
    assert "called_after_refusal" not in {fact.rule for fact in again.rules}
    explained = live.explain(verdict.case)
    assert (repr(explained.rules), explained.action) == (repr(verdict.rules), verdict.action)
    (tmp_path / "registers" / "refusals.jsonl").write_text("no register")
    with pytest.raises(ValueError, match=r"refusals\.jsonl line 1: expected"):
        swap.load(bundle_folder)
    assert swap.scorer.registers is not None
    live.close()
    assert not re.search(r"\d{7}", json.dumps([dataclasses.asdict(fact) for fact in verdict.rules]))


def test_a_missing_register_gives_unknown_facts():
    call = Intake(real_bundle.NUMBER_KEY)(Call(real_bundle.START, "95012345678", NUMBER, trunk="t"))
    facts = look_up(Registers({}), call, TERMS)
    assert all(math.isnan(getattr(facts, field.name)) for field in dataclasses.fields(facts) if field.name != "rows")
