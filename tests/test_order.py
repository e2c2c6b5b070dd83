"""Events in order of their time are a sorted list, however they come in, leave, or are taken out of the middle."""

from array import array
from types import SimpleNamespace

import pytest
from callsieve.features import held, order
from callsieve.features.windows import NEVER, NONE, WINDOWS
from hypothesis import given, settings
from hypothesis import strategies as st

HOUR, DAY, WEEK = WINDOWS
PLACES = 60
# As long as an hour, so that events meet the edges of all windows.
STEPS = st.sampled_from([0, 1, HOUR // 2, HOUR, HOUR + 1, DAY, 2 * DAY, WEEK])
LATENESS = st.sampled_from([0, 0, 0, 1, HOUR, HOUR + 1, DAY, 3 * DAY, WEEK])


class Sorted:
    """What it shall be, in another way: a list, from which each window takes those that it still reaches."""

    def __init__(self):
        self.events, self.told = [], 0

    def insert(self, time, place):
        self.told += 1
        self.events = sorted([*self.events, (time, self.told, place)])

    def window(self, clock, window):
        return [place for time, _, place in self.events if time >= clock - WINDOWS[window]]


def blank(size):
    runs = 4 * PLACES // size + 4
    ints = lambda count: array("i", bytes(4 * count))
    return SimpleNamespace(
        places=ints(runs * size), runs=ints(2 * runs), sizes=ints(runs), marks=array("q", bytes(8 * order.MARKS))
    )


def leave(line, calls, clock):
    """What `stream.attempts_leave` does; what left the widest window."""
    gone = []
    for window in range(3):
        place = order.at_cursor(window, line)
        while place >= 0 and order.when(place, 0, calls) < clock - WINDOWS[window]:
            order.pass_by(window, line)
            gone += [place] if window == 2 else []
            place = order.at_cursor(window, line)
    return gone


def from_cursor(line, window):
    """The places that a window holds, as the runs have them."""
    if order.at_cursor(window, line) == NONE:
        return []
    found, marks = [], line.marks
    for at in range(marks[order.CURSOR + window], marks[order.BEYOND]):
        first = marks[order.OFFSET + window] if at == marks[order.CURSOR + window] else 0
        begin = line.runs[at] * order.SIZE
        found += line.places[begin + first : begin + line.sizes[line.runs[at]]]
    return found


@pytest.mark.parametrize("size", [2, 4, 8])
@given(data=st.data(), steps=st.lists(st.tuples(STEPS, LATENESS, st.booleans()), max_size=120))
@settings(max_examples=60)
def test_it_is_a_sorted_list(monkeypatch_module, size, data, steps):
    monkeypatch_module.setattr(order, "SIZE", size)
    monkeypatch_module.setattr(order, "HALF", size // 2)
    line, expected = blank(size), Sorted()
    calls, free, clock = array("i", bytes(4 * PLACES * held.FIELDS)), list(range(PLACES)), NEVER
    for step, late, taken_out in steps:
        clock = 1_700_000_000_000 if clock == NEVER else clock + step
        past = [place for time, _, place in expected.events if time < clock - WEEK]
        assert leave(line, calls, clock) == past
        expected.events = [event for event in expected.events if event[2] not in past]
        free += past
        if expected.events and (taken_out or not free):
            event = data.draw(st.sampled_from(expected.events))
            order.remove(event[2], 0, line, calls)
            expected.events.remove(event)
            free.append(event[2])
        place = free.pop(0)
        held.write_call(place * held.FIELDS, clock - late, 0, calls)
        order.insert(place, 0, clock, line, calls)
        expected.insert(clock - late, place)
        for window in range(3):
            assert from_cursor(line, window) == expected.window(clock, window)
        in_use = line.marks[order.BEYOND] - line.marks[order.FIRST]
        assert in_use <= 4 * len(expected.events) / size + 3


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patched:
        yield patched
