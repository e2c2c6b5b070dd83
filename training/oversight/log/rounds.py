"""Rounds of an adaptation: runs that share base, calls and draw, each with all the answers of the round before.

Each round judges a model on the same calls, so the audit log has a look for each. All rounds of an adaptation together
are one use of test data: a later round answers the questions that the earlier one asked. A changed or withdrawn answer
is a choice made after a look. So it starts another use, and so does another draw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from msgspec import to_builtins

from callsieve.features.files.decode import Record, as_kind

from .payload_types import TouchPayload


class Round(Record, frozen=True):
    """One round of an adaptation.

    Attributes:
        start: SHA-256 of base, tables of calls and complaints, settings and source code.
        draw: SHA-256 of the callers that were drawn for checks, with their probabilities; None before a draw.
        answers: digests of the answers, one for each, ascending; they name no number.
    """

    start: str
    draw: str | None
    answers: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the round, by which the next round names it."""
        return hashlib.sha256(json.dumps(to_builtins(self), sort_keys=True).encode()).hexdigest()

    def continues(self, earlier: Round) -> bool:
        """Returns whether this round belongs to the adaptation of an earlier one."""
        same = self.start == earlier.start and earlier.draw in (None, self.draw)
        return same and set(earlier.answers) <= set(self.answers)


def round_of(payload: TouchPayload) -> Round | None:
    """Returns the round of a look; None for a look of another command, and if the round is malformed."""
    try:
        return as_kind(payload.get("round"), Round, "round")
    except ValueError:
        return None


def uses(looks: Iterable[Round | None]) -> list[list[Round | None]]:
    """Returns the looks by use of test data: the rounds of an adaptation are one use, any other look is one of its own.

    `looks`: in their order; None for a look that is no round.

    >>> first, second, other = Round("a", None, ()), Round("a", "d", ("x",)), Round("a", "d", ("y",))
    >>> [len(rounds) for rounds in uses([first, None, second, other])]
    [2, 1, 1]
    """
    groups: list[list[Round | None]] = []
    for look in looks:
        before = (group for group in groups if look and group[-1] and look.continues(group[-1]))
        if (group := next(before, None)) is None:
            groups.append([look])
        else:
            group.append(look)
    return groups


def preceding(looks: Iterable[Round | None], now: Round) -> Round | None:
    """Returns the round that a new one continues; None if it begins an adaptation."""
    group = next(group for group in uses([*looks, now]) if group[-1] is now)
    return group[-2] if len(group) > 1 else None
