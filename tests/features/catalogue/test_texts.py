"""The kernel computes what the text of a feature says."""

import math
import re

import pytest

from callsieve.features.catalogue import BY_NAME
from callsieve.features.offline.table import vectors
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, HOUR, as_keyed_table

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


def test_the_called_number_called_first_on_an_earlier_day_within_the_stated_days():
    (days,) = map(int, re.findall(r"in the last (\d+) days", BY_NAME["pair_called_first"].en))
    today = NOW - (NOW + 8 * HOUR) % DAY
    back = lambda start: {"start": start, "caller": "b", "callee": "a"}
    for start in (today, today - (days - 1) * DAY, NOW - 1):
        assert value("pair_called_first", back(start)) == 1
    assert value("pair_called_first", back(today - (days - 1) * DAY - 1)) == 0
    assert value("pair_called_first", back(today - 1), {"start": today}) == 1
    assert value("pair_called_first", back(today), {"start": today + 1}) == 0  # on the same day


def test_days_of_long_talk_are_the_stated_ones():
    name = "pair_long_talk_days"
    days, seconds = map(int, re.findall(r"days of the last (\d+) .* for (\d+) s or longer", BY_NAME[name].en)[0])
    today = NOW - (NOW + 8 * HOUR) % DAY
    talks = [{"start": today - ago * DAY, "talk": seconds * 1000} for ago in range(days, -1, -1)]
    assert value(name, *talks) == days
    assert value(name, *(talk | {"talk": seconds * 1000 - 1} for talk in talks)) == 0
    assert value(name, talks[-1], talks[-1] | {"start": today + HOUR, "caller": "b", "callee": "a"}) == 1
