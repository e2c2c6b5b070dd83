"""The moment's driver of the kernel: calls as they come, and the vector of a call at ring time.

Each held call has a place in `calls` and in the queue `after`, oldest first; whose it is says the pair that each book
has it in. `index` finds it by its start, caller and callee (`chains.py`). An event waits in a heap until it is known.
The functions of the four kinds of history stand here under their kind's name; `engine.py` puts them in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .chains import bucket, chain, giver, unchain
from .heap import pop, push
from .live import Book
from .windows import BEGUN, DAY_MS, END, FACTS, FIELDS, NEVER, NONE, OF_ATTEMPT, OVER, START, TALK, WEEK, Ints, pack

if TYPE_CHECKING:  # `engine.py` gives each kind of history its own
    from .live import hold as block_hold
    from .live import hold as device_hold
    from .live import hold as number_hold
    from .live import hold as trunk_hold
    from .live import let_in as block_let_in
    from .live import let_in as device_let_in
    from .live import let_in as number_let_in
    from .live import let_in as trunk_let_in
    from .live import move_on as block_move_on
    from .live import move_on as device_move_on
    from .live import move_on as number_move_on
    from .live import move_on as trunk_move_on
    from .live import pair_key as block_pair_key
    from .live import pair_key as device_pair_key
    from .live import pair_key as number_pair_key
    from .live import pair_key as trunk_pair_key
    from .live import release as block_release
    from .live import release as device_release
    from .live import release as number_release
    from .live import release as trunk_release
    from .live import remove as block_remove
    from .live import remove as device_remove
    from .live import remove as number_remove
    from .live import remove as trunk_remove
    from .live import tell as block_tell
    from .live import tell as device_tell
    from .live import tell as number_tell
    from .live import tell as trunk_tell

# What is counted: events that wait, the queue of held calls and its length, the last place ever used, free places.
WAITING, FIRST, LAST, HELD, PLACES, FREE = range(6)
COUNTS = 6
# Where the features of each role begin in a vector.
CALLER_COLUMN = CALLEE_COLUMN = BLOCK_COLUMN = TRUNK_COLUMN = DEVICE_COLUMN = NONE
WIDTH = 0


def advance(
    at: int, calls: Ints, after: Ints, times: Ints, nodes: Ints, counts: Ints, index: Ints, next_call: Ints,
    number: Book, block: Book, trunk: Book, device: Book,
) -> None:  # fmt: skip
    """Let in every event that became known before `at`, and forget what no window reaches any more."""
    size = counts[WAITING]
    while size > 0 and times[0] < at:
        node = nodes[0]
        size = pop(times, nodes, size)
        let_in_everywhere(node >> 1, node & 1, calls, number, block, trunk, device)
    counts[WAITING] = size
    while counts[HELD] > 0 and is_past(counts[FIRST], at, calls):
        move_all_on(at, counts[FIRST], calls, number, block, trunk, device)
        forget_oldest(calls, after, counts, index, next_call, number, block, trunk, device)


def is_past(place: int, at: int, calls: Ints) -> bool:
    """A call is past when its last event has left the widest window; one that never ended counts as a day long."""
    end = calls[place * FIELDS + END]
    if end == NEVER:
        return bool(calls[place * FIELDS + START] + DAY_MS < at - WEEK)
    return bool(end < at - WEEK and calls[place * FIELDS + FACTS] & 1 << OVER)


def let_in_everywhere(place: int, kind: int, calls: Ints, number: Book, block: Book, trunk: Book, device: Book) -> None:
    """An attempt (`kind` 0) or an outcome (1) became known: tell every key of the call."""
    number_let_in(4 * place + kind, calls, number)
    number_let_in(4 * place + 2 + kind, calls, number)
    block_let_in(2 * place + kind, calls, block)
    trunk_let_in(2 * place + kind, calls, trunk)
    device_let_in(2 * place + kind, calls, device)


def move_all_on(at: int, place: int, calls: Ints, number: Book, block: Book, trunk: Book, device: Book) -> None:
    """Let everything that is past leave the histories of a call's keys."""
    number_move_on(at, NEVER, number_pair_key(place, 0, number) >> 32, calls, number)
    number_move_on(at, NEVER, number_pair_key(place, 1, number) >> 32, calls, number)
    block_move_on(at, NEVER, block_pair_key(place, 0, block) >> 32, calls, block)
    trunk_move_on(at, NEVER, trunk_pair_key(place, 0, trunk) >> 32, calls, trunk)
    device_move_on(at, NEVER, device_pair_key(place, 0, device) >> 32, calls, device)


