"""A call with a wrong clock changes nothing for other calls, and the status of a verdict tells what is not exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.features.online.trusted_moment import AHEAD_MS, TrustedMoment
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, HOUR, as_keyed_call, as_keyed_table, busy_calls

START = EXAMPLE_CALL["start"]


def at(start, **fields):
    """Returns the example call at a moment (Unix ms)."""
    return EXAMPLE_CALL | {"start": start, "day": (start + 8 * HOUR) // DAY} | fields


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("days", [8, 400])
def test_a_call_ahead_of_time_moves_no_window_of_others(days, compiled):
    """Scored and observed, at the beginning of the stream and within it; in a table it is one more row."""
    calls, wrong = busy_calls(80, seed=9, gap=3_000_000), (0, 40)
    for place in wrong:
        calls.insert(place, at(calls[place]["start"] + days * DAY, caller="a", callee="d"))
    expected = vectors(as_keyed_table(calls), threads=1)
    history, rows = History(calls=400, numbers=20, compiled=compiled), []
    for call in map(as_keyed_call, calls):
        rows.append(history.vector(call))
        history.observe(call)
    others = [i for i in range(len(calls)) if i not in wrong]
    np.testing.assert_array_equal(np.array(rows)[others], expected[others])
    before = vectors(as_keyed_table(calls[:41]), threads=1)[40]  # the call itself knows what came before it
    np.testing.assert_array_equal(rows[40], before)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 50_000), st.booleans()), min_size=1, max_size=40), st.integers(61_000, 10**10))
def test_calls_with_a_wrong_clock_among_others_are_never_trusted(gaps, ahead):
    moment, now = TrustedMoment(START), START
    for gap, is_wrong in gaps:
        now += gap
        if is_wrong:
            moment.note(now + ahead + gap)
        moment.note(now)
        moment.note(now)
        assert moment.at == now


@given(st.lists(st.integers(AHEAD_MS + 1, 30 * DAY), min_size=6, max_size=30))
def test_the_moment_follows_calls_after_silences(gaps):
    moment, starts = TrustedMoment(0), []
    for gap in gaps:
        starts.append((starts[-1] if starts else 0) + gap)
        moment.note(starts[-1])
        assert moment.at == (starts[-4] if len(starts) > 3 else 0)


def test_observed_calls_ahead_do_not_move_a_full_history():
    """A full history drops its oldest calls; the moment up to which they have expired is not that of a wrong clock."""
    history = History(calls=20, numbers=50)
    history.advance(START)
    with pytest.raises(TypeError, match=r"at: expected whole milliseconds, as .*, got float"):
        history.advance(START / 1000)
    for i in range(20):
        history.observe(as_keyed_call(at(START + i * 1000, callee=f"n{i}")))
    history.advance(START + 60_000)
    history.observe(as_keyed_call(at(START + 30 * DAY, caller="z")))
    call = as_keyed_call(at(START + 61_000))
    row = dict(zip(NAMES, history.vector(call), strict=True))
    assert (row["out_calls_count_1h"], history.dropped) == (19, 1)


def test_the_lag_tells_how_far_windows_have_moved_past_a_call():
    history = History(calls=20, numbers=50)
    assert history.lag(START) == 0
    history.advance(START)
    assert [history.lag(START + ms) for ms in (0, 1, -1, -HOUR)] == [0, 0, 1, HOUR]
