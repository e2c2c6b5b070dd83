"""The moment's driver of the kernel: calls as they come, and the vector of a call at ring time.

Each held call has a place in `calls`, in `parties` (its keys: caller, callee, block, trunk, device; 0 for none) and
in the queue `after`, oldest first; `index` finds it by its start, caller and callee. An event waits in a heap until it
is known. The functions of the four kinds of history stand here under their kind's name; `engine.py` puts them in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .heap import pop, push
from .live import Book
from .probing import home
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

PARTIES = 5
CALLER, CALLEE, BLOCK, TRUNK, DEVICE = range(PARTIES)
# What is counted: events that wait, the queue of held calls and its length, the last place ever used, free places.
WAITING, FIRST, LAST, HELD, PLACES, FREE = range(6)
COUNTS = 6
# Where the features of each role begin in a vector; NONE if there are none.
CALLER_COLUMN = CALLEE_COLUMN = BLOCK_COLUMN = TRUNK_COLUMN = DEVICE_COLUMN = NONE
WIDTH = 0


def advance(
    at: int, calls: Ints, parties: Ints, after: Ints, times: Ints, nodes: Ints, counts: Ints, index: Ints, number: Book,
    block: Book, trunk: Book, device: Book,
) -> None:  # fmt: skip
    """Let in every event that became known before `at`, and forget what no window reaches any more."""
    size = counts[WAITING]
    while size > 0 and times[0] < at:
        node = nodes[0]
        size = pop(times, nodes, size)
        let_in_everywhere(node >> 1, node & 1, calls, parties, number, block, trunk, device)
    counts[WAITING] = size
    while counts[HELD] > 0 and is_past(counts[FIRST], at, calls):
        place = counts[FIRST]
        move_all_on(at, place, calls, parties, number, block, trunk, device)
        forget(place, calls, parties, after, counts, index, number, block, trunk, device)


def is_past(place: int, at: int, calls: Ints) -> bool:
    """A call is past when its last event has left the widest window; one that never ended counts as a day long."""
    end = calls[place * FIELDS + END]
    if end == NEVER:
        return bool(calls[place * FIELDS + START] + DAY_MS < at - WEEK)
    return bool(end < at - WEEK and calls[place * FIELDS + FACTS] & 1 << OVER)


def let_in_everywhere(
    place: int, kind: int, calls: Ints, parties: Ints, number: Book, block: Book, trunk: Book, device: Book
) -> None:
    """An attempt (`kind` 0) or an outcome (1) became known: tell every key of the call."""
    own = place * PARTIES
    number_let_in(4 * place + kind, parties[own + CALLER], calls, number)
    number_let_in(4 * place + 2 + kind, parties[own + CALLEE], calls, number)
    if BLOCK_COLUMN >= 0 and parties[own + BLOCK] > 0:
        block_let_in(2 * place + kind, parties[own + BLOCK], calls, block)
    if TRUNK_COLUMN >= 0 and parties[own + TRUNK] > 0:
        trunk_let_in(2 * place + kind, parties[own + TRUNK], calls, trunk)
    if DEVICE_COLUMN >= 0 and parties[own + DEVICE] > 0:
        device_let_in(2 * place + kind, parties[own + DEVICE], calls, device)


def move_all_on(
    at: int, place: int, calls: Ints, parties: Ints, number: Book, block: Book, trunk: Book, device: Book
) -> None:
    """Let everything that is past leave the histories of a call's keys."""
    own = place * PARTIES
    number_move_on(at, NEVER, parties[own + CALLER], calls, number)
    number_move_on(at, NEVER, parties[own + CALLEE], calls, number)
    if BLOCK_COLUMN >= 0 and parties[own + BLOCK] > 0:
        block_move_on(at, NEVER, parties[own + BLOCK], calls, block)
    if TRUNK_COLUMN >= 0 and parties[own + TRUNK] > 0:
        trunk_move_on(at, NEVER, parties[own + TRUNK], calls, trunk)
    if DEVICE_COLUMN >= 0 and parties[own + DEVICE] > 0:
        device_move_on(at, NEVER, parties[own + DEVICE], calls, device)


