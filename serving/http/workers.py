"""Several workers: which one a caller's calls belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def owner(token: str, workers: Sequence[str]) -> str:
    """The worker that a caller's calls belong to. A worker that comes or goes moves no call between two others.

    (Rendezvous hashing.) A worker knows what it was told: what its own callers dialled is whole there; who called them,
    and what a callee, block, trunk or device did elsewhere, is known only if every event is told to every worker: to
    the owner as `attempt`, to the others as `end`.

    Args:
        token: of the caller, as `Intake.token("number", ...)` gives it.
    Raises:
        ValueError: if there is no worker.

    >>> owner("e1.caller", ["a", "b"]) == owner("e1.caller", ["b", "a"])
    True
    """
    return max(workers, key=lambda worker: hashlib.sha256(f"{worker} {token}".encode()).digest())
