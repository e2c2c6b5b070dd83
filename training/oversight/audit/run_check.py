"""Checks the meaning of a run's entry against other entries: its gates, its looks at the test set, its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from callsieve.training.language import gettext
from callsieve.training.oversight.log.entry import Entry
from callsieve.training.oversight.log.gates import logged_gates
from callsieve.training.oversight.log.looks import Fold

from .fault import Fault, entry_place
from .mlflow_check import CARD, Payloads, lacks_fields

LOOKS = "test_fold_touches"  # metric of a run
MANIFEST = "model/bundle/MANIFEST.json"  # artifact of a run with a bundle
LOG_TAG = "audit_log"


def run_faults(entries: Sequence[Entry], payloads: Payloads) -> list[Fault]:
    """Returns a fault for each run whose entry contradicts the entries before it."""
    own = entries[0].leaf() if entries and entries[0].index == 0 else ""
    return [
        Fault(entry_place(entry.index), what)
        for entry, run in payloads
        if entry.kind == "run" and not lacks_fields(entry, run)
        for what in (*_contradictions(entry, run, payloads, own), *_looks(entry, run, entries, payloads))
    ]


def _contradictions(entry: Entry, run: Mapping[str, Any], payloads: Payloads, own: str) -> Iterator[str]:
    try:
        logged_gates({e.index: p for e, p in payloads if e.kind == "gates"}, run["gates"], entry.index)
    except ValueError as error:
        yield str(error)
    log = run["record"]["tag"].get(LOG_TAG, own)
    if own and log != own:
        yield gettext("its run belongs to another log, %(log)s", log=log[:16])
    artifacts = run["record"]["artifact"]
    if run["version"] and (CARD not in artifacts or artifacts.get(MANIFEST) != run["manifest_sha256"]):
        yield gettext("its artifacts are not the bundle that approvers approve")


def _looks(entry: Entry, run: Mapping[str, Any], entries: Sequence[Entry], payloads: Payloads) -> Iterator[str]:
    """Yields what is wrong with the looks that a run states."""
    claimed, fold = run["gates"].get("touches"), run["gates"].get("fold")
    if (metric := run["record"]["metric"].get(LOOKS, claimed)) != claimed:
        stated = {"name": LOOKS, "value": f"{metric:g}", "claimed": claimed}
        yield gettext("its metric %(name)s is %(value)s, its gates state %(claimed)s", **stated)
    if claimed is None or not fold:
        yield gettext("states no use of its calls")
        return
    judged = Fold.parse(fold)
    gates, looks = run["gates"]["entry"], [(e.index, p["fold"]) for e, p in payloads if e.kind == "touch"]
    # A missing entry is a fault of its own; it may be the look.
    known = {e.index for e in entries if e.kind != "touch"} | {index for index, _ in looks}
    if known.issuperset(range(gates, entry.index)) and fold not in (
        look for index, look in looks if gates < index < entry.index
    ):
        yield gettext("the log records no use of its calls between its gates and its own entry")
    counted = sum(judged.overlaps(Fold.parse(look)) for index, look in looks if index < gates) + 1
    if claimed < counted:
        yield gettext("states %(claimed)s uses of its calls, the log has %(counted)s", claimed=claimed, counted=counted)
