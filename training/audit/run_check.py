"""Checks the meaning of a run's entry against other entries: its gates, its looks at the test set, its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from callsieve.training.log.entry import Entry
from callsieve.training.log.gates import logged_gates
from callsieve.training.log.looks import overlapping_looks, parts

from .fault import Fault
from .mlflow_check import Payloads, lacks_fields

LOOKS = "test_fold_touches"  # metric of a run
LOG_TAG = "audit_log"


def run_faults(entries: Sequence[Entry], payloads: Payloads) -> list[Fault]:
    """Returns a fault for each run whose entry contradicts the entries before it."""
    own = entries[0].leaf() if entries and entries[0].index == 0 else ""
    return [
        Fault(f"entry {entry.index}", what)
        for entry, run in payloads
        if entry.kind == "run" and not lacks_fields(entry, run)
        for what in _contradictions(entry, run, payloads, own)
    ]


def _contradictions(entry: Entry, run: Mapping[str, Any], payloads: Payloads, own: str) -> Iterator[str]:
    try:
        logged_gates({e.index: p for e, p in payloads if e.kind == "gates"}, run["gates"], entry.index)
    except ValueError as error:
        yield str(error)
    log = run["record"]["tag"].get(LOG_TAG, own)
    if own and log != own:
        yield f"its run belongs to another log, {log[:16]}"
    claimed, fold = run["gates"].get("touches"), run["gates"].get("fold")
    if claimed is None or not fold:
        return
    if (metric := run["record"]["metric"].get(LOOKS, claimed)) != claimed:
        yield f"its metric {LOOKS} is {metric:g}, its gates state {claimed}"
    data, begin, end = parts(fold)
    earlier = [p["fold"] for e, p in payloads if e.kind == "touch" and e.index < run["gates"]["entry"]]
    counted = overlapping_looks(earlier, data, (begin, end)) + 1
    if claimed < counted:
        yield f"states {claimed} looks at its calls, the log has {counted}"
