"""Bands apply on their own feed alone: a bundle abstains on records for which it has no bands."""

import dataclasses

import numpy as np
import pytest
from msgspec import structs

from callsieve.features import History
from callsieve.features.catalogue import BY_NAME, NAMES
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.online.feeds import (
    ANSWERED_ONLY,
    COMPLETE,
    NO_RING_TIME,
    NO_ROUTES,
    OUTGOING_ONLY,
    UNKNOWN_FEED,
)
from callsieve.serving.batch.file_scoring import score_calls
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.swap import Swap
from callsieve.serving.live.verdict_log import record_from_line, record_to_line, verdict_record
from callsieve.serving.rules.policy import ACTIONS, Policy, pin_feed, read_policy
from callsieve.serving.rules.preferences import PREFERENCE_RULE
from callsieve.serving.rules.rule_bits import rule_names
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.model.trees import read_forest
from tests.support import real_bundle
from tests.support.calls.lacks import without
from tests.support.small_bundle import train_text

CALLS, LAST = 2_200, 150
EVERY, NONE = -1e9, 1e9  # thresholds that every score reaches, or none
RULES = {"authentication_failed": "label", PREFERENCE_RULE: "label"}
TERMS = dataclasses.replace(read_policy().terms, content_share=0.34)
POLICY = Policy("t", {"certified": "block", "watch": "label"}, RULES, appeal="office", terms=TERMS, history_days=0)


@pytest.fixture(scope="module")
def calls():
    """Keyed calls of six days with trunks: one in five is not answered, one in seven has failed authentication."""
    written = [
        dataclasses.replace(
            call,
            start=round(real_bundle.START + (call.start - real_bundle.START) / 8, 3),
            outcome=call.outcome if n % 5 == 0 or call.talk is None else "answered",
            trunk=f"trunk {n % 5}",
            attestation="failed" if n % 7 == 0 else "A",
        )
        for n, call in enumerate(real_bundle.calls(CALLS))
    ]
    return real_bundle.key_table(written)


@pytest.fixture(scope="module")
def make_scorer(bundle_folder, calls):
    """Makes scorers whose bands begin at these thresholds on each feed. Every called person rejects all categories."""
    rows = [{"callee": token, "category": "any", "accepts": False} for token in calls["callee"].unique().to_pylist()]
    registers = real_bundle.make_registers(preferences=rows)
    bundle = real_bundle.load_scorer(bundle_folder, POLICY).bundle

    def make(thresholds, policy=POLICY):
        bands = {
            feed: tuple(structs.replace(band, threshold=threshold) for band in bundle.thresholds)
            for feed, threshold in thresholds.items()
        }
        complete = bands.pop(COMPLETE, bundle.thresholds)
        return Scorer(structs.replace(bundle, thresholds=complete, feeds=bands), policy, registers)

    return make


def last_verdicts(scorer, calls):
    """Returns the last calls of a stream with their vectors and verdicts; the feed was measured on the same day."""
    history, rows, begin = History(), [], calls.num_rows - LAST
    for number, call in enumerate(keyed_calls(calls)):
        if number >= begin:
            rows.append((call, history.row(call).tolist(), scorer.score(history, call)))
        history.observe(call)
    return rows


def check_table(scorer, calls, rows):
    """Asserts that a table gives the verdicts of single calls."""
    scores, _ = score_calls(scorer, calls, threads=1)
    assert [ACTIONS[code] for code in scores.action[-LAST:]] == [verdict.action for *_, verdict in rows]
    assert [set(rule_names(bits)) for bits in scores.rule_bits[-LAST:].tolist()] == [
        {fact.rule for fact in verdict.rules} for *_, verdict in rows
    ]
    assert {scores.feed} == {verdict.feed for *_, verdict in rows}


