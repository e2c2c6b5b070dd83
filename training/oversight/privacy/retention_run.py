"""A retention run: plans every erasure, enters it in the audit log, carries it out, and enters the result.

A killed run leaves one of two states. Without an entry in the log, no file has changed. With an entry of the stage
"intent", each file is as it was or as planned, and the entry has the hashes of both. The next run with the same log
enters the result of the interrupted run and then erases the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.atomic import check_present, sha256
from callsieve.features.files.progress import by_size, silent
from callsieve.serving.bundle.signing import read_signing_key
from callsieve.serving.custody.retention import Retention, read_retention
from callsieve.training.oversight.log.audit_log import append, has_log, locked, payloads

from .deletion import place_steps
from .erasure import ERASED, NOTHING_EXPIRED, Erasure
from .expiry import plan_journals, plan_tables
from .rewriting import sync
from .states import CALLS, calls_fingerprint, file_fingerprint
from .verdict_files import plan_registers, plan_verdicts

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

KIND, INTENT, RESULT, LOCK = "retention", "intent", "result", "erasing"
CASES = "cases"  # name of the case store in the report
UNCHANGED, CHANGED_SINCE, MISSING = "unchanged", "changed since", "missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where rows expire.

    Attributes:
        data: folder of keyed calls.
        state: folder of a scorer's live state.
        store: URL of a case store.
        verdicts: files of verdicts.
        registers: folders of registers as a scorer reads them.
    """

    data: Path | None = None
    state: Path | None = None
    store: str | None = None
    verdicts: Sequence[Path] = ()
    registers: Sequence[Path] = ()


def erase_expired(
    log: Path, signing_key: Path, places: Places, rules: Path | None, now: int, progress: Progress = silent
) -> dict[str, Any]:
    """Erases expired rows; enters the plan in the log before the first change, and the result afterwards.

    Args:
        log: folder of the audit log; created if it does not exist.
        rules: file of retention rules; by default the shipped rules.
        now: Unix ms.
    Returns:
        `files`: by file, and for the store as `cases`, the outcome in words, rows and hashes before and after, and the
        expired rows that remain. Totals `erased` and `left`. `rules`: their version. `finished`: entries with the
        results of earlier runs that were interrupted. `intent` and `entry`: entries of the plan and of the result; no
        plan is entered if nothing has expired.
    Raises:
        ValueError: if a place is missing, a table has no rule, or another process changes a file meanwhile; or if an
            interrupted run included a case store and `places` has none.
    """
    key, retention = read_signing_key(signing_key), read_retention(rules)
    check_present(places.data, places.state, *places.verdicts, *places.registers)
    log.mkdir(parents=True, exist_ok=True)
    with locked(log, LOCK):
        finished = [_finish(log, index, intent, places.store, key) for index, intent in open_intents(log)]
        planned: list[Erasure] = []
        try:
            return {"finished": finished} | _run(log, key, places, retention, now, planned, progress)
        finally:
            for erasure in planned:
                erasure.discard()


def open_intents(log: Path) -> list[tuple[int, dict[str, Any]]]:
    """Returns the index and the payload of each plan in a log whose result is not entered."""
    entries = list(payloads(log, KIND)) if has_log(log) else []
    closed = {payload.get("intent") for _, payload in entries}
    return [(e.index, payload) for e, payload in entries if payload.get("stage") == INTENT and e.index not in closed]


def _run(
    log: Path,
    key: Ed25519PrivateKey,
    places: Places,
    retention: Retention,
    now: int,
    planned: list[Erasure],
    progress: Progress,
) -> dict[str, Any]:
    """Plans, enters, erases and enters the result. Adds to `planned` all erasures whose new versions may remain."""
    step_progress = place_steps(progress, places.data, places.verdicts)
    before = after = calls_fingerprint(places.data, step_progress["before"])
    for erasure in _plan(places, retention, now, step_progress):
        taken = any(erasure.name == other.name for other in planned)  # folders of registers can have the same name
        planned.append(replace(erasure, name=str(erasure.path)) if taken else erasure)
    files = {erasure.name: erasure.summary for erasure in planned}
    changes = [erasure for erasure in planned if erasure.changes]
    for erasure in changes:
        if places.data is not None and erasure.path == places.data / CALLS and erasure.new is not None:
            after = file_fingerprint(erasure.new, step_progress["after"])
    cases_before = now - retention.of(CASES).ceiling
    due = _cases_due(places.store, cases_before)
    facts = {"rules": retention.version, "now": now, "calls_before": before, "calls_after": after}
    intent = None
    if changes or due.get("cases") or due.get("unlistings"):
        plan = {"files": files, "paths": {erasure.name: str(erasure.path.resolve()) for erasure in changes}}
        if places.store is not None:
            plan[CASES] = due | {"before": cases_before}
        intent = append(log, KIND, {"stage": INTENT} | facts | plan, key)
        for erasure in changes:
            erasure.check_unchanged()
        for erasure in changes:
            erasure.carry_out()
        for folder in {erasure.path.parent for erasure in changes}:
            sync(folder)
    results = {erasure.name: erasure.summary | {"past_their_time": erasure.count_left()} for erasure in planned}
    if places.store is not None:
        results[CASES] = _erase_cases(places.store, cases_before, due)
    progress("erased", 1.0)
    report = {"intent": intent, "files": results, **totals(results)}
    return facts | report | {"entry": append(log, KIND, {"stage": RESULT} | facts | report, key)}


