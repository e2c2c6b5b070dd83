"""Events in order of their time are a sorted list, however they come in, leave, or are taken out of the middle."""

import random
from array import array
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsieve.features.kernel.windows import NEVER, NONE, WINDOWS
from callsieve.features.stream import call_store, time_order

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
        places=ints(runs * size), runs=ints(2 * runs), sizes=ints(runs), marks=array("q", bytes(8 * time_order.MARKS))
    )


def leave(line, calls, clock):
    """What `stream.attempts_leave` does; what left the widest window."""
    gone = []
    for window in range(3):
        place = time_order.first_in_window(window, line)
        while place >= 0 and time_order.event_time(place, 0, calls) < clock - WINDOWS[window]:
            time_order.advance_cursor(window, line)
            gone += [place] if window == 2 else []
            place = time_order.first_in_window(window, line)
    return gone


def from_cursor(line, window):
    """The places that a window holds, as the runs have them."""
    if time_order.first_in_window(window, line) == NONE:
        return []
    found, marks = [], line.marks
    for at in range(marks[time_order.CURSOR + window], marks[time_order.BEYOND]):
        first = marks[time_order.OFFSET + window] if at == marks[time_order.CURSOR + window] else 0
        begin = line.runs[at] * time_order.SIZE
        found += line.places[begin + first : begin + line.sizes[line.runs[at]]]
    return found


def check(size, steps, chosen):
    """Each step moves the clock on, takes an event out if it shall or must, and puts one in that may be late."""
    line, expected = blank(size), Sorted()
    calls, free, clock = array("i", bytes(4 * PLACES * call_store.FIELDS)), list(range(PLACES)), NEVER
    for step, late, taken_out in steps:
        clock = 1_700_000_000_000 if clock == NEVER else clock + step
        past = [place for time, _, place in expected.events if time < clock - WEEK]
        assert leave(line, calls, clock) == past
        expected.events = [event for event in expected.events if event[2] not in past]
        free += past
        if expected.events and (taken_out or not free):
            event = chosen(expected.events)
            time_order.remove(event[2], 0, line, calls)
            expected.events.remove(event)
            free.append(event[2])
        place = free.pop(0)
        call_store.write_call(place * call_store.FIELDS, clock - late, 0, calls)
        time_order.insert(place, 0, clock, line, calls)
        expected.insert(clock - late, place)
        for window in range(3):
            found = from_cursor(line, window)
            assert found == expected.window(clock, window)
            if found:
                run = line.runs[line.marks[time_order.CURSOR + window]]
                in_its_run = line.sizes[run] - line.marks[time_order.OFFSET + window]
                soon = [time_order.peek_after(window, ahead, line) for ahead in range(size + 1)]
                assert soon == found[:in_its_run] + [NONE] * (size + 1 - in_its_run)
        in_use = line.marks[time_order.BEYOND] - line.marks[time_order.FIRST]
        assert in_use <= 4 * len(expected.events) / size + 3
        assert sum(
            line.sizes[run] for run in line.runs[line.marks[time_order.FIRST] : line.marks[time_order.BEYOND]]
        ) <= (len(expected.events) + size)


@pytest.fixture(params=[2, 4, 8])
def size(request, monkeypatch):
    monkeypatch.setattr(time_order, "SIZE", request.param)
    monkeypatch.setattr(time_order, "HALF", request.param // 2)
    return request.param


@given(data=st.data(), steps=st.lists(st.tuples(STEPS, LATENESS, st.booleans()), max_size=120))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_a_sorted_list(size, data, steps):
    check(size, steps, lambda events: data.draw(st.sampled_from(events)))


@pytest.mark.parametrize("most", [HOUR // 9, 5 * HOUR, 2 * DAY])
def test_it_stays_one_for_long(size, most):
    """Few or many events in the widest window, and now more of them taken out and now fewer."""
    rng = random.Random(size + most)
    steps = [
        (rng.randrange(most), rng.choice((0, rng.randrange(WEEK))), rng.random() < (0.9 if i // 100 % 2 else 0.2))
        for i in range(1500)
    ]
    check(size, steps, rng.choice)
