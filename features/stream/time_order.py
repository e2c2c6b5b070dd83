"""All attempts, or all outcomes, of the widest window in order of their own time. A part of the kernel.

Calls are stored by place in runs of at most SIZE places. `runs` lists the runs in order, starting with the oldest
event; `sizes` has their lengths. A free run stores the next free run in `sizes`. Each window has a cursor at its first
event. A full run is split; two neighbours that fill at most half a run are joined. So there are at most
4 * calls / SIZE runs, plus a few.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.windows import NONE, WINDOWS, Ints

from .call_store import FIELDS, end_of, start_of

EventList = Any
SIZE = 512
HALF = SIZE // 2
# Fields of `marks`: first run and end of runs in `runs`, the first free run, runs ever used, and for each window the
# cursor's index in `runs` and its offset in the run.
FIRST, BEYOND, FREE_RUN, USED, CURSOR, OFFSET = 0, 1, 2, 3, 4, 7
MARKS = 10


def event_time(place: int, kind: int, calls: Ints) -> int:
    """Returns the time of a call's attempt (`kind` 0) or outcome (1)."""
    return end_of(place * FIELDS, calls) if kind else start_of(place * FIELDS, calls)


def first_in_window(window: int, events: EventList) -> int:
    """Returns the place of the first event in a window, or NONE."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    if marks[FIRST] == marks[BEYOND]:
        return NONE
    at = marks[CURSOR + window]
    if marks[OFFSET + window] == sizes[runs[at]] and at + 1 < marks[BEYOND]:
        at += 1
        marks[CURSOR + window] = at
        marks[OFFSET + window] = 0
    if marks[OFFSET + window] == sizes[runs[at]]:
        return NONE
    return int(events.places[runs[at] * SIZE + marks[OFFSET + window]])


def peek_after(window: int, ahead: int, events: EventList) -> int:
    """Returns the place of the event `ahead` positions after a window's first event, or NONE if not in the same run."""
    run = events.runs[events.marks[CURSOR + window]]
    offset = events.marks[OFFSET + window] + ahead
    return int(events.places[run * SIZE + offset]) if offset < events.sizes[run] else NONE


def advance_cursor(window: int, events: EventList) -> None:
    """Moves the cursor of a window past its first event."""
    events.marks[OFFSET + window] += 1
    if window == 2:
        free_expired_run(events)


def free_expired_run(events: EventList) -> None:
    """Frees the first run if all its events have left the widest window."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    at = marks[FIRST]
    if marks[OFFSET + 2] < sizes[runs[at]]:
        return
    if at + 1 < marks[BEYOND]:
        for window in range(2):
            first_in_window(window, events)  # their cursors may still be at the end of that run
        free_run(runs[at], events)
        marks[FIRST] = at + 1
        marks[CURSOR + 2] = at + 1
        marks[OFFSET + 2] = 0
    else:
        sizes[runs[at]] = 0
        for window in range(3):
            marks[OFFSET + window] = 0


def insert(place: int, kind: int, clock: int, events: EventList, calls: Ints) -> None:
    """Inserts an event of the widest window in order of time, after events of the same time."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    places = events.places
    make_room(events)
    time = event_time(place, kind, calls)
    at = find_run(time + 1, kind, events, calls)
    offset = find_offset(at, time + 1, kind, events, calls)
    if sizes[runs[at]] == SIZE:
        if offset == SIZE:  # only in the last run
            add_run(at + 1, events)
            at += 1
            offset = 0
        else:
            split(at, events)
            at = find_run(time + 1, kind, events, calls)
            offset = find_offset(at, time + 1, kind, events, calls)
    first = runs[at] * SIZE
    i = sizes[runs[at]]
    while i > offset:
        places[first + i] = places[first + i - 1]
        i -= 1
    places[first + offset] = place
    sizes[runs[at]] += 1
    for window in range(3):
        first_in_window(window, events)
        before = marks[OFFSET + window]
        past = time < clock - WINDOWS[window]
        if marks[CURSOR + window] == at and (before > offset or (before == offset and past)):
            marks[OFFSET + window] += 1


