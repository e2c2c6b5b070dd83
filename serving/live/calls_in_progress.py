"""Calls in progress, each keyed once, when it rings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from callsieve.features.intake.bounded_dict import BoundedDict
from callsieve.features.intake.call_values import category, duration, milliseconds
from callsieve.features.intake.intake import Intake
from callsieve.features.records import Call, KeyedCall

MAX_CALLS = 200_000  # capacity; beyond it, one of the oldest calls is forgotten


class CallsInProgress:
    """Remembers the keyed form of calls in progress.

    A call is keyed once. Keyed again after two more calls of its caller, or after a restart, it has an unknown step.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        # By numbers as written; calls that an earlier process left, by tokens.
        self._begun: BoundedDict[tuple[str, str, float], KeyedCall] = BoundedDict(MAX_CALLS, hash)
        self._restored: BoundedDict[tuple[str, str, int], KeyedCall] = BoundedDict(MAX_CALLS, hash)

    def __contains__(self, call: Call) -> bool:
        """Returns whether the call began in this process and has not ended."""
        return self._begun.get((call.caller, call.callee, call.start)) is not None

    def find(self, call: Call) -> KeyedCall | None:
        """Returns the call as it was keyed when it began; None if it is not in progress."""
        keyed = self._begun.get((call.caller, call.callee, call.start))
        if keyed is None and len(self._restored):
            caller, callee = (self._intake.token("number", text) or "" for text in (call.caller, call.callee))
            return self._restored.get((caller, callee, milliseconds("start", call.start)))
        return keyed

    def keyed(self, call: Call) -> KeyedCall:
        """Returns the call as it was keyed when it began, with what is known since: times, outcome and releaser."""
        keyed = self.find(call)
        if keyed is None:
            return self._intake(call)
        return replace(
            keyed,
            ring=None if call.ring is None else duration("ring", call.ring),
            talk=None if call.talk is None else duration("talk", call.talk),
            recorded=None if call.recorded is None else milliseconds("recorded", call.recorded),
            outcome=category("outcome", call.outcome),
            released_by=category("released_by", call.released_by),
        )

    def note(self, call: Call, keyed: KeyedCall) -> bool:
        """Records that a call began or ended; returns whether it began before and has not ended now."""
        key = (call.caller, call.callee, call.start)
        if is_over(keyed):
            self._begun.drop(key)
            self._restored.drop((keyed.caller, keyed.callee, keyed.start))
            return False
        return self._begun.put(key, keyed) is not None

    def restore(self, call: KeyedCall) -> None:
        """Records an event that an earlier process wrote to disk."""
        key = (call.caller, call.callee, call.start)
        if is_over(call):
            self._restored.drop(key)
        else:
            self._restored.put(key, call)

    def since(self, start: int) -> Iterator[KeyedCall]:
        """Yields the calls in progress that began at a moment (Unix ms) or later; none may begin or end meanwhile."""
        return (call for call in chain(self._restored.values(), self._begun.values()) if call.start >= start)

    def forgetting(self, token: str) -> Iterator[bool]:
        """Forgets the calls from and to a number, in short steps; between two steps calls may begin and end."""
        for calls in (self._begun, self._restored):
            yield from calls.removing(lambda call: token in (call.caller, call.callee))


def is_over(call: Call | KeyedCall) -> bool:
    """Returns whether the end of a call is known."""
    return call.ring is not None and call.talk is not None