def forget(
    place: int, calls: Ints, parties: Ints, after: Ints, counts: Ints, index: Ints, number: Book, block: Book,
    trunk: Book, device: Book,
) -> None:  # fmt: skip
    """Give back the place of the oldest call."""
    own = place * PARTIES
    unlist(place, calls, parties, index)
    number_release(place, 0, parties[own + CALLER], number)
    number_release(place, 1, parties[own + CALLEE], number)
    if BLOCK_COLUMN >= 0 and parties[own + BLOCK] > 0:
        block_release(place, 0, parties[own + BLOCK], block)
    if TRUNK_COLUMN >= 0 and parties[own + TRUNK] > 0:
        trunk_release(place, 0, parties[own + TRUNK], trunk)
    if DEVICE_COLUMN >= 0 and parties[own + DEVICE] > 0:
        device_release(place, 0, parties[own + DEVICE], device)
    counts[FIRST] = after[place]
    counts[HELD] -= 1
    after[place] = counts[FREE]
    counts[FREE] = place + 1


def drop_oldest(
    calls: Ints, parties: Ints, after: Ints, counts: Ints, index: Ints, number: Book, block: Book, trunk: Book,
    device: Book,
) -> bool:  # fmt: skip
    """Make room: forget the oldest call before its time. False if that must wait until it is known."""
    place = counts[FIRST]
    own = place * PARTIES
    facts = calls[place * FIELDS + FACTS]
    over = facts >> OVER & 1
    if counts[HELD] == 0 or not facts >> BEGUN & 1 or (calls[place * FIELDS + END] != NEVER and not over):
        return False
    for kind in range(1 + over):
        number_remove(4 * place + kind, parties[own + CALLER], calls, number)
        number_remove(4 * place + 2 + kind, parties[own + CALLEE], calls, number)
        if BLOCK_COLUMN >= 0 and parties[own + BLOCK] > 0:
            block_remove(2 * place + kind, parties[own + BLOCK], calls, block)
        if TRUNK_COLUMN >= 0 and parties[own + TRUNK] > 0:
            trunk_remove(2 * place + kind, parties[own + TRUNK], calls, trunk)
        if DEVICE_COLUMN >= 0 and parties[own + DEVICE] > 0:
            device_remove(2 * place + kind, parties[own + DEVICE], calls, device)
    forget(place, calls, parties, after, counts, index, number, block, trunk, device)
    return True


def slot_of(start: int, caller: int, callee: int, calls: Ints, parties: Ints, index: Ints) -> int:
    """The slot of the index that holds a call, or could; what it holds is one more than the call's place."""
    mask = len(index) - 1
    slot = home((caller << 32 | callee) ^ start, mask)
    while index[slot] > 0:
        own = (index[slot] - 1) * PARTIES
        if (
            calls[(index[slot] - 1) * FIELDS + START] == start
            and parties[own + CALLER] == caller
            and parties[own + CALLEE] == callee
        ):
            break
        slot = slot + 1 & mask
    return int(slot)


def find(start: int, caller: int, callee: int, calls: Ints, parties: Ints, index: Ints) -> int:
    """The place of a held call; NONE if it is not held."""
    return int(index[slot_of(start, caller, callee, calls, parties, index)]) - 1


def unlist(place: int, calls: Ints, parties: Ints, index: Ints) -> None:
    """Take a call out of the index, moving up what stands behind it (linear probing without tombstones)."""
    own = place * PARTIES
    mask = len(index) - 1
    slot = slot_of(calls[place * FIELDS + START], parties[own + CALLER], parties[own + CALLEE], calls, parties, index)
    behind = slot + 1 & mask
    while index[behind] > 0:
        other = index[behind] - 1
        own = other * PARTIES
        wished = home((parties[own + CALLER] << 32 | parties[own + CALLEE]) ^ calls[other * FIELDS + START], mask)
        if (behind - wished & mask) >= (behind - slot & mask):
            index[slot] = index[behind]
            slot = behind
        behind = behind + 1 & mask
    index[slot] = 0


