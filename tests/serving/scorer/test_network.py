"""Thresholds that are distances from the score level of the network: alike for single calls, tables and cases."""

import dataclasses

import numpy as np
import pytest
from msgspec import structs

from callsieve.features import History
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel.windows import DAY_MS, WEEK
from callsieve.serving.batch.file_scoring import score_calls
from callsieve.serving.bundle import level as level_module
from callsieve.serving.bundle.level import NO_SHIFT, Shift, level_of
from callsieve.serving.bundle.metadata import Level
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.verdict_log import record_from_line, record_to_line, verdict_record
from callsieve.serving.rules.policy import Policy
from callsieve.serving.scorer import network_scores
from callsieve.serving.scorer.network_scores import MEASURED_EVERY, MOST_CALLS, NetworkScores
from callsieve.serving.scorer.scorer import Scorer
from tests.support import real_bundle

CALLS = 2_600
POLICY = Policy("t", {"certified": "block", "watch": "label"}, {}, appeal="office", history_days=0, feed="complete")


@pytest.fixture(scope="module")
def calls():
    """Keyed calls of one stream."""
    return real_bundle.key_table(real_bundle.calls(CALLS))


@pytest.fixture(scope="module")
def raw(bundle_folder, calls):
    """The raw scores of the calls, without a shift."""
    return score_calls(real_bundle.load_scorer(bundle_folder, POLICY), calls, threads=1)[0].raw


@pytest.fixture
def make_scorer(bundle_folder, raw, monkeypatch):
    """Makes scorers whose thresholds are distances from a level; a quarter of the calls score high."""
    monkeypatch.setattr(level_module, "ABOVE", float(np.quantile(raw, 0.75)))
    bundle = real_bundle.load_scorer(bundle_folder, POLICY).bundle

    def make(level, threshold):
        bands = tuple(structs.replace(band, threshold=threshold, raised={}, abstains=()) for band in bundle.thresholds)
        return Scorer(structs.replace(bundle, thresholds=bands, feeds={}, levels={bundle.feed: level}), POLICY)

    return make


def test_a_table_has_the_shift_of_its_own_level_and_scores_as_if_the_threshold_moved(make_scorer, calls, raw):
    network = level_of(raw.tolist())
    scorer = make_scorer(Level(network - 1, network + 2), float(np.median(raw)) + 2)
    scores, _ = score_calls(scorer, calls, threads=1)
    assert scores.shift.amount == network - (network + 2)
    assert np.array_equal(scores.raw, raw - scores.shift.amount)
    bands = tuple(
        structs.replace(band, threshold=float(np.median(raw)) + 2 + scores.shift.amount)
        for band in scorer.bands("complete")
    )
    fixed = Scorer(structs.replace(scorer.bundle, thresholds=bands, levels={}), POLICY)
    assert np.array_equal(scores.band_action, score_calls(fixed, calls, threads=1)[0].band_action)
    assert 0.2 < (scores.band_action > 0).mean() < 0.8


def test_single_calls_move_with_the_scores_before_them_and_replay_exactly(make_scorer, calls, raw):
    network = level_of(raw.tolist())
    scorer, history = make_scorer(Level(network - 1, network + 2), float(np.median(raw)) + 2), History()
    seen, verdicts = [], []
    for call in keyed_calls(calls):
        expected = scorer.networks["complete"].shift
        verdict, row = scorer.scored(history, call)
        history.observe(call)
        assert verdict.raw + expected.amount == pytest.approx(raw[len(seen)], abs=1e-12)
        assert verdict.shift == expected.amount
        seen.append(verdict.raw)
        verdicts.append((call, row, verdict))
    first, last = verdicts[0][2], verdicts[-1][2]
    assert first.shift == 0.0 and "not known yet" in first.message
    measured = raw[: (CALLS - 1) // MEASURED_EVERY * MEASURED_EVERY]
    assert last.shift == level_of(measured.tolist()) - (network + 2) and "level" not in last.message
    moved = [item for item in verdicts if item[2].shift < 0 and item[2].action != "pass"]
    assert len(moved) > 20
    for call, row, verdict in moved[:20]:
        record = record_from_line(record_to_line(verdict_record(verdict, call, row, scorer)))
        assert record.shift == verdict.shift
        assert rescore(record, scorer).differences == ()
        assert rescore(dataclasses.replace(record, shift=0.0), scorer).differences


def test_no_band_applies_in_an_unlike_network_and_the_status_has_the_figures(make_scorer, calls, raw):
    network = level_of(raw.tolist())
    scorer = make_scorer(Level(network + 3, network + 4), -1e9)
    scores, rows = score_calls(scorer, calls, threads=1)
    assert scores.shift.unlike and not scores.band_action.any()
    verdict = scorer.explain_row(rows[-1].tolist(), feed="complete", shift=scores.shift)
    assert (verdict.status, verdict.band, verdict.action) == ("unlike_network", "", "pass")
    assert f"{network:.1f}, learnt from {network + 3:.1f} to {network + 4:.1f}" in verdict.message
    assert scorer.explain_row(rows[-1].tolist(), feed="complete", shift=NO_SHIFT).band == "certified"


def test_calls_without_a_week_before_them_do_not_count(make_scorer, calls):
    scorer = make_scorer(Level(0.0, 1.0), 0.0)
    filling = Scorer(scorer.bundle, dataclasses.replace(POLICY, history_days=10_000))
    history = History()
    for call in keyed_calls(calls):
        filling.score(history, call)
        history.observe(call)
    assert filling.networks["complete"].shift == Level(0.0, 1.0).shift(None)


@pytest.mark.parametrize("calls_a_day", [500, 10_000, 60_000])
def test_the_sample_spans_the_last_week_and_follows_a_change(calls_a_day, monkeypatch):
    monkeypatch.setattr(network_scores, "MOST_CALLS", 8_000)
    network, levels, draw = NetworkScores(Level(0.0, 9.0)), [], np.random.default_rng(1)
    for number in range(20 * calls_a_day):
        high = 8.0 if number < 10 * calls_a_day else 6.0
        network.add(number * DAY_MS // calls_a_day, high if draw.random() < 0.1 else -5.0)
        if number % calls_a_day == 0:
            levels.append(network.shift.amount + 9.0)
    sampled = len(network._raw)
    assert sampled <= 8_000
    assert levels[9] == 8.0 and levels[-1] == 6.0
    span = network._start[-1] - network._start[0]
    assert span >= min(WEEK, 20 * DAY_MS) * 0.9
    assert MOST_CALLS == 20_000


def test_a_bundle_with_fixed_thresholds_has_no_shift(bundle_folder, calls):
    scorer = real_bundle.load_scorer(bundle_folder, POLICY)
    scores, rows = score_calls(scorer, calls, threads=1)
    assert scorer.networks == {} and scores.shift == NO_SHIFT == Shift() == scorer.shift_of(rows)
