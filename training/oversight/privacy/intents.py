"""Acts on personal data in two entries of the audit log: the plan before the first change, and the result after it.

An act that was interrupted leaves a plan without a result. The next run of its command finishes the act.
"""

from __future__ import annotations

from pathlib import Path

from callsieve.training.oversight.log.audit_log import has_log, payloads
from callsieve.training.oversight.log.payload_types import Payload

INTENT, RESULT = "intent", "result"
"""Values of `stage` in the payload of both entries; a result names its plan as `intent`."""
LOCK = "erasing"
"""The lock of a log under which rows are erased."""


def open_intents(log: Path, kind: str) -> list[tuple[int, Payload]]:
    """Returns the index and the payload of each plan of a kind in a log whose result is not entered.

    A later plan that `resumes` an earlier one takes its place.
    """
    entries = list(payloads(log, kind)) if has_log(log) else []
    closed = {payload.get(name) for _, payload in entries for name in ("intent", "resumes")}
    return [(e.index, payload) for e, payload in entries if payload.get("stage") == INTENT and e.index not in closed]
