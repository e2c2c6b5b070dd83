"""Calls in the air: those that have begun and are not known to be over, as they were keyed when they rang."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from callsieve.features.intake.bounded_dict import BoundedDict
from callsieve.features.intake.call_values import category, duration, milliseconds
from callsieve.features.intake.intake import Intake
from callsieve.features.records import Call, KeyedCall

MAX_CALLS = 200_000  # calls that are remembered; one of those that began first is forgotten first


class CallsInProgress:
    """What is known of calls in the air. Keyed again, a call would follow itself in what its caller dialled."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        # By numbers as written; those of an earlier process by tokens.
        self._begun: BoundedDict[tuple[str, str, float], KeyedCall] = BoundedDict(MAX_CALLS, hash)
        self._left: BoundedDict[tuple[str, str, int], KeyedCall] = BoundedDict(MAX_CALLS, hash)

    def known(self, call: Call) -> KeyedCall | None:
        """A call as it was keyed when it began; None if it is not in the air."""
        found = self._begun.get((call.caller, call.callee, call.start))
        if found is None and len(self._left):
            caller, callee = (self._intake.token("number", text) or "" for text in (call.caller, call.callee))
            return self._left.get((caller, callee, milliseconds("start", call.start)))
        return found

    def keyed(self, call: Call) -> KeyedCall:
        """A call as it is known now: what was keyed when it began, and what has been learnt since.

        Raises: ValueError: for a word that is no category, a time that is not finite, or a ring or talk below 0.
        """
        begun = self.known(call)
        if begun is None:
            return self._intake(call)
        return replace(
            begun,
            ring=None if call.ring is None else duration("ring", call.ring),
            talk=None if call.talk is None else duration("talk", call.talk),
            recorded=None if call.recorded is None else milliseconds("recorded", call.recorded),
            outcome=category("outcome", call.outcome),
            released_by=category("released_by", call.released_by),
        )

    def note(self, call: Call, keyed: KeyedCall) -> bool:
        """A call begins or is over; whether it was known to have begun, and tells nothing new."""
        named = (call.caller, call.callee, call.start)
        if is_over(keyed):
            self._begun.drop(named)
            self._left.drop((keyed.caller, keyed.callee, keyed.start))
            return False
        return self._begun.put(named, keyed) is not None

    def note_left(self, call: KeyedCall) -> None:
        """The same, as an earlier process wrote it down."""
        named = (call.caller, call.callee, call.start)
        if is_over(call):
            self._left.drop(named)
        else:
            self._left.put(named, call)

    def forgetting(self, token: str) -> Iterator[bool]:
        """Know the calls from and to a number no more, in short steps between which calls may begin and end."""
        for kept in (self._begun, self._left):
            yield from kept.removing(lambda call: token in (call.caller, call.callee))


def is_over(call: KeyedCall) -> bool:
    """Whether it is known how a call ended."""
    return call.ring is not None and call.talk is not None
