"""All attempts, or all outcomes, of the widest window in order of their own time, whenever they became known.

A part of the kernel: compiled, or as it stands. The places of calls stand in runs of SIZE at most. `runs` names them in
their order, from the one in which the oldest event stands; `sizes` says how long each is; a free run holds the next
free one there. Each window has a cursor, at the first event that it still holds. A run that is full is split, two that
are half of one together are joined: so there are at most 4 * calls / SIZE runs, and a few.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.windows import NONE, WINDOWS, Ints

from .call_store import FIELDS, end_of, start_of

Line = Any
SIZE = 512
HALF = SIZE // 2
# What a line keeps count of: where its runs begin and end in `runs`, the first free run, runs ever used; each window's
# cursor, its place in `runs` and in the run.
FIRST, BEYOND, FREE_RUN, USED, CURSOR, OFFSET = 0, 1, 2, 3, 4, 7
MARKS = 10


def when(place: int, kind: int, calls: Ints) -> int:
    """The time of a call's attempt (`kind` 0) or outcome (1)."""
    return end_of(place * FIELDS, calls) if kind else start_of(place * FIELDS, calls)


def at_cursor(window: int, line: Line) -> int:
    """The place of the first event that a window holds; NONE if it is empty."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    if marks[FIRST] == marks[BEYOND]:
        return NONE
    at = marks[CURSOR + window]
    if marks[OFFSET + window] == sizes[runs[at]] and at + 1 < marks[BEYOND]:
        at += 1
        marks[CURSOR + window] = at
        marks[OFFSET + window] = 0
    if marks[OFFSET + window] == sizes[runs[at]]:
        return NONE
    return int(line.places[runs[at] * SIZE + marks[OFFSET + window]])


def after_cursor(window: int, ahead: int, line: Line) -> int:
    """The place of the event that stands so many after the first one of a window; NONE if it is not in the same run."""
    run = line.runs[line.marks[CURSOR + window]]
    offset = line.marks[OFFSET + window] + ahead
    return int(line.places[run * SIZE + offset]) if offset < line.sizes[run] else NONE


def pass_by(window: int, line: Line) -> None:
    """The first event of a window is in it no more."""
    line.marks[OFFSET + window] += 1
    if window == 2:
        let_go(line)


def let_go(line: Line) -> None:
    """Give the first run back if all of it has left the widest window."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    at = marks[FIRST]
    if marks[OFFSET + 2] < sizes[runs[at]]:
        return
    if at + 1 < marks[BEYOND]:
        for window in range(2):
            at_cursor(window, line)  # which may still stand at the end of that run
        give_back_run(runs[at], line)
        marks[FIRST] = at + 1
        marks[CURSOR + 2] = at + 1
        marks[OFFSET + 2] = 0
    else:
        sizes[runs[at]] = 0
        for each in range(3):
            marks[OFFSET + each] = 0


def insert(place: int, kind: int, clock: int, line: Line, calls: Ints) -> None:
    """Put an event of the widest window where it belongs, after those of the same time."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    places = line.places
    make_room(line)
    time = when(place, kind, calls)
    at = run_of(time + 1, kind, line, calls)
    offset = offset_in(at, time + 1, kind, line, calls)
    if sizes[runs[at]] == SIZE:
        if offset == SIZE:  # in the last run alone
            add_run(at + 1, line)
            at += 1
            offset = 0
        else:
            split(at, line)
            at = run_of(time + 1, kind, line, calls)
            offset = offset_in(at, time + 1, kind, line, calls)
    first = runs[at] * SIZE
    i = sizes[runs[at]]
    while i > offset:
        places[first + i] = places[first + i - 1]
        i -= 1
    places[first + offset] = place
    sizes[runs[at]] += 1
    for window in range(3):
        at_cursor(window, line)
        before = marks[OFFSET + window]
        past = time < clock - WINDOWS[window]
        if marks[CURSOR + window] == at and (before > offset or (before == offset and past)):
            marks[OFFSET + window] += 1


def run_of(time: int, kind: int, line: Line, calls: Ints) -> int:
    """The first run whose last event is not before a time, or the last one."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    low = marks[FIRST]
    high = marks[BEYOND] - 1
    last = runs[high]
    if sizes[last] == 0 or when(line.places[last * SIZE + sizes[last] - 1], kind, calls) < time:
        return int(high)
    while low < high:
        middle = (low + high) // 2
        last = runs[middle]
        if when(line.places[last * SIZE + sizes[last] - 1], kind, calls) < time:
            low = middle + 1
        else:
            high = middle
    return int(low)


