"""The score level of a network: a median of high scores, none from too few calls, and outside a range no threshold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.serving.bundle.level import ABOVE, FEWEST_CALLS, LEAST_SHARE, TOLERANCE, level_of, shift_by
from callsieve.serving.bundle.metadata import GoldenVectors, Level, metadata_from_json, metadata_to_json
from tests.support.small_bundle import FEATURES, card

SCORES = st.lists(st.floats(-12, 12) | st.just(math.nan), min_size=1, max_size=40)


@given(SCORES, st.integers(1, 400))
def test_the_level_is_the_upper_median_of_high_scores_if_there_are_enough_calls(some, times):
    scores = np.array(some * times)
    known = scores[~np.isnan(scores)]
    high = np.sort(known[known > ABOVE])
    enough = len(known) >= FEWEST_CALLS and len(high) >= LEAST_SHARE * len(known)
    assert level_of(scores.tolist()) == (np.quantile(high, 0.5, method="higher") if enough else None)


def test_a_network_with_little_nuisance_has_no_level():
    """Innocent calls decide the median there: with the level of the high scores the threshold would lie among them."""
    quiet, few, many = [-6.0] * 9_900, [3.0] * 100, [3.0] * 200
    assert level_of(quiet + few) is None
    assert level_of(quiet + many) == 3.0


@pytest.mark.parametrize(
    ("level", "amount", "unlike"),
    [
        (None, 0.0, False),
        (9.5, 0.0, False),  # thresholds never rise above those of the highest network
        (8.0, 0.0, False),
        (6.0, -2.0, False),
        (5.0 - TOLERANCE, -3.0 - TOLERANCE, False),
        (4.99 - TOLERANCE, 0.0, True),
    ],
)
def test_thresholds_follow_the_level_down_to_a_limit(level, amount, unlike):
    shift = shift_by(level, lowest=5.0, highest=8.0)
    assert (shift.amount, shift.unlike) == (amount, unlike)
    assert (shift.detail != "") == (unlike or level is None)


def test_the_levels_are_in_the_metadata_only_if_there_are_some():
    golden = GoldenVectors(((0.0,) * len(FEATURES),), {"model": ((0.5,),), "content": ((0.1, 0.2, 0.3),)})
    assert b'"levels"' not in metadata_to_json(card(golden=golden))
    again = metadata_from_json(metadata_to_json(card(golden=golden, levels={"complete": Level(4.5, 7.25)})))
    assert again.levels == {"complete": Level(4.5, 7.25)}
    for levels in ({"sparse": Level(1.0, 2.0)}, {"complete": Level(2.0, 1.0)}, {"complete": Level(-1e9, 1.0)}):
        with pytest.raises(ValueError, match="levels"):
            metadata_from_json(metadata_to_json(card(golden=golden, levels=levels)))


def test_the_flags_are_in_the_metadata_only_if_there_are_some():
    golden = GoldenVectors(((0.0,) * len(FEATURES),), {"model": ((0.5,),), "content": ((0.1, 0.2, 0.3),)})
    assert b'"flags"' not in metadata_to_json(card(golden=golden))
    band = card().thresholds[0]
    for flags in ({}, {"complete": band}):
        assert metadata_from_json(metadata_to_json(card(golden=golden, flags=flags))).flags == flags
    with pytest.raises(ValueError, match="flags"):
        metadata_from_json(metadata_to_json(card(golden=golden, flags={"sparse": band})))