def forget_oldest(
    calls: Ints, after: Ints, counts: Ints, index: Ints, next_call: Ints, number: Book, block: Book, trunk: Book,
    device: Book,
) -> None:  # fmt: skip
    """Give back the place of the oldest call."""
    place = counts[FIRST]
    unchain(place + 1, bucket(identity(place, calls, number), counts[PLACES]), index, next_call)
    number_release(place, 0, number)
    number_release(place, 1, number)
    block_release(place, 0, block)
    trunk_release(place, 0, trunk)
    device_release(place, 0, device)
    counts[FIRST] = after[place]
    counts[HELD] -= 1
    after[place] = counts[FREE]
    counts[FREE] = place + 1


def drop_oldest(
    calls: Ints, after: Ints, counts: Ints, index: Ints, next_call: Ints, number: Book, block: Book, trunk: Book,
    device: Book,
) -> bool:  # fmt: skip
    """Make room: forget the oldest call before its time. False if that must wait until it is known."""
    place = counts[FIRST]
    facts = calls[place * FIELDS + FACTS]
    over = facts >> OVER & 1
    if counts[HELD] == 0 or not facts >> BEGUN & 1 or (calls[place * FIELDS + END] != NEVER and not over):
        return False
    for kind in range(1 + over):
        number_remove(4 * place + kind, calls, number)
        number_remove(4 * place + 2 + kind, calls, number)
        block_remove(2 * place + kind, calls, block)
        trunk_remove(2 * place + kind, calls, trunk)
        device_remove(2 * place + kind, calls, device)
    forget_oldest(calls, after, counts, index, next_call, number, block, trunk, device)
    return True


def identity(place: int, calls: Ints, number: Book) -> int:
    """What `find` looks for: the call's start, caller and callee in 64 bits."""
    return int(number_pair_key(place, 0, number) ^ calls[place * FIELDS + START])


def find(
    start: int, caller: int, callee: int, calls: Ints, counts: Ints, index: Ints, next_call: Ints, number: Book
) -> int:
    """The place of a held call; NONE if it is not held."""
    pair = caller << 32 | callee
    entry = index[bucket(pair ^ start, counts[PLACES])]
    while entry > 0:
        if calls[(entry - 1) * FIELDS + START] == start and number_pair_key(entry - 1, 0, number) == pair:
            break
        entry = next_call[entry]
    return int(entry) - 1


def share(buckets: int, calls: Ints, index: Ints, next_call: Ints, number: Book) -> None:
    """Give the last of so many buckets the calls that belong there now."""
    entry = index[giver(buckets)]
    while entry > 0:
        later = next_call[entry]
        if bucket(identity(entry - 1, calls, number), buckets) == buckets - 1:
            unchain(entry, giver(buckets), index, next_call)
            chain(entry, buckets - 1, index, next_call)
        entry = later


def fill_index(calls: Ints, after: Ints, counts: Ints, index: Ints, next_call: Ints, number: Book) -> None:
    """Put every held call into an empty index."""
    place = counts[FIRST]
    for _ in range(counts[HELD]):
        chain(place + 1, bucket(identity(place, calls, number), counts[PLACES]), index, next_call)
        place = after[place]