def totals(files: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Returns the erased rows and the expired rows that remain, over all files."""
    return {
        name: sum(summary.get(key, 0) for summary in files.values())
        for name, key in (("erased", "erased"), ("left", "past_their_time"))
    }


def _plan(places: Places, retention: Retention, now: int, step_progress: Mapping[str, Progress]) -> Iterator[Erasure]:
    if places.data is not None:
        yield from plan_tables(places.data, retention, now, step_progress["tables"])
    if places.state is not None:
        yield from plan_journals(places.state, retention, now)
    for path, file_progress in by_size(step_progress["verdicts"], places.verdicts).items():
        yield plan_verdicts(path, retention, now, file_progress)
    for folder in places.registers:
        yield from plan_registers(folder, retention, now)


def _finish(log: Path, index: int, intent: Mapping[str, Any], store: str | None, key: Ed25519PrivateKey) -> int:
    """Enters what an interrupted run has erased; returns the index of the entry."""
    if CASES in intent and store is None:
        raise ValueError(f"entry {index} of the audit log: the interrupted run included a case store; expected --store")
    files: dict[str, dict[str, Any]] = {}
    for name, path in intent["paths"].items():
        summary = intent["files"][name]
        outcome = _outcome(Path(path), summary)
        files[name] = summary | {"outcome": outcome, "erased": summary.get("erased", 0) if outcome == ERASED else 0}
    if CASES in intent:
        due, left = intent[CASES], _cases_due(store, intent[CASES]["before"])
        done = not left["cases"] and not left["unlistings"]
        files[CASES] = {"outcome": ERASED if done else UNCHANGED, "erased": due["cases"] if done else 0}
    calls = files.get(CALLS, {}).get("outcome", UNCHANGED)
    states = {"calls_before": intent["calls_before"], "calls_after": intent["calls_before"]}
    if calls != UNCHANGED:
        states["calls_after"] = intent["calls_after"] if calls == ERASED else ""
    result = {"stage": RESULT, "intent": index, "interrupted": True, "rules": intent["rules"], "now": intent["now"]}
    return append(log, KIND, result | states | {"files": files, "erased": totals(files)["erased"]}, key)


def _outcome(path: Path, summary: Mapping[str, Any]) -> str:
    """Returns in words what became of a file whose erasure was interrupted."""
    digest = sha256(path) if path.exists() else ""
    if digest == summary["sha256_after"]:
        return ERASED
    if digest == summary["sha256_before"]:
        return UNCHANGED
    return CHANGED_SINCE if digest else MISSING


def _cases_due(url: str | None, moment: int) -> dict[str, int]:
    """Returns the rows of a case store that expired before a moment (Unix ms); empty without a store."""
    if url is None:
        return {}
    from callsieve.serving.cases.erasure import count_due
    from callsieve.serving.cases.store import CaseStore

    with closing(CaseStore(url)) as store:
        return count_due(store, moment)


def _erase_cases(url: str, moment: int, due: Mapping[str, int]) -> dict[str, Any]:
    from callsieve.serving.cases.erasure import erase_before
    from callsieve.serving.cases.store import CaseStore

    with closing(CaseStore(url)) as store:
        counts = erase_before(store, moment)
    outcome = ERASED if counts["cases"] or counts["unlistings"] else NOTHING_EXPIRED
    # Cases with an open appeal wait for a decision; the summary counts them.
    waiting = due["waiting"]
    return counts | {"outcome": outcome, "erased": counts["cases"], "waiting": waiting, "past_their_time": 0}