@pytest.mark.parametrize(
    "lacks", [(ANSWERED_ONLY,), (OUTGOING_ONLY,), (NO_ROUTES,), (NO_RING_TIME,), (NO_ROUTES, NO_RING_TIME)], ids=str
)
def test_every_band_abstains_on_a_feed_without_bands_and_rules_act(make_scorer, calls, lacks):
    scorer = make_scorer({COMPLETE: EVERY})
    poorer = without(calls, lacks)
    rows = last_verdicts(scorer, poorer)
    check_table(scorer, poorer, rows)
    verdicts = [verdict for *_, verdict in rows]
    assert {(verdict.status, verdict.band, verdict.feed) for verdict in verdicts} == {
        ("other_feed", "", ", ".join(lacks))
    }
    assert {verdict.action for verdict in verdicts} == {"pass", "label"}
    for verdict in verdicts:
        assert (verdict.action == "label") == ("authentication_failed" in {fact.rule for fact in verdict.rules})
        assert PREFERENCE_RULE not in {fact.rule for fact in verdict.rules}
        assert np.isfinite(verdict.raw) and np.isnan(verdict.threshold)
    scores, vectors = score_calls(scorer, poorer, threads=1)
    assert not scores.band_action.any()
    assert set(scorer.abstaining_strata(vectors, scores.feed)) == {None}


ALL = {COMPLETE: EVERY, NO_ROUTES: EVERY, NO_RING_TIME: EVERY}
COMPLETE_ALONE, NO_ROUTES_ALONE = {COMPLETE: EVERY, NO_ROUTES: NONE}, {COMPLETE: NONE, NO_ROUTES: EVERY}
PART = {"lacks": (NO_RING_TIME,), "share": 0.93}  # one of several processes takes its share for records that lack calls


@pytest.mark.parametrize(
    ("thresholds", "trained", "policy", "records", "expected"),
    [
        (COMPLETE_ALONE, COMPLETE, {}, {"lacks": ()}, ("scored", "certified", COMPLETE)),
        (COMPLETE_ALONE, COMPLETE, {}, {"lacks": (NO_ROUTES,)}, ("scored", "", NO_ROUTES)),
        (NO_ROUTES_ALONE, COMPLETE, {}, {"lacks": ()}, ("scored", "", COMPLETE)),
        (NO_ROUTES_ALONE, COMPLETE, {}, {"lacks": (NO_ROUTES,)}, ("scored", "certified", NO_ROUTES)),
        (ALL, COMPLETE, {}, PART, ("other_feed", "", UNKNOWN_FEED)),
        (ALL, COMPLETE, {"feed": COMPLETE}, PART, ("scored", "certified", COMPLETE)),
        (ALL, COMPLETE, {"feed": NO_RING_TIME}, PART, ("scored", "certified", NO_RING_TIME)),
        (ALL, COMPLETE, {"feed": NO_RING_TIME}, {"lacks": ()}, ("scored", "certified", NO_RING_TIME)),
        (ALL, COMPLETE, {"history_days": 20}, {"lacks": (NO_ROUTES,)}, ("filling", "", NO_ROUTES)),
        # A bundle of records without routes labels such records, and abstains where routes are recorded.
        ({COMPLETE: EVERY}, NO_ROUTES, {}, {"lacks": (NO_ROUTES,)}, ("scored", "certified", NO_ROUTES)),
        ({COMPLETE: EVERY}, NO_ROUTES, {}, {"lacks": ()}, ("other_feed", "", COMPLETE)),
    ],
)
def test_the_bands_of_the_feed_of_the_records_apply_and_no_others(
    make_scorer, calls, thresholds, trained, policy, records, expected
):
    made = make_scorer(thresholds, dataclasses.replace(POLICY, **policy))
    scorer = Scorer(structs.replace(made.bundle, feed=trained), made.policy, made.registers)
    stream = without(calls, **records)
    rows = last_verdicts(scorer, stream)
    check_table(scorer, stream, rows)
    assert {(verdict.status, verdict.band, verdict.feed) for *_, verdict in rows} == {expected}
    assert {verdict.threshold for *_, verdict in rows if verdict.band} == ({EVERY} if expected[1] else set())
    warned = [verdict for *_, verdict in rows if PREFERENCE_RULE in {fact.rule for fact in verdict.rules}]
    assert bool(warned) == bool(expected[1])


def test_calls_of_records_with_few_routes_are_scored_as_if_the_records_had_none(make_scorer, calls):
    """A path that sends a trunk, beside records without one, switches no model off."""
    scorer = make_scorer({COMPLETE: NONE, NO_ROUTES: EVERY})
    few, none = (last_verdicts(scorer, without(calls, (NO_ROUTES,), share)) for share in (0.93, 1.0))
    check_table(scorer, without(calls, (NO_ROUTES,), share=0.93), few)
    assert [repr(verdict) for *_, verdict in few] == [repr(verdict) for *_, verdict in none]
    assert any(call.trunk for call, _, _ in few)
    unmasked = [scorer.bundle.model.predict_one(row) for _, row, _ in few]
    assert unmasked != [verdict.raw for _, _, verdict in few]


