"""Further records of a call that a history has stored: its end, and copies that were known earlier.

Whatever the order of a call's records, its attempt is that of the record that makes the attempt known first, and its
outcome likewise. A block, trunk or device that the attempt lacks comes with the end: the call counts there from the
time when its outcome is known. What is in the windows already does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callsieve.features.kernel.windows import LATE_END, LATE_START, NONE, STARTED
from callsieve.features.records import KeyedCall
from callsieve.features.stream.call_store import DURATION, FACTS, FIELDS, ROUTE_SIZE
from callsieve.features.stream.routes import GROUPS, KEYS_OF

from .call_facts import attempt_known, end_arguments, event_facts
from .driver import Driver


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
