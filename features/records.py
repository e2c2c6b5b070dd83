"""The call record: what one call is as written by a switch, and as kept once its numbers are keyed.

A `Call` carries numbers as written. `callsieve.features.intake.intake` turns it into a `KeyedCall`: the facts that
need digits are taken, the numbers become keyed tokens, and the digits are gone. Everything after the intake
works on keyed calls, one at a time (`KeyedCall`) or as a table with the same columns (`KEYED_COLUMNS`).

All times of keyed calls are whole milliseconds (Unix, UTC), so that sums over a window are exact integers.
"""

from __future__ import annotations

from .dataclass import dataclass

OUTCOMES = (
    "answered",
    "no_answer",
    "busy",
    "rejected",  # the callee's device or a person declined
    "unwanted",  # SIP 607: a person said "unwanted"
    "invalid_number",
    "failed",  # the network's fault
    "blocked",  # stopped on the way: it has no outcome of its own
    "unknown",
)
RELEASED_BY = ("caller", "callee", "network", "unknown")
# A category, never an order: partly attested calls were likelier robocalls than unsigned ones in 2022-23.
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
    "unknown",  # the number came as an opaque code, and nothing was said of it
)
# How far the callee's number is from the caller's last one.
STEPS = ("same", "near", "block", "other")

UNKNOWN = -1
"""A fact that is not known; the feature made of it is NaN."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as written.

    `start` and `recorded` are Unix seconds (UTC), `ring` and `talk` seconds. `talk` is 0 unless answered.
    `ring` and `talk` are `None` while the call is not over: such a call is an attempt, known at `start`.
    `recorded` is when the record became known; `None` means at the end of the call. It is set only on a
    record that came later than that: then neither attempt nor outcome was known before.
    `caller_class` and `callee_class` are of `NUMBER_CLASSES`: what the source knows of a number that is a code or a
    token. Of a number with digits they say nothing: its own reading counts.

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


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """One call as kept: tokens, facts and whole milliseconds; no digit of a number is left.

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
    presented_differs: int  # 1 if the network's number is another one than the presented, 0, or UNKNOWN
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
"""Where a keyed call holds the token of each group that its caller is in."""