@pytest.mark.parametrize(("own", "recorded"), [(NO_ROUTES, COMPLETE), (COMPLETE, NO_ROUTES)])
def test_a_model_that_reads_neither_trunk_nor_device_needs_neither(make_scorer, calls, own, recorded):
    matrix = real_bundle.rows(2_000)
    for column, name in enumerate(NAMES):
        matrix[:, column] = np.nan if BY_NAME[name].role in ("trunk", "device") else matrix[:, column]
    text = train_text(matrix, (matrix[:, 0] > 4).astype(int), NAMES, real_bundle.CATEGORICAL, 3)
    bundle = structs.replace(make_scorer({COMPLETE: EVERY}).bundle, model=read_forest(text), feed=own)
    scorer, records = Scorer(bundle, POLICY), without(calls, () if recorded == COMPLETE else (NO_ROUTES,))
    rows = last_verdicts(scorer, records)
    check_table(scorer, records, rows)
    assert {(verdict.status, verdict.band, verdict.feed) for *_, verdict in rows} == {("scored", "certified", own)}
    assert scorer.feed_for(UNKNOWN_FEED) == UNKNOWN_FEED and scorer.feed_for(ANSWERED_ONLY) == ANSWERED_ONLY


def test_a_pinned_feed_is_checked():
    assert pin_feed(POLICY, "") is POLICY and Scorer.load(feed=NO_ROUTES).policy.feed == NO_ROUTES
    for wrong in ("full", UNKNOWN_FEED, "no ring time, no routes"):
        with pytest.raises(ValueError, match=r"^feed: expected 'complete', or one or more of answered only, "):
            Scorer.load(feed=wrong)
        with pytest.raises(ValueError, match=r"^feed: expected"):
            Swap(trusted=(), feed=wrong)


def test_a_case_of_any_feed_is_rescored_alike(make_scorer, calls):
    poorer = without(calls, (NO_ROUTES,))
    for scorer in (make_scorer({COMPLETE: NONE, NO_ROUTES: EVERY}), make_scorer({COMPLETE: EVERY})):
        labelled = [row for row in last_verdicts(scorer, poorer) if row[2].action != "pass"]
        assert labelled
        for call, vector, verdict in labelled:
            record = record_from_line(record_to_line(verdict_record(verdict, call, vector, scorer)))
            assert record.feed == NO_ROUTES
            assert rescore(record, scorer).differences == ()


def test_vectors_without_records_are_on_the_feed_of_the_training(make_scorer):
    complete = make_scorer({COMPLETE: EVERY}).bundle
    poorer = Scorer(structs.replace(complete, feed=NO_ROUTES), POLICY)
    rows = real_bundle.rows(5)
    assert poorer.score_table(rows).feed == NO_ROUTES and poorer.score_table(rows).band_action.any()
    assert {(poorer.explain_row(row).feed, poorer.explain_row(row).status) for row in rows.tolist()} == {
        (NO_ROUTES, "scored")
    }
    assert not poorer.score_table(rows, feed=COMPLETE).band_action.any()


def test_the_second_model_gives_score_and_reasons_of_answered_calls(make_scorer, calls):
    bundle = make_scorer({COMPLETE: EVERY, ANSWERED_ONLY: EVERY}).bundle
    turned = structs.replace(bundle.calibration, y=tuple(y / 2 for y in bundle.calibration.y))
    scorer = Scorer(structs.replace(bundle, second=bundle.model, second_calibration=turned), POLICY)
    answered = without(calls, [ANSWERED_ONLY])
    for call, row, verdict in last_verdicts(scorer, answered)[:20]:
        assert verdict.score == turned.probability(verdict.raw), call
        assert verdict.score == scorer.score_table(np.array([row]), feed=ANSWERED_ONLY).score[0]
        assert scorer.score_table(np.array([row])).score[0] == bundle.calibration.probability(verdict.raw)
