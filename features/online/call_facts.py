"""Records of a call as arguments of the kernel: integers within bounds, with the facts packed into one of them.

A history may get further records of a call that it has stored. The rule for them is in the glossary of the catalogue,
under "repeat" and "tie", and does not depend on the order of the records; `offline/repeats.py` follows it for a table.
What is in the windows already does not change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from callsieve.features.kernel.windows import (
    ATTEMPT_FACTS,
    DAY_SHIFT,
    FACT_BITS,
    LATE_END,
    LATE_START,
    OVER,
    START_OF_END,
    STARTED,
    WEEK,
    pack,
    read_wide,
)
from callsieve.features.records import KeyedCall
from callsieve.features.stream.call_store import DURATION, FACTS, FIELDS, LATER_ROUTE, ROUTE, ROUTE_SIZE, TALK
from callsieve.features.stream.routes import GROUPS, KEYS_OF

from .driver import Driver

TextOf = Callable[[int, int], str]
"""Returns the token of a key of a kind of group, by its index among block, trunk and device."""

# Bits of the facts that records of one call are compared by: what an attempt and what an outcome adds.
_START = ATTEMPT_FACTS & ~((1 << DAY_SHIFT) - (1 << STARTED))
_END = ~ATTEMPT_FACTS & ~(1 << LATE_END)

# Ranges of the kernel's integers: 64 bits for times and the day, 8 bits for categories. C would wrap silently.
_packed = struct.Struct("6q11b").pack
_facts = attrgetter(
    "day",
    "hour",
    "outcome",
    "released_by",
    "caller_class",
    "callee_class",
    "same_region",
    "shared_prefix",
    "step",
    "presented_differs",
    "attestation",
    "route",
)


def facts_of(call: KeyedCall) -> int:
    """Packs the facts of a call into one integer, in the order of `feature.CALL_FACTS`.

    Each fact takes `FACT_BITS` bits and is stored as its value plus one, so that 0 means unknown.
    """
    bits, weekday = FACT_BITS, (call.day + 3) % 7  # 1970-01-01 was a Thursday
    return (
        call.caller_class + 1
        | call.callee_class + 1 << bits
        | call.attestation + 1 << 2 * bits
        | call.route + 1 << 3 * bits
        | call.step + 1 << 4 * bits
        | call.hour + 1 << 5 * bits
        | weekday + 1 << 6 * bits
        | call.same_region + 1 << 7 * bits
        | call.shared_prefix + 1 << 8 * bits
        | call.presented_differs + 1 << 9 * bits
    )


def check(call: KeyedCall) -> None:
    """Checks that all arguments of the kernel are integers within its bounds."""
    ring, talk = call.ring or 0, call.talk or 0
    _packed(call.start, call.start + ring + talk, ring, talk, call.recorded or 0, *_facts(call))


def event_facts(call: KeyedCall) -> int:
    """Packs the facts that the events of a call add, see `windows.pack`."""
    ring = call.ring or 0
    facts = pack(call.outcome, call.released_by, call.hour, call.day, call.step, call.same_region, ring)
    return facts | int(_is_over(call)) << START_OF_END


def has_outcome(call: KeyedCall) -> bool:
    """Returns whether a record has an outcome that counts: one that becomes known within seven days of the start."""
    return _is_over(call) and end_arguments(call)[2] - call.start < WEEK


def _is_over(call: KeyedCall) -> bool:
    return call.ring is not None and call.talk is not None


def attempt_known(call: KeyedCall) -> int:
    """Returns when the attempt became known (Unix ms): the call's start, or `recorded` if the record came late."""
    end = call.start + (call.ring or 0) + (call.talk or 0) if _is_over(call) else call.start
    return call.start if call.recorded is None or call.recorded <= end else call.recorded


def end_arguments(call: KeyedCall) -> tuple[int, int, int]:
    """Returns the end of a call that is over (Unix ms), its talk time (ms), and when its outcome becomes known."""
    talk = call.talk or 0
    end = call.start + (call.ring or 0) + talk
    return end, talk, max(end, call.recorded or end)


