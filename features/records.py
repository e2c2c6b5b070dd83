"""The call record: one call as a switch writes it, and as it is stored with keyed numbers.

A `Call` carries numbers as written. `callsieve.features.intake.intake` turns it into a `KeyedCall`: it derives the
facts that need digits, and replaces the numbers by keyed tokens. Everything after the intake works on keyed calls, one
at a time (`KeyedCall`) or as a table with the same columns (`KEYED_COLUMNS`).

All times of keyed calls are whole milliseconds (Unix, UTC), so that sums over a window are exact integers.
"""

from __future__ import annotations

from dataclasses import dataclass

OUTCOMES = (
    "answered",
    "no_answer",
    "busy",
    "rejected",  # the callee or the callee's device declined
    "unwanted",  # SIP 607: the callee declined the call as unwanted
    "invalid_number",
    "failed",  # a fault of the network
    "blocked",  # stopped in the network before it reached the callee
    "unknown",
)
RELEASED_BY = ("caller", "callee", "network", "unknown")
# A category without order: in 2022-23, calls with partial attestation were more often robocalls than unsigned ones.
ATTESTATIONS = ("A", "B", "C", "failed", "none", "unknown")
ROUTES = ("domestic", "international", "roaming", "unknown")
NUMBER_CLASSES = (
    "mobile",
    "resale",
    "satellite",
    "iot",
    "fixed",
    "95_service",
    "95_call_centre",
    "96",
    "400",
    "800",
    "1010",
    "106",
    "public_service",
    "emergency",
    "foreign",
    "irregular",
    "withheld",
    "unknown",  # an opaque code without a declared class, or a short code that no table names
)
# Dialling distance: how far the callee's number is from the previous number that the caller dialled. "near" is at most
# NEAR_DISTANCE numbers away, also across the border of a block; "block" is farther away in the same block.
STEPS = ("same", "near", "block", "other")
NEAR_DISTANCE = 10

UNKNOWN = -1
"""Code of a missing fact; the feature that depends on it is NaN."""


# Not frozen, as other classes of which each call makes an object: `__init__` of a frozen class takes ten times as long.
@dataclass(slots=True, unsafe_hash=True)
class Call:
    """One call as a switch writes it.

    `start` and `recorded` are Unix seconds (UTC), `ring` and `talk` seconds. `talk` is 0 unless answered.
    `ring` and `talk` are `None` while the call is not over: such a call is an attempt, known at `start`.
    `recorded` is the time at which the record became known; `None` means the end of the call. It is set only on a
    record that arrived later: neither attempt nor outcome was known before.
    `caller_class` and `callee_class` (of `NUMBER_CLASSES`) are the source's class of a number that is a code or a
    token, or a short code that no table names. They have no effect on any other number with digits, whose class follows
    from the number plan.

    >>> ringing = Call(start=1775001600.0, caller="+86 138 0000 0000", callee="010 1234 5678")
    >>> ringing.talk is None, ringing.outcome
    (True, 'unknown')
    """

    start: float
    caller: str
    callee: str
    ring: float | None = None
    talk: float | None = None
    outcome: str = "unknown"
    released_by: str = "unknown"
    recorded: float | None = None
    network_caller: str | None = None
    attestation: str = "unknown"
    route: str = "unknown"
    trunk: str | None = None
    operator: str | None = None
    device: str | None = None
    place: str | None = None
    cause: str | None = None
    caller_class: str = "unknown"
    callee_class: str = "unknown"


@dataclass(slots=True, unsafe_hash=True)
class KeyedCall:
    """One call as stored: tokens, facts and whole milliseconds, without any digits of a number.

    Categories are indices into the tuples of this module. `UNKNOWN` (-1) marks a missing fact.

    >>> from callsieve.features import Call, Intake, Key
    >>> from callsieve.features.records import NUMBER_CLASSES, OUTCOMES
    >>> intake = Intake(Key("e1", bytes(32)))
    >>> call = intake(Call(1775001600.0, "13800138000", "13900139000", 5.0, 20.0, "answered"))
    >>> call.start, call.talk, OUTCOMES[call.outcome], NUMBER_CLASSES[call.caller_class]
    (1775001600000, 20000, 'answered', 'mobile')
    """

    start: int
    caller: str
    callee: str
    ring: int | None
    talk: int | None
    recorded: int | None
    outcome: int
    released_by: int
    hour: int  # local hour of day, 0..23
    day: int  # local days since 1970-01-01
    caller_class: int
    callee_class: int
    same_region: int  # 1, 0 or UNKNOWN
    shared_prefix: int  # leading digits that caller and callee share, or UNKNOWN
    step: int  # index into STEPS, or UNKNOWN for a caller's first call
    presented_differs: int  # 1 if the network's number is not the presented one, 0 if it is, or UNKNOWN
    attestation: int
    route: int
    caller_block: str
    trunk: str | None
    operator: str | None
    device: str | None
    place: str | None


CALL_COLUMNS = tuple(Call.__slots__)
KEYED_COLUMNS = tuple(KeyedCall.__slots__)
KEYED_CATEGORIES = {
    "outcome": OUTCOMES,
    "released_by": RELEASED_BY,
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
    "step": STEPS,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
}
GROUP_COLUMNS = {"block": "caller_block", "trunk": "trunk", "device": "device"}
"""Column of a keyed call with the token of each group of its caller, by the name of the group."""