def fill_index(calls: Ints, parties: Ints, after: Ints, counts: Ints, index: Ints) -> None:
    """Put every held call into an empty index."""
    place = counts[FIRST]
    for _ in range(counts[HELD]):
        own = place * PARTIES
        slot = slot_of(calls[place * FIELDS + START], parties[own], parties[own + CALLEE], calls, parties, index)
        index[slot] = place + 1
        place = after[place]


def keep(
    start: int, known: int, caller: int, callee: int, outcome: int, released_by: int, hour: int, day: int, step: int,
    same_region: int, ring: int, group: Ints, calls: Ints, parties: Ints, after: Ints, times: Ints, nodes: Ints,
    counts: Ints, index: Ints, number: Book, block: Book, trunk: Book, device: Book,
) -> int:  # fmt: skip
    """Give a new call a place; its attempt waits until it is known."""
    if counts[FREE] > 0:
        place = counts[FREE] - 1
        counts[FREE] = after[place]
    else:
        place = counts[PLACES]
        counts[PLACES] += 1
    calls[place * FIELDS + START] = start
    calls[place * FIELDS + END] = NEVER
    calls[place * FIELDS + TALK] = 0
    calls[place * FIELDS + FACTS] = pack(outcome, released_by, hour, day, step, same_region, ring)
    own = place * PARTIES
    parties[own + CALLER] = caller
    parties[own + CALLEE] = callee
    index[slot_of(start, caller, callee, calls, parties, index)] = place + 1
    for i in range(3):
        parties[own + BLOCK + i] = group[i]
    number_hold(place, 0, caller, callee, number)
    number_hold(place, 1, callee, caller, number)
    if BLOCK_COLUMN >= 0 and group[0] > 0:
        block_hold(place, 0, group[0], caller, block)
    if TRUNK_COLUMN >= 0 and group[1] > 0:
        trunk_hold(place, 0, group[1], caller, trunk)
    if DEVICE_COLUMN >= 0 and group[2] > 0:
        device_hold(place, 0, group[2], caller, device)
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
    at: int, day: int, caller: int, callee: int, facts: int, group: Ints, out: Any, calls: Ints, parties: Ints,
    after: Ints, times: Ints, nodes: Ints, counts: Ints, index: Ints, number: Book, block: Book, trunk: Book,
    device: Book,
) -> None:  # fmt: skip
    """Write the vector of a call that starts at `at`. Keys that nobody has heard of are 0. `group` holds NONE for a
    call that has no such key: then nothing is known of one."""
    advance(at, calls, parties, after, times, nodes, counts, index, number, block, trunk, device)
    for i in range(WIDTH):
        out[i] = math.nan
    if caller > 0:
        number_move_on(at, day, caller, calls, number)
    if CALLER_COLUMN >= 0:
        number_tell(at, caller, callee, 0, calls, facts, out, CALLER_COLUMN, number)
    if CALLEE_COLUMN >= 0:
        if callee > 0:
            number_move_on(at, day, callee, calls, number)
        number_tell(at, callee, caller, 1, calls, facts, out, CALLEE_COLUMN, number)
    if BLOCK_COLUMN >= 0:
        if group[0] > 0:
            block_move_on(at, day, group[0], calls, block)
        if group[0] >= 0:
            block_tell(at, group[0], caller, 0, calls, facts, out, BLOCK_COLUMN, block)
    if TRUNK_COLUMN >= 0:
        if group[1] > 0:
            trunk_move_on(at, day, group[1], calls, trunk)
        if group[1] >= 0:
            trunk_tell(at, group[1], caller, 0, calls, facts, out, TRUNK_COLUMN, trunk)
    if DEVICE_COLUMN >= 0:
        if group[2] > 0:
            device_move_on(at, day, group[2], calls, device)
        if group[2] >= 0:
            device_tell(at, group[2], caller, 0, calls, facts, out, DEVICE_COLUMN, device)
