"""A time order behaves like a sorted list, however events arrive, expire, or are removed from the middle."""

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
# Steps that meet the edges of all windows.
STEPS = st.sampled_from([0, 1, HOUR // 2, HOUR, HOUR + 1, DAY, 2 * DAY, WEEK])
LATENESS = st.sampled_from([0, 0, 0, 1, HOUR, HOUR + 1, DAY, 3 * DAY, WEEK])


class SortedList:
    """The reference: a list, from which each window selects the events that it contains."""

    def __init__(self):
        self.events, self.inserted = [], 0

    def insert(self, time, place):
        self.inserted += 1
        self.events = sorted([*self.events, (time, self.inserted, place)])

    def window(self, clock, window):
        return [place for time, _, place in self.events if time >= clock - WINDOWS[window]]


def empty_event_list(size):
    runs = 4 * PLACES // size + 4
    ints = lambda count: array("i", bytes(4 * count))
    return SimpleNamespace(
        places=ints(runs * size), runs=ints(2 * runs), sizes=ints(runs), marks=array("q", bytes(8 * time_order.MARKS))
    )


def expire(event_list, calls, clock):
    """Does what `stream_pass.expire_attempts` does; returns the places that left the widest window."""
    expired = []
    for window in range(3):
        place = time_order.first_in_window(window, event_list)
        while place >= 0 and time_order.event_time(place, 0, calls) < clock - WINDOWS[window]:
            time_order.advance_cursor(window, event_list)
            expired += [place] if window == 2 else []
            place = time_order.first_in_window(window, event_list)
    return expired


def places_in_window(event_list, window):
    """Returns the places in a window, as the runs have them."""
    if time_order.first_in_window(window, event_list) == NONE:
        return []
    places, marks = [], event_list.marks
    for at in range(marks[time_order.CURSOR + window], marks[time_order.BEYOND]):
        first = marks[time_order.OFFSET + window] if at == marks[time_order.CURSOR + window] else 0
        begin = event_list.runs[at] * time_order.SIZE
        places += event_list.places[begin + first : begin + event_list.sizes[event_list.runs[at]]]
    return places


def check(size, steps, choose):
    """Each step moves the clock, removes an event if asked or necessary, and inserts one that may be late."""
    event_list, expected = empty_event_list(size), SortedList()
    calls, free, clock = array("i", bytes(4 * PLACES * call_store.FIELDS)), list(range(PLACES)), NEVER
    for step, late, taken_out in steps:
        clock = 1_700_000_000_000 if clock == NEVER else clock + step
        past = [place for time, _, place in expected.events if time < clock - WEEK]
        assert expire(event_list, calls, clock) == past
        expected.events = [event for event in expected.events if event[2] not in past]
        free += past
        if expected.events and (taken_out or not free):
            event = choose(expected.events)
            time_order.remove(event[2], 0, event_list, calls)
            expected.events.remove(event)
            free.append(event[2])
        place = free.pop(0)
        call_store.write_call(place * call_store.FIELDS, clock - late, 0, calls)
        time_order.insert(place, 0, clock, event_list, calls)
        expected.insert(clock - late, place)
        for window in range(3):
            actual = places_in_window(event_list, window)
            assert actual == expected.window(clock, window)
            if actual:
                run = event_list.runs[event_list.marks[time_order.CURSOR + window]]
                in_its_run = event_list.sizes[run] - event_list.marks[time_order.OFFSET + window]
                soon = [time_order.peek_after(window, ahead, event_list) for ahead in range(size + 1)]
                assert soon == actual[:in_its_run] + [NONE] * (size + 1 - in_its_run)
        in_use = event_list.marks[time_order.BEYOND] - event_list.marks[time_order.FIRST]
        assert in_use <= 4 * len(expected.events) / size + 3
        assert sum(
            event_list.sizes[run]
            for run in event_list.runs[event_list.marks[time_order.FIRST] : event_list.marks[time_order.BEYOND]]
        ) <= (len(expected.events) + size)


@pytest.fixture(params=[2, 4, 8])
def size(request, monkeypatch):
    monkeypatch.setattr(time_order, "SIZE", request.param)
    monkeypatch.setattr(time_order, "HALF", request.param // 2)
    return request.param


@given(data=st.data(), steps=st.lists(st.tuples(STEPS, LATENESS, st.booleans()), max_size=120))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_time_order_behaves_like_a_sorted_list(size, data, steps):
    check(size, steps, lambda events: data.draw(st.sampled_from(events)))


@pytest.mark.system
@pytest.mark.parametrize("longest_gap", [HOUR // 9, 5 * HOUR, 2 * DAY])
def test_a_time_order_behaves_like_a_sorted_list_over_many_events(size, longest_gap):
    """Few or many events in the widest window, with phases of many and of few removals."""
    rng = random.Random(size + longest_gap)
    steps = [
        (
            rng.randrange(longest_gap),
            rng.choice((0, rng.randrange(WEEK))),
            rng.random() < (0.9 if i // 100 % 2 else 0.2),
        )
        for i in range(1500)
    ]
    check(size, steps, rng.choice)
