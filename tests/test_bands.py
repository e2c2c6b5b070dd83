"""Bands: each kind of line is held to the target by itself, and of one with too few innocent calls nothing is said."""

import numpy as np
import pytest
from callsieve.features.records import NUMBER_CLASSES
from callsieve.training.bands import MARGIN, TARGETS, bands_of, held_to, spoken_of
from callsieve.training.certify import upper_bound

MOBILE, RESALE, FIXED, UNKNOWN = map(NUMBER_CLASSES.index, ("mobile", "resale", "fixed", "unknown"))
TARGET = 1e-3
ENOUGH = next(n for n in range(1000, 20_000) if upper_bound(0, n) <= MARGIN * TARGET)


def scores(**counts):
    """Benign calls: mobile ones score about 0, fixed ones about 5."""
    kind = np.repeat([NUMBER_CLASSES.index(name) for name in counts], list(counts.values()))
    rng = np.random.default_rng(2)
    return rng.normal(size=len(kind)) + np.where(kind == FIXED, 5.0, 0.0), kind


def held(raw, kind, guard=0.0, ceiling=np.inf):
    return held_to([raw], np.ones(len(raw), dtype=bool), kind, TARGET, guard, ceiling)


def test_a_few_lines_that_look_like_nuisance_do_not_set_the_threshold_of_the_others():
    raw, kind = scores(mobile=ENOUGH, fixed=200)
    threshold, silent = held(raw, kind)
    assert threshold < 5 and "fixed" in silent and "mobile" not in silent
    flagged = spoken_of(raw, kind, threshold, silent) >= threshold
    assert not flagged[kind == FIXED].any()
    assert upper_bound(int(flagged.sum()), ENOUGH) <= MARGIN * TARGET


def test_a_line_with_enough_calls_is_spoken_of_and_its_threshold_holds():
    raw, kind = scores(mobile=ENOUGH, fixed=ENOUGH)
    threshold, silent = held(raw, kind)
    assert "fixed" not in silent
    for one in (MOBILE, FIXED):
        assert upper_bound(int((raw[kind == one] >= threshold).sum()), ENOUGH) <= MARGIN * TARGET
    # Unless that threshold would lie above the band before this one.
    assert "fixed" in held(raw, kind, ceiling=5.0)[1]


def test_resold_numbers_are_mobile_lines():
    raw, kind = scores(mobile=ENOUGH - 10, resale=10)
    silent = held(raw, kind)[1]
    assert "mobile" not in silent and "resale" not in silent
    assert set(silent) == set(NUMBER_CLASSES) - {"mobile", "resale"}


def test_one_call_too_few_and_the_threshold_lies_above_every_score():
    raw, kind = scores(mobile=ENOUGH - 1)
    threshold, silent = held(raw, kind)
    assert silent == () and threshold > raw.max()


def test_a_poorer_feed_raises_the_threshold_and_a_guard_is_added():
    raw, kind = scores(mobile=2 * ENOUGH)
    every = np.ones(len(raw), dtype=bool)
    alone = held_to([raw], every, kind, TARGET, 0.0, np.inf)[0]
    poorer = np.where(np.arange(len(raw)) % 2, raw + 3, np.nan)
    both = held_to([raw, poorer], every, kind, TARGET, 0.0, np.inf)[0]
    assert both == pytest.approx(held_to([poorer], every, kind, TARGET, 0.0, np.inf)[0]) and both > alone + 2
    assert held_to([raw], every, kind, TARGET, 1.5, np.inf)[0] == pytest.approx(alone + 1.5)


def test_bands_fall_and_their_certificates_count_silent_lines_as_passed():
    rng = np.random.default_rng(3)
    kind = np.repeat([MOBILE, RESALE, FIXED, UNKNOWN], [200_000, 2_000, 20_000, 100])
    raw = rng.normal(size=len(kind)) + np.where(kind == FIXED, 1.0, 0.0)
    half = np.arange(len(kind)) % 2 == 0
    high, low = bands_of([raw], half, ~half, kind, 0.0)
    assert [(band.name, band.certificate.target) for band in (high, low)] == list(TARGETS)
    assert high.threshold >= low.threshold
    assert "fixed" in high.silent and "unknown" in low.silent
    for band in (high, low):
        flagged = (spoken_of(raw, kind, band.threshold, band.silent) >= band.threshold) & ~half
        assert band.certificate.false_calls == flagged.sum() > 0
        assert band.certificate.benign_calls == (~half).sum()
        assert band.strata["unknown"].false_calls == 0


def test_what_is_not_scored_stays_so():
    raw = np.array([np.nan, 9.0])
    assert np.isnan(spoken_of(raw, np.array([FIXED, FIXED]), 1.0, ("fixed",))[0])
