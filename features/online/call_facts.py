"""What the kernel is told of one call: whole numbers within bounds, and its facts packed into some of them."""

from __future__ import annotations

import struct
from operator import attrgetter

from callsieve.features.kernel.windows import FACT_BITS
from callsieve.features.records import KeyedCall

# What the kernel takes as whole numbers, and wraps if it is too long: times and a day, and categories.
_packed = struct.Struct("6q11b").pack
_facts = attrgetter(
    "day", "hour", "outcome", "released_by", "caller_class", "callee_class", "same_region", "shared_prefix", "step",
    "presented_differs", "attestation", "route",
)  # fmt: skip


def facts_of(call: KeyedCall) -> int:
    """Facts of the call itself, in the order of `feature.CALL_FACTS`, as one integer: each one more than its value."""
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
    """Raises: AttributeError, TypeError, struct.error: for what is no whole number, or one beyond its bounds."""
    ring, talk = call.ring or 0, call.talk or 0
    _packed(call.start, call.start + ring + talk, ring, talk, call.recorded or 0, *_facts(call))


def said(call: KeyedCall) -> tuple[int, int, int, int, int, int, int]:
    """What `windows.pack` makes the facts of a call's events of."""
    ring = call.ring or 0
    return call.outcome, call.released_by, call.hour, call.day, call.step, call.same_region, ring


def attempt_known(call: KeyedCall) -> int:
    """When the attempt became known: at its start, unless the whole record came late."""
    over = call.start if call.ring is None or call.talk is None else call.start + call.ring + call.talk
    return call.start if call.recorded is None or call.recorded <= over else call.recorded