def offset_in(at: int, time: int, kind: int, line: Line, calls: Ints) -> int:
    """Where in a run the first event stands that is not before a time; the length of the run if there is none."""
    marks = line.marks
    runs = line.runs
    low = marks[OFFSET + 2] if at == marks[FIRST] else 0
    high = line.sizes[runs[at]]
    if high > low and when(line.places[runs[at] * SIZE + high - 1], kind, calls) < time:
        return int(high)
    while low < high:
        middle = (low + high) // 2
        if when(line.places[runs[at] * SIZE + middle], kind, calls) < time:
            low = middle + 1
        else:
            high = middle
    return int(low)


def remove(place: int, kind: int, line: Line, calls: Ints) -> None:
    """Take an event out before its time."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    places = line.places
    time = when(place, kind, calls)
    at = run_of(time, kind, line, calls)
    offset = offset_in(at, time, kind, line, calls)
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
        let_go(line)
    if at >= marks[FIRST] and at + 1 < marks[BEYOND]:
        join_runs(at, line)
    if at > marks[FIRST]:
        join_runs(at - 1, line)


def join_runs(at: int, line: Line) -> None:
    """Make one run of two neighbours, if that is half full at most or one of them is empty."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    places = line.places
    one = runs[at]
    other = runs[at + 1]
    held = sizes[one]
    if held + sizes[other] > HALF and held > 0 and sizes[other] > 0:
        return
    for i in range(sizes[other]):
        places[one * SIZE + held + i] = places[other * SIZE + i]
    sizes[one] += sizes[other]
    give_back_run(other, line)
    for i in range(at + 1, marks[BEYOND] - 1):
        runs[i] = runs[i + 1]
    marks[BEYOND] -= 1
    for window in range(3):
        if marks[CURSOR + window] == at + 1:
            marks[OFFSET + window] += held
        if marks[CURSOR + window] > at:
            marks[CURSOR + window] -= 1


def split(at: int, line: Line) -> None:
    """Make two runs of a full one."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
    places = line.places
    add_run(at + 1, line)
    one = runs[at]
    other = runs[at + 1]
    for i in range(HALF):
        places[other * SIZE + i] = places[one * SIZE + HALF + i]
    sizes[one] = HALF
    sizes[other] = HALF
    for window in range(3):
        if marks[CURSOR + window] == at and marks[OFFSET + window] >= HALF:
            marks[CURSOR + window] = at + 1
            marks[OFFSET + window] -= HALF
    if marks[CURSOR + 2] > marks[FIRST]:  # its first half had left the widest window
        give_back_run(runs[marks[FIRST]], line)
        marks[FIRST] += 1


def add_run(at: int, line: Line) -> None:
    """An empty run at a place in `runs`."""
    marks = line.marks
    runs = line.runs
    sizes = line.sizes
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


def give_back_run(run: int, line: Line) -> None:
    """A run is free."""
    line.sizes[run] = line.marks[FREE_RUN]
    line.marks[FREE_RUN] = run + 1


def make_room(line: Line) -> None:
    """See that there is a first run, and room for one more in `runs`, whose beginning is left as the oldest go."""
    marks = line.marks
    runs = line.runs
    if marks[FIRST] == marks[BEYOND]:
        add_run(marks[BEYOND], line)
    if marks[BEYOND] < len(runs):
        return
    gone = marks[FIRST]
    for i in range(gone, marks[BEYOND]):
        runs[i - gone] = runs[i]
    marks[FIRST] = 0
    marks[BEYOND] -= gone
    for window in range(3):
        marks[CURSOR + window] -= gone
