"""What a feature's text says is what the kernel computes; the expected values follow from the text alone."""

import math
import re

import pytest

from callsieve.features.catalogue import BY_NAME
from callsieve.features.offline.table import vectors
from tests.support.strategies import DAY, EXAMPLE_CALL, HOUR, as_keyed_table

NOW = EXAMPLE_CALL["start"]


def value(name, *earlier):
    """Returns a feature of a call at NOW after earlier calls, each given by what differs from the example."""
    calls = [EXAMPLE_CALL | call | {"day": (call["start"] + 8 * HOUR) // DAY} for call in earlier]
    calls.append(EXAMPLE_CALL | {"day": (NOW + 8 * HOUR) // DAY})
    return float(vectors(as_keyed_table(calls), features=(name,), threads=1)[-1, 0])


@pytest.mark.parametrize("seconds", [2047, 4095, 5 * 3600])
def test_the_usual_talk_time_has_the_stated_maximum(seconds):
    (most,) = map(int, re.findall(r"at most (\d+) s", BY_NAME["out_talk_median_7d"].en))
    assert value("out_talk_median_7d", {"start": NOW - DAY, "talk": seconds * 1000}) == most
    assert value("out_talk_median_7d", {"start": NOW - DAY, "talk": 2046_000}) < most


@pytest.mark.parametrize("hours", [1, 24])
def test_a_callee_is_new_if_it_was_not_called_before_in_the_last_7_days(hours):
    name = f"out_new_callees_share_{hours}h"
    assert "before in the last 7 days" in BY_NAME[name].en
    in_window = {"start": NOW - HOUR // 2}
    is_new, is_known = (1 + 0.5) / 2, (0 + 0.5) / 2
    assert value(name, in_window) == is_new
    for before, expected in ((7 * DAY + 1, is_new), (7 * DAY, is_known), (hours * HOUR + 1, is_known)):
        assert value(name, {"start": NOW - before}, in_window) == expected


def test_a_release_by_the_network_shows_nothing_about_the_parties():
    name = "out_hung_up_share_7d"
    assert "that caller or callee ended" in BY_NAME[name].en
    words = ("caller", "callee", "network", "unknown")
    ended = {word: {"start": NOW - HOUR - i, "released_by": word} for i, word in enumerate(words)}
    assert math.isnan(value(name, ended["network"], ended["unknown"]))
    assert value(name, *ended.values()) == value(name, ended["caller"], ended["callee"]) == (1 + 0.5) / 3
