"""Records of a call as arguments of the kernel: integers within bounds, with the facts packed into one of them.

A history may get further records of a call that it has stored: its end, and copies that were known earlier. Whatever
the order of a call's records, its attempt is that of the record that makes the attempt known first, and its outcome
likewise. A block, trunk or device that the attempt lacks comes with the end: the call counts there from the time when
its outcome is known. What is in the windows already does not change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from callsieve.features.kernel.windows import FACT_BITS, LATE_END, LATE_START, NONE, STARTED, pack
from callsieve.features.records import KeyedCall
from callsieve.features.stream.call_store import DURATION, FACTS, FIELDS, ROUTE_SIZE
from callsieve.features.stream.routes import GROUPS, KEYS_OF

from .driver import Driver

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
    """Checks that all arguments of the kernel are integers within its bounds.

    Raises:
        AttributeError, TypeError, struct.error: if one is not.
    """
    ring, talk = call.ring or 0, call.talk or 0
    _packed(call.start, call.start + ring + talk, ring, talk, call.recorded or 0, *_facts(call))


def event_facts(call: KeyedCall) -> int:
    """Packs the facts that the events of a call add, see `windows.pack`."""
    ring = call.ring or 0
    return pack(call.outcome, call.released_by, call.hour, call.day, call.step, call.same_region, ring)


def attempt_known(call: KeyedCall) -> int:
    """Returns when the attempt became known (Unix ms): the call's start, or `recorded` if the record came late."""
    end = call.start if call.ring is None or call.talk is None else call.start + call.ring + call.talk
    return call.start if call.recorded is None or call.recorded <= end else call.recorded


def end_arguments(call: KeyedCall) -> tuple[int, int, int]:
    """Returns the end of a call that is over (Unix ms), its talk time (ms), and when its outcome becomes known."""
    talk = call.talk or 0
    end = call.start + (call.ring or 0) + talk
    return end, talk, max(end, call.recorded or end)


def take_record(driver: Driver, place: int, call: KeyedCall, add_keys: Callable[[], bool]) -> bool:
    """Takes one more record of a stored call; a repeat changes nothing.

    Args:
        place: place of the call. `driver.memory["shared"]["group"]` contains the keys of the record.
        add_keys: adds keys there for new blocks, trunks and devices; returns False if the call was dropped.
    Returns: False if the call was dropped.
    """
    memory = driver.memory["shared"]
    facts, was_over = memory["calls"][place * FIELDS + FACTS], memory["calls"][place * FIELDS + DURATION] >= 0
    is_over = call.ring is not None and call.talk is not None
    is_end = is_over and (not was_over or facts >> LATE_END & 1)
    is_start = not facts >> STARTED & 1 and (facts >> LATE_START & 1 or was_over > is_over)
    if not is_end and not is_start:
        return True
    of_attempt, group = _keys_of(memory, "route", place), memory["group"]
    if (
        is_start or any(key <= 0 and own != NONE for key, own in zip(of_attempt, group, strict=True))
    ) and not add_keys():
        return False
    own = group.tolist()
    of_end = _keys_of(memory, "later_route", place) if memory["later_route"][place] else of_attempt
    if is_start:
        known = attempt_known(call)
        least = known if was_over > is_over else known + 1
        if driver.restart_call(place, known, least, event_facts(call)):
            of_attempt = own
    if is_end and not was_over:
        driver.end_call(place, *end_arguments(call), event_facts(call))
        of_end = own
    elif is_end and driver.replace_end(place, *end_arguments(call), event_facts(call)):
        of_end = own
    merged = [key if key > 0 else end for key, end in zip(of_attempt, of_end, strict=True)]
    if (was_over or is_over) and (merged != of_attempt or memory["later_route"][place]):
        for i, key in enumerate(merged):
            group[i] = key
        driver.set_later_route(place)
    return True


def _keys_of(memory: Any, name: str, place: int) -> list[int]:
    """Returns the keys of block, trunk and device of a stored call, by its `route` or `later_route`."""
    first = memory[name][place] * ROUTE_SIZE + KEYS_OF
    keys: list[int] = memory["routes"][first : first + GROUPS].tolist()
    return keys
