"""Bands: mobile numbers with few calls have their own threshold; strata without an innocent call abstain."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA
from callsieve.training.evidence.judging_labels import JudgingLabels
from callsieve.training.model.bands import (
    OF_FOLDERS,
    OF_GROUPS,
    FeedScores,
    aligned_scores,
    bands_of,
    choose_bands,
    stratum_thresholds,
)
from callsieve.training.model.certify import certificate, upper_bound

MOBILE, RESALE, FIXED, IOT, STILL = map(STRATA.index, ("mobile", "resale", "fixed", "iot", "quiet_mobile"))
TARGET = 1e-3
CAUTION = replace(OF_GROUPS, guard=0.0)
ENOUGH = next(n for n in range(1000, 20_000) if upper_bound(0, n) <= CAUTION.margin * TARGET)
NOTHING = certificate("certify", np.empty(0), 0.0, TARGET)


def scores(**counts):
    """Benign calls: mobile numbers score about 0, fixed lines about 5."""
    kind = np.repeat([STRATA.index(name) for name in counts], list(counts.values()))
    rng = np.random.default_rng(2)
    return rng.normal(size=len(kind)) + np.where(kind == FIXED, 5.0, 0.0), kind


def parties(kind):
    every = np.arange(len(kind))
    return {"caller": every, "start": every, "trunk": np.full(len(kind), -1)}


def edges(raw, kind, caution=CAUTION):
    return stratum_thresholds(FeedScores(raw, kind), np.ones(len(raw), dtype=bool), TARGET, caution)


def test_all_numbers_with_many_calls_share_a_threshold_that_holds_for_them_together():
    raw, kind = scores(mobile=ENOUGH, fixed=200, resale=10, iot=20)
    thresholds = edges(raw, kind)
    assert set(thresholds) == {"mobile", "fixed", "resale", "iot"} and len(set(thresholds.values())) == 1
    false, calls = int((raw >= thresholds["mobile"]).sum()), len(raw)
    assert upper_bound(false, calls) <= CAUTION.margin * TARGET < upper_bound(false + 1, calls)


def test_numbers_with_few_calls_but_too_few_innocent_calls_use_the_higher_threshold():
    for calls, own in ((ENOUGH, True), (ENOUGH - 1, False)):
        raw, kind = scores(mobile=ENOUGH, quiet_mobile=calls)
        raw[kind == STILL] -= 9.0
        thresholds = edges(raw, kind)
        assert (thresholds["quiet_mobile"] < -3) == own
        assert (thresholds["quiet_mobile"] == thresholds["mobile"]) != own


def test_quiet_and_busy_mobile_numbers_have_separate_thresholds():
    raw, kind = scores(mobile=ENOUGH, quiet_mobile=ENOUGH)
    raw[kind == MOBILE] += 4.0
    thresholds = edges(raw, kind)
    assert thresholds["quiet_mobile"] + 3 < thresholds["mobile"]


def test_with_one_call_too_few_the_threshold_is_above_every_score():
    raw, kind = scores(mobile=ENOUGH - 1)
    assert edges(raw, kind)["mobile"] > raw.max()


def test_a_guard_is_added_to_each_threshold():
    raw, kind = scores(mobile=2 * ENOUGH, iot=5)
    guarded = edges(raw, kind, replace(CAUTION, guard=1.5))
    assert guarded["mobile"] == pytest.approx(edges(raw, kind)["mobile"] + 1.5)


def test_scores_of_unseen_folders_use_the_whole_target():
    """The lowest threshold whose bound holds on the calls to choose on: one call lower, it fails."""
    raw, kind = scores(mobile=4 * ENOUGH)
    thresholds = edges(raw, kind, OF_FOLDERS)
    below = np.sort(raw)
    false = int((below >= thresholds["mobile"]).sum())
    assert 0 < upper_bound(false, 4 * ENOUGH) <= TARGET < upper_bound(false + 1, 4 * ENOUGH)
    assert thresholds["mobile"] == np.nextafter(below[-false - 1], np.inf)


def test_thresholds_fall_by_band_and_certificates_count_flagged_calls():
    rng = np.random.default_rng(3)
    kind = np.repeat([MOBILE, RESALE, FIXED, IOT], [200_000, 2_000, 20_000, 100])
    raw = rng.normal(size=len(kind)) + np.where(kind == FIXED, 1.0, 0.0)
    raw[kind == IOT] = np.nan
    half = np.arange(len(kind)) % 2 == 0
    high, low = bands_of(FeedScores(raw, kind), half, ~half, CAUTION)
    assert [(band.name, band.certificate.target) for band in (high, low)] == [("certified", 1e-4), ("watch", 1e-3)]
    looser = bands_of(FeedScores(raw, kind), half, ~half, CAUTION, 1e-3)
    assert [band.certificate.target for band in looser] == [1e-3, 1e-2]
    assert looser[0].threshold < high.threshold
    assert all(high.threshold_for(word) >= low.threshold_for(word) for word in STRATA)
    assert high.threshold_for("fixed") == high.threshold_for("mobile") == high.threshold_for("resale")
    assert set(high.abstains) == set(STRATA) - {"mobile", "resale", "fixed"}
    for band in (high, low):
        edge = np.array([band.threshold_for(word) for word in STRATA])[kind]
        assert band.certificate.false_calls == ((raw >= edge) & ~half).sum() > 0
        assert band.certificate.benign_calls == (~half & (kind != IOT)).sum()


@pytest.mark.source("P14", by="training/model/bands.py")
@pytest.mark.parametrize(("above", "raised"), [(0.2, 0.0), (0.4, 0.5), (0.9, 1.0), (1.3, 0.0)])
def test_a_band_rises_to_the_first_step_that_certifies_it_and_stays_where_none_does(above, raised):
    """Innocent calls to certify on, of which 30 lie `above` the threshold that the calls to choose on give."""
    calls = 100_000
    plain, kind = scores(mobile=calls)
    every = np.ones(calls, dtype=bool)
    edge = stratum_thresholds(FeedScores(plain, kind), every, 1e-4, OF_FOLDERS)["mobile"]
    false = 30 if above > 0.2 else 0
    raw, kind = np.r_[plain, np.full(false, edge + above), plain[: calls - false] - 3.0], np.repeat(kind, 2)
    choose = np.arange(len(raw)) < calls
    top, watch = bands_of(FeedScores(raw, kind), choose, ~choose, OF_FOLDERS)
    assert top.threshold_for("mobile") == pytest.approx(edge + raised)
    assert (top.certificate.certified, watch.certificate.certified) == (above < 1.0, True)
    assert top.certificate.false_calls == (false if above > raised else 0)
    assert watch.threshold_for("mobile") <= top.threshold_for("mobile")


@given(
    raw=st.floats(-10, 10) | st.just(np.nan),
    threshold=st.floats(-5, 5),
    more=st.dictionaries(st.sampled_from(STRATA), st.floats(0, 3)),
    silent=st.lists(st.sampled_from(STRATA), unique=True),
    at_edge=st.booleans(),
    kind=st.sampled_from(range(len(STRATA))),
)
def test_one_threshold_on_aligned_scores_equals_the_thresholds_of_strata(raw, threshold, more, silent, at_edge, kind):
    raised = {word: threshold + extra for word, extra in more.items()}
    band = Band("top", threshold, NOTHING, {}, tuple(silent), raised)
    edge = band.threshold_for(STRATA[kind])
    raw = edge if at_edge and np.isfinite(edge) else raw
    aligned = aligned_scores(np.array([raw]), np.array([kind]), band)
    assert (aligned >= threshold).tolist() == [bool(raw >= edge)]
    assert np.isnan(aligned[0]) == np.isnan(raw)


@pytest.mark.source("P14", by="training/model/bands.py")
@pytest.mark.parametrize(("target", "fewest"), [(1e-4, 2995), (1e-3, 299)])
def test_without_a_truth_bands_abstain_if_innocent_calls_are_too_few_to_choose_on(target, fewest):
    for source, calls, abstains in (
        ("labels", fewest - 1, True),
        ("labels", fewest, False),
        ("truth", fewest - 1, False),
    ):
        raw, kind = scores(mobile=calls + 50)
        nuisance = np.arange(len(raw)) < 50
        every = np.ones(len(raw), dtype=bool)
        labels = JudgingLabels(every, nuisance, kind, source, kind, kind)
        pool = SimpleNamespace(choose=every, certify=every, judged=labels, **parties(kind))
        bands = choose_bands({COMPLETE: FeedScores(raw, kind)}, pool, COMPLETE, CAUTION, target).bands
        assert [set(band.abstains) == set(STRATA) for band in bands] == [abstains] * 2
        for band in bands:
            reached = aligned_scores(raw, kind, band) >= band.threshold
            assert band.certificate.certified <= (not abstains) and reached.sum() <= (0 if abstains else 50)


def test_a_call_without_evidence_does_not_move_a_threshold():
    raw, kind = scores(mobile=6000)
    raw[:200] += 30.0  # unreported nuisance
    every = np.ones(len(raw), dtype=bool)
    nothing = np.zeros(len(raw), dtype=bool)

    def chosen(known):
        labels = JudgingLabels(known, nothing, kind, "labels", kind, kind)
        pool = SimpleNamespace(choose=every, certify=every & known, judged=labels, **parties(kind))
        return choose_bands({COMPLETE: FeedScores(raw, kind)}, pool, COMPLETE, CAUTION).bands[0].threshold

    assert chosen(np.arange(len(raw)) >= 200) < 10 < chosen(every)
