"""The moment up to which single calls may move the windows of a history.

Windows never move back. So a call whose start lies days ahead, by a wrong clock, would empty the windows of all
numbers. A start is trusted if it is at most a minute ahead of the trusted moment. A larger jump is trusted when as many
calls as WITNESSES lie ahead, with no call in between that contradicts them.

>>> moment = TrustedMoment(0)
>>> for start in (50_000, 8 * 86_400_000, 60_000):  # the second call has a wrong clock
...     moment.note(start)
>>> moment.at
60000
>>> for start in (7_200_000, 7_201_000, 7_202_000, 7_203_000):  # after two hours without calls
...     moment.note(start)
>>> moment.at
7203000
"""

from __future__ import annotations

from operator import index
from typing import TypedDict

AHEAD_MS = 60_000
WITNESSES = 4


class MomentFacts(TypedDict):
    """The state of a trusted moment as plain values, for a snapshot."""

    at: int
    jumps: list[int]


class TrustedMoment:
    """The trusted moment `at` (Unix ms), which only moves forward."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._jumps: list[int] = []  # distinct starts more than AHEAD_MS ahead, none contradicted

    def facts(self) -> MomentFacts:
        """Returns the state as plain values, for a snapshot."""
        return {"at": self.at, "jumps": self._jumps}

    @classmethod
    def of_facts(cls, facts: MomentFacts) -> TrustedMoment:
        """Returns the moment with a state of `facts`. Raises TypeError or KeyError for other values."""
        moment = cls(index(facts["at"]))
        moment._jumps = [index(start) for start in facts["jumps"]]
        return moment

    def note(self, start: int) -> None:
        """Notes the start of a call (Unix ms); the same call may be noted again."""
        if start <= self.at:
            return  # of a late record: it says nothing about the time now
        if start <= self.at + AHEAD_MS:
            self.advance(start)
            return
        self._jumps = [jump for jump in self._jumps if jump <= start + AHEAD_MS and jump != start]
        self._jumps.append(start)
        if len(self._jumps) >= WITNESSES:
            limit = min(self._jumps) + AHEAD_MS
            further = [jump for jump in self._jumps if jump > limit]
            self.advance(max(jump for jump in self._jumps if jump <= limit))
            self._jumps = further

    def advance(self, at: int) -> None:
        """Moves the trusted moment forward to `at`, which contradicts all jumps."""
        self.at, self._jumps = max(self.at, at), []
