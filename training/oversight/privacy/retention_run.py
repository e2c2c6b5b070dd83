"""A retention run: plans every erasure, enters it in the audit log, carries it out, and enters the result.

A killed run leaves one of two states. Without an entry in the log, no file has changed. With an entry of the stage
"intent", each file is as it was or as planned, and the entry has the hashes of both. The next run with the same log
enters the result of the interrupted run and then erases the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from callsieve.features.files.atomic import check_present, sha256
from callsieve.features.files.progress import Progress, by_size, silent
from callsieve.training.oversight.log.audit_log import SignedLog, locked
from callsieve.training.oversight.log.payload_types import Payload

from . import register_folders, service_state, tables
from .intents import INTENT, LOCK, RESULT, open_intents
from .places import Places
from .rewriting import ERASED, Erasure, Expired, carry_out, planned
from .states import CALLS, calls_fingerprint, file_fingerprint

KIND = "retention"
CASES = "cases"  # name of the case store in the report, and of its retention rule
UNCHANGED, CHANGED_SINCE, MISSING = "unchanged", "changed since", "missing"


class Retained(TypedDict, total=False):
    """The result of a retention run, and what the audit log has of it.

    `files` has the summaries by file, and of the store as `cases`. `erased` and `left` are erased rows, and expired
    rows that remain. `rules` is the version of the rules, `now` the moment of the run in Unix ms. `calls_before` and
    `calls_after` are fingerprints of the calls. `finished` are entries with results of earlier, interrupted runs.
    `intent` and `entry` are entries of the plan and of the result; no plan is entered if nothing has expired.
    """

    finished: list[int]
    rules: str
    now: int
    calls_before: str
    calls_after: str
    intent: int | None
    files: dict[str, Expired]
    erased: int
    left: int
    entry: int


def erase_expired(places: Places, log: SignedLog, now: int, progress: Progress = silent) -> Retained:
    """Erases expired rows; enters the plan in the log before the first change, and the result afterwards.

    `now`: Unix ms.
    """
    check_present(places.data, *places.states, *places.verdicts, *places.registers)
    log.folder.mkdir(parents=True, exist_ok=True)
    with locked(log.folder, LOCK):
        finished = [_finish(log, index, intent, places.store) for index, intent in open_intents(log.folder, KIND)]
        step_progress = places.steps(progress)
        before = calls_fingerprint(places.data, step_progress["before"])
        with planned(_plan(places, now, step_progress)) as erasures:
            run = _run(log, places, now, before, erasures, step_progress["after"])
        progress("erased", 1.0)
        return {"finished": finished, **run}


def _run(
    log: SignedLog, places: Places, now: int, before: str, erasures: Sequence[Erasure[Expired]], progress: Progress
) -> Retained:
    """Enters the plan, erases and enters the result. `before` is the fingerprint of the calls."""
    after = before
    files = {erasure.name: erasure.summary for erasure in erasures}
    changes = [erasure for erasure in erasures if erasure.changes]
    for erasure in changes:
        if places.data is not None and erasure.path == places.data / CALLS and erasure.new is not None:
            after = file_fingerprint(erasure.new, progress)
    cases_before = now - places.rules.of(CASES).ceiling
    due = _cases_due(places.store, cases_before)
    facts: Retained = {"rules": places.rules.version, "now": now, "calls_before": before, "calls_after": after}
    intent = None
    if changes or due.get("cases") or due.get("clearances"):
        plan = {"files": files, "paths": {erasure.name: str(erasure.path.resolve()) for erasure in changes}}
        if places.store is not None:
            plan[CASES] = {**due, "before": cases_before}
        intent = log.append(KIND, {"stage": INTENT, **facts, **plan})
        carry_out(changes)
    for erasure in erasures:
        files[erasure.name] = {**erasure.summary, "past_their_time": erasure.count_left()}
    if places.store is not None:
        from . import case_store

        files[CASES] = case_store.erase_expired(places.store, cases_before, due["waiting"])
    report: Retained = {**facts, "intent": intent, "files": files, "erased": erased(files), "left": left(files)}
    return {**report, "entry": log.append(KIND, {"stage": RESULT, **report})}


def erased(files: Mapping[str, Expired]) -> int:
    """Returns the erased rows over all files."""
    return sum(summary.get("erased", 0) for summary in files.values())


def left(files: Mapping[str, Expired]) -> int:
    """Returns the expired rows that remain, over all files."""
    return sum(summary.get("past_their_time", 0) for summary in files.values())


def _plan(places: Places, now: int, step_progress: Mapping[str, Progress]) -> Iterator[Erasure[Expired]]:
    rules = places.rules
    if places.data is not None:
        yield from tables.plan_expiry(places.data, rules, now, step_progress["tables"])
    for state in places.states:
        yield from service_state.plan_expiry(state, rules, now)
    for path, file_progress in by_size(step_progress["verdicts"], places.verdicts).items():
        yield tables.plan_verdicts(path, rules, now, file_progress)
    for folder in places.registers:
        yield from register_folders.plan_expiry(folder, rules, now)


def _finish(log: SignedLog, index: int, intent: Payload, store: str | None) -> int:
    """Enters what an interrupted run has erased; returns the index of the entry."""
    if CASES in intent and store is None:
        raise ValueError(f"entry {index} of the audit log: the interrupted run included a case store; expected --store")
    files: dict[str, Expired] = {}
    for name, path in intent["paths"].items():
        summary: Expired = intent["files"][name]
        outcome = _outcome(Path(path), summary)
        files[name] = {**summary, "outcome": outcome, "erased": summary.get("erased", 0) if outcome == ERASED else 0}
    if CASES in intent:
        planned, remaining = intent[CASES], _cases_due(store, intent[CASES]["before"])
        done = not remaining["cases"] and not remaining["clearances"]
        files[CASES] = {"outcome": ERASED if done else UNCHANGED, "erased": planned["cases"] if done else 0}
    calls = files.get(CALLS, {}).get("outcome", UNCHANGED)
    states = {"calls_before": intent["calls_before"], "calls_after": intent["calls_before"]}
    if calls != UNCHANGED:
        states["calls_after"] = intent["calls_after"] if calls == ERASED else ""
    result = {"stage": RESULT, "intent": index, "interrupted": True, "rules": intent["rules"], "now": intent["now"]}
    return log.append(KIND, {**result, **states, "files": files, "erased": erased(files)})


def _outcome(path: Path, summary: Expired) -> str:
    digest = sha256(path) if path.exists() else ""
    if digest == summary["sha256_after"]:
        return ERASED
    if digest == summary["sha256_before"]:
        return UNCHANGED
    return CHANGED_SINCE if digest else MISSING


def _cases_due(url: str | None, moment: int) -> dict[str, int]:
    if url is None:
        return {}
    from . import case_store

    return case_store.due(url, moment)