def take_record(driver: Driver, place: int, call: KeyedCall, add_keys: Callable[[], bool], text_of: TextOf) -> bool:
    """Takes one more record of a stored call.

    Returns: False if the call was dropped.
    """
    memory = driver.memory["shared"]
    started = read_wide(memory["calls"], place * FIELDS + FACTS) >> STARTED & 1
    if started and _compare_ends(driver, place, call) > 0:
        return True
    lacks = any(key <= 0 for key in _keys_of(memory, ROUTE, place))
    if (lacks or not started) and not add_keys():  # that may move the windows on
        return False
    group, was_over = memory["group"], memory["calls"][place * FIELDS + DURATION] >= 0
    own, of_attempt = group.tolist(), _keys_of(memory, ROUTE, place)
    has_later = memory["calls"][place * FIELDS + LATER_ROUTE]
    of_end = _keys_of(memory, LATER_ROUTE, place) if has_later else of_attempt
    facts = read_wide(memory["calls"], place * FIELDS + FACTS)
    order_of_starts, order_of_ends = _compare_starts(driver, place, call), _compare_ends(driver, place, call)
    if order_of_starts <= 0:
        of_start = event_facts(call)
        of_attempt = own if order_of_starts < 0 else _first_tokens(own, of_attempt, text_of)
        if order_of_starts == 0:
            of_start = min(of_start & _START, facts & _START)
        _set_group(group, of_attempt)
        driver.restart_call(place, attempt_known(call), of_start | int(_is_over(call)) << START_OF_END)
    if order_of_ends <= 0:
        of_outcome = event_facts(call)
        of_end = own if order_of_ends < 0 else _first_tokens(own, of_end, text_of)
        if order_of_ends == 0:
            of_outcome = min(of_outcome & _END, facts & _END)
        take_end = driver.replace_end if was_over else driver.end_call
        take_end(place, *end_arguments(call), of_outcome)
    if was_over or order_of_ends <= 0:
        if facts >> STARTED & 1:  # the attempt stays as it is
            of_end = [key if key > 0 else end for key, end in zip(of_attempt, of_end, strict=True)]
        _set_group(group, of_end)
        driver.set_later_route(place)
    return True


def _compare_starts(driver: Driver, place: int, call: KeyedCall) -> int:
    facts = read_wide(driver.memory["shared"]["calls"], place * FIELDS + FACTS)
    if facts >> STARTED & 1:
        return 1
    known = driver.known_time(place, 0) if facts >> LATE_START & 1 else call.start
    present, own = (known, facts >> START_OF_END & 1), (attempt_known(call), int(_is_over(call)))
    return (own > present) - (own < present)


def _compare_ends(driver: Driver, place: int, call: KeyedCall) -> int:
    calls = driver.memory["shared"]["calls"]
    facts, duration = read_wide(calls, place * FIELDS + FACTS), calls[place * FIELDS + DURATION]
    if facts >> OVER & 1 or not has_outcome(call):
        return 1
    if duration < 0:
        return -1
    end, talk, known = end_arguments(call)
    present_end = call.start + duration
    present_known = driver.known_time(place, 1) if facts >> LATE_END & 1 else present_end
    present, own = (present_known, present_end, calls[place * FIELDS + TALK]), (known, end, talk)
    return (own > present) - (own < present)


def _first_tokens(own: list[int], present: list[int], text_of: TextOf) -> list[int]:
    return [
        max(pair) if min(pair) <= 0 or pair[0] == pair[1] else min(pair, key=lambda key: text_of(kind, key))
        for kind, pair in enumerate(zip(own, present, strict=True))
    ]


def _set_group(group: Any, keys: list[int]) -> None:
    for i, key in enumerate(keys):
        group[i] = key


def _keys_of(memory: Any, field: int, place: int) -> list[int]:
    first = memory["calls"][place * FIELDS + field] * ROUTE_SIZE + KEYS_OF
    keys: list[int] = memory["routes"][first : first + GROUPS].tolist()
    return keys