def new_place(calls: Ints, after: Ints, counts: Ints, index: Ints, next_call: Ints, number: Book) -> int:
    """A place for a call."""
    place = counts[FREE] - 1
    if place >= 0:
        counts[FREE] = after[place]
    else:
        place = counts[PLACES]
        counts[PLACES] += 1
        share(counts[PLACES], calls, index, next_call, number)
    return int(place)


def keep(
    start: int, known: int, caller: int, callee: int, outcome: int, released_by: int, hour: int, day: int, step: int,
    same_region: int, ring: int, group: Ints, calls: Ints, after: Ints, times: Ints, nodes: Ints, counts: Ints,
    index: Ints, next_call: Ints, number: Book, block: Book, trunk: Book, device: Book,
) -> int:  # fmt: skip
    """Give a new call a place; its attempt waits until it is known."""
    place = new_place(calls, after, counts, index, next_call, number)
    calls[place * FIELDS + START] = start
    calls[place * FIELDS + END] = NEVER
    calls[place * FIELDS + TALK] = 0
    calls[place * FIELDS + FACTS] = pack(outcome, released_by, hour, day, step, same_region, ring)
    number_hold(place, 0, caller, callee, number)
    number_hold(place, 1, callee, caller, number)
    block_hold(place, 0, group[0], caller, block)
    trunk_hold(place, 0, group[1], caller, trunk)
    device_hold(place, 0, group[2], caller, device)
    chain(place + 1, bucket(identity(place, calls, number), counts[PLACES]), index, next_call)
    if counts[HELD] == 0:
        counts[FIRST] = place
    else:
        after[counts[LAST]] = place
    counts[LAST] = place
    counts[HELD] += 1
    counts[WAITING] = push(times, nodes, counts[WAITING], known, 2 * place)
    return int(place)


def end(
    place: int, moment: int, talk: int, known: int, outcome: int, released_by: int, hour: int, day: int, step: int,
    same_region: int, ring: int, calls: Ints, times: Ints, nodes: Ints, counts: Ints,
) -> None:  # fmt: skip
    """A held call is over: its outcome waits until it is known."""
    facts = pack(outcome, released_by, hour, day, step, same_region, ring)
    own = place * FIELDS
    calls[own + END] = moment
    calls[own + TALK] = talk
    calls[own + FACTS] = calls[own + FACTS] & OF_ATTEMPT | facts & ~OF_ATTEMPT
    counts[WAITING] = push(times, nodes, counts[WAITING], known, 2 * place + 1)


def vector(
    at: int, day: int, caller: int, callee: int, facts: int, group: Ints, out: Any, calls: Ints, after: Ints,
    times: Ints, nodes: Ints, counts: Ints, index: Ints, next_call: Ints, number: Book, block: Book, trunk: Book,
    device: Book,
) -> None:  # fmt: skip
    """Write the vector of a call that starts at `at`. Keys that nobody has heard of are 0. `group` holds NONE for a
    call that has no such key: then nothing is known of one."""
    advance(at, calls, after, times, nodes, counts, index, next_call, number, block, trunk, device)
    for i in range(WIDTH):
        out[i] = math.nan
    number_move_on(at, day, caller, calls, number)
    number_tell(at, caller, callee, 0, calls, facts, out, CALLER_COLUMN, number)
    number_move_on(at, day, callee, calls, number)
    number_tell(at, callee, caller, 1, calls, facts, out, CALLEE_COLUMN, number)
    if group[0] >= 0:
        block_move_on(at, day, group[0], calls, block)
        block_tell(at, group[0], caller, 0, calls, facts, out, BLOCK_COLUMN, block)
    if group[1] >= 0:
        trunk_move_on(at, day, group[1], calls, trunk)
        trunk_tell(at, group[1], caller, 0, calls, facts, out, TRUNK_COLUMN, trunk)
    if group[2] >= 0:
        device_move_on(at, day, group[2], calls, device)
        device_tell(at, group[2], caller, 0, calls, facts, out, DEVICE_COLUMN, device)