def find_run(time: int, kind: int, events: EventList, calls: Ints) -> int:
    """Returns the index of the first run whose last event is not before `time`, or of the last run."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    low = marks[FIRST]
    high = marks[BEYOND] - 1
    last = runs[high]
    if sizes[last] == 0 or event_time(events.places[last * SIZE + sizes[last] - 1], kind, calls) < time:
        return int(high)
    while low < high:
        middle = (low + high) // 2
        last = runs[middle]
        if event_time(events.places[last * SIZE + sizes[last] - 1], kind, calls) < time:
            low = middle + 1
        else:
            high = middle
    return int(low)


def find_offset(at: int, time: int, kind: int, events: EventList, calls: Ints) -> int:
    """Returns the offset of the first event in a run that is not before `time`, or the length of the run."""
    marks = events.marks
    runs = events.runs
    low = marks[OFFSET + 2] if at == marks[FIRST] else 0
    high = events.sizes[runs[at]]
    if high > low and event_time(events.places[runs[at] * SIZE + high - 1], kind, calls) < time:
        return int(high)
    while low < high:
        middle = (low + high) // 2
        if event_time(events.places[runs[at] * SIZE + middle], kind, calls) < time:
            low = middle + 1
        else:
            high = middle
    return int(low)


def precedes(place: int, other: int, kind: int, events: EventList, calls: Ints) -> bool:
    """Returns whether an event comes before another one of the same time."""
    time = event_time(place, kind, calls)
    at = find_run(time, kind, events, calls)
    offset = find_offset(at, time, kind, events, calls)
    current = events.places[events.runs[at] * SIZE + offset]
    while current != place and current != other:  # noqa: PLR1714 - the subset has no `in`
        offset += 1
        if offset == events.sizes[events.runs[at]]:
            at += 1
            offset = 0
        current = events.places[events.runs[at] * SIZE + offset]
    return bool(current == place)


def remove(place: int, kind: int, events: EventList, calls: Ints) -> None:
    """Removes an event before it expires."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    places = events.places
    time = event_time(place, kind, calls)
    at = find_run(time, kind, events, calls)
    offset = find_offset(at, time, kind, events, calls)
    while places[runs[at] * SIZE + offset] != place:
        offset += 1
        if offset == sizes[runs[at]]:
            at += 1
            offset = 0
    first = runs[at] * SIZE
    for i in range(offset + 1, sizes[runs[at]]):
        places[first + i - 1] = places[first + i]
    sizes[runs[at]] -= 1
    for window in range(3):
        if marks[CURSOR + window] == at and marks[OFFSET + window] > offset:
            marks[OFFSET + window] -= 1
    if at == marks[FIRST]:
        free_expired_run(events)
    if at >= marks[FIRST] and at + 1 < marks[BEYOND]:
        join_runs(at, events)
    if at > marks[FIRST]:
        join_runs(at - 1, events)


def join_runs(at: int, events: EventList) -> None:
    """Joins two neighbouring runs if together they fill at most half a run, or one is empty."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    places = events.places
    left = runs[at]
    right = runs[at + 1]
    left_size = sizes[left]
    if left_size + sizes[right] > HALF and left_size > 0 and sizes[right] > 0:
        return
    for i in range(sizes[right]):
        places[left * SIZE + left_size + i] = places[right * SIZE + i]
    sizes[left] += sizes[right]
    free_run(right, events)
    for i in range(at + 1, marks[BEYOND] - 1):
        runs[i] = runs[i + 1]
    marks[BEYOND] -= 1
    for window in range(3):
        if marks[CURSOR + window] == at + 1:
            marks[OFFSET + window] += left_size
        if marks[CURSOR + window] > at:
            marks[CURSOR + window] -= 1


def split(at: int, events: EventList) -> None:
    """Splits a full run into two."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    places = events.places
    add_run(at + 1, events)
    left = runs[at]
    right = runs[at + 1]
    for i in range(HALF):
        places[right * SIZE + i] = places[left * SIZE + HALF + i]
    sizes[left] = HALF
    sizes[right] = HALF
    for window in range(3):
        if marks[CURSOR + window] == at and marks[OFFSET + window] >= HALF:
            marks[CURSOR + window] = at + 1
            marks[OFFSET + window] -= HALF
    if marks[CURSOR + 2] > marks[FIRST]:  # the first half has left the widest window
        free_run(runs[marks[FIRST]], events)
        marks[FIRST] += 1


def add_run(at: int, events: EventList) -> None:
    """Inserts an empty run at an index of `runs`."""
    marks = events.marks
    runs = events.runs
    sizes = events.sizes
    run = marks[FREE_RUN] - 1
    if run >= 0:
        marks[FREE_RUN] = sizes[run]
    else:
        run = marks[USED]
        marks[USED] += 1
    i = marks[BEYOND]
    while i > at:
        runs[i] = runs[i - 1]
        i -= 1
    runs[at] = run
    sizes[run] = 0
    marks[BEYOND] += 1
    for window in range(3):
        if marks[CURSOR + window] >= at and marks[BEYOND] - marks[FIRST] > 1:
            marks[CURSOR + window] += 1


def free_run(run: int, events: EventList) -> None:
    """Frees a run."""
    events.sizes[run] = events.marks[FREE_RUN]
    events.marks[FREE_RUN] = run + 1


def make_room(events: EventList) -> None:
    """Ensures that there is a first run and room for one more in `runs`; moves the runs down if it is at the end."""
    marks = events.marks
    runs = events.runs
    if marks[FIRST] == marks[BEYOND]:
        add_run(marks[BEYOND], events)
    if marks[BEYOND] < len(runs):
        return
    first = marks[FIRST]
    for i in range(first, marks[BEYOND]):
        runs[i - first] = runs[i]
    marks[FIRST] = 0
    marks[BEYOND] -= first
    for window in range(3):
        marks[CURSOR + window] -= first
