"""Arguments of the kernel for one call: integers within bounds, with the facts packed into one of them."""

from __future__ import annotations

import struct
from operator import attrgetter

from callsieve.features.kernel.windows import FACT_BITS, pack
from callsieve.features.records import KeyedCall

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
