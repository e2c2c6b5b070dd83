"""Deletion of a person in a folder of calls, the case store and a scorer's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.progress import by_size, silent, size_of, steps
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.serving.bundle.signing import read_signing_key
from callsieve.serving.custody.retention import Retention, read_retention
from callsieve.serving.live.forgetting import forget
from callsieve.training.oversight.log.audit_log import append, has_log

from . import subject, verdict_files
from .remaining import clearances, delete_from_evidence, remaining_rows
from .states import calls_fingerprint

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


def delete_everywhere(
    data: Path,
    token: str,
    why: str,
    log: Path,
    signing_key: Path,
    store: str | None,
    states: Sequence[Path],
    rules: Path | None,
    now: int,
    verdicts: Sequence[Path] = (),
    registers: Sequence[Path] = (),
    callees: CalleeCipher | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Deletes a person's rows and enters the summaries in the log, without the person.

    Args:
        states: folders of live state of scorers, running or not.
        verdicts, registers: files of verdicts, and folders of registers as a scorer reads them.
        callees: cipher of the called numbers in the verdicts; required if their key still exists.
    Returns:
        `files`: the summaries of `subject.delete_rows` by file, and of the store as `cases`. `models`: from
        `subject.models_trained_on`. `scorers`: seconds that each took to forget. `stays`: from
        `remaining.remaining_rows`. `entry`: index of the log's entry.
    """
    key, retention, step_progress = (
        read_signing_key(signing_key),
        read_retention(rules),
        place_steps(progress, data, verdicts),
    )
    before = calls_fingerprint(data, step_progress["before"])
    models = subject.models_trained_on(log, str(data), before) if has_log(log) else []
    files = subject.delete_rows(data, token, retention, now, step_progress["tables"])
    cleared: dict[str, int] = {}
    if store is not None:
        files["cases"], cleared = _erase_subject(store, token, retention, now)
    for path, file_progress in by_size(step_progress["verdicts"], verdicts).items():
        files[str(path)] = verdict_files.delete_from_verdicts(path, token, callees, retention, now, file_progress)
    for folder in registers:
        deleted = verdict_files.delete_from_registers(folder, token, retention, now)
        files |= {f"{folder.name}/{name}": summary for name, summary in deleted.items()}
    scorers = {state.name: round(forget(state, token), 1) for state in states}
    for state in states:
        overwritten = delete_from_evidence(state, token, retention, now)
        files |= {f"{state.name}/{name}": summary for name, summary in overwritten.items()}
    stays = remaining_rows(files, cleared | dict(clearances(states, token)), retention, now)
    report = {
        "why": why,
        "rules": retention.version,
        "files": files,
        "models": models,
        "scorers": scorers,
        "stays": stays,
    }
    fingerprints = {"calls_before": before, "calls_after": calls_fingerprint(data, step_progress["after"])}
    return report | {"entry": append(log, "deletion", report | fingerprints, key)}


def place_steps(progress: Progress, data: Path | None, verdicts: Sequence[Path]) -> dict[str, Progress]:
    """Returns a progress callback for each slow step: the fingerprint before and after, and the files to rewrite."""
    calls, tables = (0, 0) if data is None else (size_of(data / "calls.parquet"), size_of(data))
    sizes = {"before": calls, "tables": tables, "verdicts": sum(map(size_of, verdicts)), "after": calls}
    return steps(progress, sizes)


def _erase_subject(url: str, token: str, retention: Retention, now: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Deletes a person from the case store; returns the summary, and the last expiry of the clearances that remain."""
    from callsieve.serving.cases.erasure import erase_subject
    from callsieve.serving.cases.store import CaseStore

    store = CaseStore(url)
    try:
        counts = erase_subject(store, token, now - retention.of("cases").floor)
        until = [clearance["until"] for clearance in store.clearances() if clearance["caller"] == token]
        return counts | {"rows": counts["cases"] + counts["kept"]}, {"unlistings": max(until)} if until else {}
    finally:
        store.close()
