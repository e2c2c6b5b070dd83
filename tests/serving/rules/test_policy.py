"""The policy: no action is stronger than the file and the certificates allow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.policy import (
    ACTIONS,
    Policy,
    action_confidence,
    band_action,
    certified_action,
    final_action,
    policy_path,
    read_policy,
)
from callsieve.serving.rules.register_lookup import Terms
from callsieve.serving.rules.rules import ACTION_RULES, PROTECTED
from callsieve.serving.rules.strata import STRATA
from tests.support import small_bundle as small

SOUND = small.certificate()
LOOSE = small.certificate(false_calls=90, bound=0.0036, certified=False)
STRICT = Policy("1", {"certified": "block", "watch": "screen"}, appeal="office")

certificates = st.sampled_from([SOUND, LOOSE])
strata = st.dictionaries(st.sampled_from(STRATA), certificates)
higher = st.dictionaries(st.sampled_from(STRATA), st.floats(0, 3))
silences = st.lists(st.sampled_from(STRATA), unique=True).map(tuple)
names = st.sampled_from(["certified", "watch", "third"])
policies = st.dictionaries(names, st.sampled_from(ACTIONS)).map(lambda bands: Policy("1", bands, appeal="office"))


@st.composite
def bands(draw):
    edges = sorted(draw(st.lists(st.floats(-5, 5), max_size=3)), reverse=True)
    raised = lambda edge: {stratum: edge + more for stratum, more in draw(higher).items()}
    return tuple(
        Band(name, edge, draw(certificates), draw(strata), draw(silences), raised(edge))
        for name, edge in zip(("certified", "watch", "third"), edges, strict=False)
    )


def strength(action):
    return ACTIONS.index(action)


def band(whole, own, threshold=1.0, name="certified"):
    return Band(name, threshold, whole, {} if own is None else {"mobile": own})


@pytest.mark.source("P14", by="serving/rules/policy.py")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("whole", "own", "certified"),
    [(SOUND, SOUND, True), (SOUND, LOOSE, False), (SOUND, None, False), (LOOSE, SOUND, False), (LOOSE, LOOSE, False)],
)
def test_actions_stronger_than_label_need_both_certificates(action, whole, own, certified):
    weaker = min(action, "label", key=strength)
    assert certified_action(action, band(whole, own), "mobile") == (action if certified else weaker)
    assert certified_action(action, band(whole, own), "fixed") == weaker  # that class has no certificate


def test_protected_numbers_pass():
    assert set(PROTECTED) == {"emergency", "public_service"} <= set(STRATA)
    sure = Band("certified", 0.0, SOUND, dict.fromkeys(STRATA, SOUND))
    assert {certified_action(action, sure, stratum) for action in ACTIONS for stratum in PROTECTED} == {"pass"}


BOTH = (band(SOUND, SOUND, 2.0), band(SOUND, SOUND, 1.0, "watch"))


@pytest.mark.parametrize(
    ("policy", "bands", "raw", "expected"),
    [
        *((STRICT, BOTH, raw, ("block", "certified")) for raw in (2.5, 2.0, float("inf"))),
        *((STRICT, BOTH, raw, ("screen", "watch")) for raw in (1.999, 1.0)),
        *((STRICT, BOTH, raw, ("pass", "")) for raw in (0.999, float("-inf"), float("nan"))),
        # A band without an action passes under its name, and a higher score never weakens the action.
        (Policy("1", {"watch": "block"}), (band(SOUND, SOUND),), 3.0, ("pass", "certified")),
        (STRICT, (band(LOOSE, SOUND, 2.0), BOTH[1]), 2.5, ("screen", "certified")),
    ],
)
def test_the_strongest_action_of_the_reached_bands_decides(policy, bands, raw, expected):
    assert band_action(policy, bands, raw, "mobile") == expected


@given(policies, bands(), st.floats(), st.sampled_from(STRATA))
def test_the_action_is_never_stronger_than_policy_and_certificates_allow(policy, drawn, raw, stratum):
    action, name = band_action(policy, drawn, raw, stratum)
    reached = [
        band for band in drawn if raw >= band.raised.get(stratum, band.threshold) and stratum not in band.abstains
    ]
    assert name == (reached[0].name if reached else "")
    expected = [policy.bands.get(band.name, "pass") for band in reached]
    assert strength(action) <= max(map(strength, expected), default=0)
    if stratum in PROTECTED:
        assert action == "pass"
    if strength(action) > strength("label"):
        own = [band.strata.get(stratum) for band in reached]
        sound = [
            band.certificate.certified and certificate is not None and certificate.certified
            for band, certificate in zip(reached, own, strict=True)
        ]
        assert action in [word for word, good in zip(expected, sound, strict=True) if good]


@given(policies, bands(), st.floats(-6, 6), st.sampled_from(STRATA))
def test_losing_a_certificate_never_strengthens_the_action(policy, drawn, raw, stratum):
    poorer = tuple(structs.replace(band, certificate=LOOSE) for band in drawn)
    before, after = band_action(policy, drawn, raw, stratum), band_action(policy, poorer, raw, stratum)
    assert strength(after[0]) <= strength(before[0])
    assert after[1] == before[1]


@pytest.mark.parametrize(
    ("by_band", "rules", "expected"),
    [
        ("label", (), 0.99),
        ("label", ("ring_once",), 0.99),  # the band alone leads to the label
        ("pass", ("ring_once",), 0.6),
        ("pass", ("ring_once", "own_number"), 0.8),  # of two rules, the higher
        ("label", ("call_bombing",), 0.7),  # the rule leads to "screen", the band does not
        ("pass", ("call_bombing", "own_number"), 0.7),  # a rule for a weaker action does not count
        ("pass", ("lapsed_number",), math.nan),  # no figure in the policy
        ("pass", ("withheld_number",), math.nan),  # the rule leads to no action
        ("label", ("long_talks", "own_number"), 0.8),  # the guard leaves the action to the rule
        ("block", ("protected_caller", "own_number", "ring_once"), 0.8),
        ("pass", (), math.nan),
    ],
)
def test_a_verdict_has_the_confidence_of_the_evidence_that_leads_to_it(by_band, rules, expected):
    actions = {"ring_once": "label", "own_number": "label", "call_bombing": "screen", "lapsed_number": "label"}
    figures = {"ring_once": 0.6, "own_number": 0.8, "call_bombing": 0.7, "withheld_number": 1.0}
    policy = Policy("1", {}, actions, "office", known_caller="pass", confidence=figures)
    confidence = action_confidence(policy, final_action(policy, by_band, rules), by_band, 0.99, rules)
    assert repr(confidence) == repr(expected)


@pytest.mark.source("P14", by="serving/rules/policy.toml")
def test_the_shipped_policy_labels_at_most_and_states_its_terms():
    policy = read_policy()
    assert policy.version
    assert set(policy.bands) == {"certified", "watch"}
    assert max(map(strength, policy.bands.values())) <= strength("label")
    assert max(map(strength, policy.rules.values())) == strength("label")
    assert set(policy.rules) == set(ACTION_RULES)
    assert policy.appeal == ""
    assert policy.terms.marketing
    assert policy.terms.uses
    assert policy.terms.ring_once_share == Terms().ring_once_share
    assert policy.terms.ring_once_calls == Terms().ring_once_calls


@pytest.mark.source("L13", "L15", "L16", "L17", "L19", by="serving/rules/plan-2018.toml")
def test_the_plan_stops_calls_that_the_default_policy_does_not():
    stopped = {
        "authentication_failed", "outside_trunk_ranges", "shown_number_differs", "own_number", "domestic_from_abroad",
        "irregular_number", "ring_once", "call_bombing", "outside_hours", "called_after_refusal", "no_consent",
    }  # fmt: skip
    cautious, plan = read_policy("default"), read_policy("plan-2018")
    assert {rule for rule in ACTION_RULES if final_action(plan, "pass", {rule}) == "block"} == stopped
    assert not [rule for rule in ACTION_RULES if final_action(cautious, "pass", {rule}) == "block"]
    assert cautious == read_policy() and plan.terms == cautious.terms
    assert (plan.bands, plan.known_caller, plan.history_days) == (cautious.bands, "pass", cautious.history_days)
    assert final_action(plan, "pass", {"authentication_failed", "protected_caller"}) == "label"
    assert final_action(plan, "pass", {"no_consent", "protected_callee"}) == "label"
    assert final_action(plan, "pass", {"call_bombing", "called_first"}) == "pass"


def test_an_own_file_with_the_name_of_a_shipped_policy_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert policy_path("plan-2018").is_absolute()
    (tmp_path / "plan-2018").write_text('version = "mine"\n[bands]\n')
    assert read_policy("plan-2018").version == "mine"
    with pytest.raises(FileNotFoundError, match="plan-2019"):
        read_policy("plan-2019")


@pytest.mark.source("P14", by="serving/rules/policy.py")
def test_a_policy_without_an_appeal_blocks_nothing():
    sure = (band(SOUND, SOUND),)
    expected = {"bands": {"certified": "block"}, "rules": {"ring_once": "block"}}
    for appeal, action in (("", "label"), ("12321.cn", "block")):
        policy = Policy("1", **expected, appeal=appeal)
        assert band_action(policy, sure, 3.0, "mobile") == (action, "certified")
        assert final_action(policy, "pass", ["ring_once"]) == action


def test_every_field_of_a_policy_file_is_read(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('version = "2026-03 骚扰"\n[bands]\ncertified = "block"\n', encoding="utf-8")
    assert read_policy(path) == read_policy(str(path)) == Policy("2026-03 骚扰", {"certified": "block"})
    path.write_text(
        'version = "3"\nappeal = " the office "\naccepted = "label"\nknown_caller = "screen"\nhistory_days = 14\n'
        'repeated_caller = "screen"\n'
        'feed = "no routes"\n'
        '[bands]\nwatch = "label"\n'
        '[rules]\nno_consent = "screen"\n[terms]\nbombing_calls = 12\nmany_callers = 9\n'
        'repeat_calls = 3\nmarketing = ["loans"]\n'
        'known_talk_days = 3\nmust_register = ["400"]\n[terms.uses]\n"own use" = ["fixed"]\n'
    )
    uses = {"own use": ("fixed",)}
    limits = {"bombing_calls": 12.0, "many_callers": 9.0, "repeat_calls": 3.0, "known_talk_days": 3.0}
    terms = Terms(**limits, marketing=("loans",), must_register=("400",), uses=uses)
    rules = {"no_consent": "screen"}
    expected = Policy(
        "3", {"watch": "label"}, rules, "the office", "label", "screen", terms, 14, feed="no routes",
        repeated_caller="screen",
    )  # fmt: skip
    assert read_policy(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "missing required field `version`"),
        (b"version =", "expected a TOML file"),
        (b"\xff\xfe", "expected a TOML file"),
        pytest.param(b"version = " + b"[" * 10_000, "expected a TOML file", id="deep"),
        pytest.param(b"version = " + b"9" * 10_000, "expected a TOML file", id="huge"),
        (b'version = "1"', "missing required field `bands`"),
        (b'version = "1"\nmore = 1\n[bands]', "unknown field `more`"),
        (b'version = "1"\nfeed = "whole"\n[bands]', "feed: invalid enum value 'whole'"),
        (b'version = "1"\n[bands]\nwatch = "Block"', "bands[...]: invalid enum value 'Block'"),
        (b'version = "1"\n[bands]\n[rules]\nunheard = "pass"', "rules: invalid enum value 'unheard'"),
        (
            b'version = "1"\n[bands]\n[rules]\nprotected_caller = "block"',
            "rules: invalid enum value 'protected_caller'",
        ),
        (b'version = "1"\n[bands]\n[rules]\nring_once = "stop"', "rules[...]: invalid enum value 'stop'"),
        (b'version = "1"\naccepted = "yes"\n[bands]', "accepted: invalid enum value 'yes'"),
        (b'version = "1"\nknown_caller = "no"\n[bands]', "known_caller: invalid enum value 'no'"),
        (b'version = "1"\n[bands]\n[terms]\nknown_talk_days = 7', "known_talk_days: expected `float` <= 6.0"),
        (b'version = "1"\n[bands]\n[terms]\nbombing_calls = 0', "terms.bombing_calls: expected `float` > 0.0"),
        (b'version = "1"\n[bands]\n[terms]\nring_once_share = 1.5', "share: expected `float` <= 1.0"),
        (b'version = "1"\n[bands]\n[terms]\nmust_register = ["95"]', "terms.must_register[0]: invalid enum value '95'"),
        (b'version = "1"\n[bands]\n[terms]\nmore = 1', "terms: object contains unknown field `more`"),
        (b'version = "1"\n[bands]\n[confidence]\nring_twice = 0.5', "confidence: invalid enum value 'ring_twice'"),
        (b'version = "1"\n[bands]\n[confidence]\nring_once = 1.5', "confidence[...]: expected `float` <= 1.0"),
        (b'version = "1"\n[bands]\n[confidence]\nring_once = 0', "confidence[...]: expected `float` > 0.0"),
        (b'version = "1"\n[bands]\n[confidence]\nring_once = nan', "confidence[...]: expected `float` "),
    ],
)
def test_an_invalid_policy_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "policy.toml"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"policy\.toml: ") as caught:
        read_policy(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
