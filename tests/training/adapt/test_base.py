"""A base whose thresholds are distances from a score level gets fixed ones on the network that it is adapted to."""

import numpy as np
import pytest
from msgspec import structs

from callsieve.serving.bundle.metadata import Level
from callsieve.serving.rules.strata import STRATA
from callsieve.training import read_base
from callsieve.training.adapt.base import Base


@pytest.fixture(scope="module")
def shipped():
    return read_base()


def of_levels(shipped, levels, flags=None):
    return Base(structs.replace(shipped.bundle, levels=levels, flags=flags or {}), shipped.manifest, shipped.texts)


def test_thresholds_and_calibration_move_with_the_level_of_the_network(shipped):
    raw = np.where(np.arange(4_000) % 10 == 0, 6.0, -5.0)
    moved = of_levels(shipped, {"complete": Level(5.0, 8.0)}).at_level("complete", raw)
    assert moved.bundle.levels == {}
    for band, before in zip(moved.bands("complete"), shipped.bands("complete"), strict=True):
        for stratum in STRATA:
            assert band.threshold_for(stratum) == before.threshold_for(stratum) - 2.0
    assert moved.even_score("complete") == pytest.approx(shipped.even_score("complete") - 2.0)
    for score in (-3.0, 1.0, 4.0):
        assert moved.calibration("complete").probability(score) == pytest.approx(
            shipped.calibration("complete").probability(score + 2.0)
        )


def test_the_threshold_of_flagged_numbers_moves_on_its_feed_alone(shipped):
    raw = np.where(np.arange(4_000) % 10 == 0, 6.0, -5.0)
    band = shipped.bundle.thresholds[0]
    moved = of_levels(shipped, {"complete": Level(5.0, 8.0)}, {"complete": band, "sparse": band})
    flags = moved.at_level("complete", raw).bundle.flags
    assert flags["complete"].threshold == band.threshold - 2.0 and flags["sparse"] == band
    assert of_levels(shipped, {"complete": Level(5.0, 8.0)}).at_level("complete", raw).bundle.flags == {}


def test_an_unlike_network_gets_bands_that_abstain_and_fixed_thresholds_stay(shipped):
    raw = np.where(np.arange(4_000) % 10 == 0, 2.5, -5.0)
    unlike = of_levels(shipped, {"complete": Level(5.0, 8.0)}).at_level("complete", raw)
    assert {band.threshold_for(stratum) for band in unlike.bands("complete") for stratum in STRATA} == {np.inf}
    fixed = of_levels(shipped, {})
    assert fixed.at_level("complete", raw) is fixed
