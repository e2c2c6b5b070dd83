"""Deletion of a person in every place, with an answer that lists what remains, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypedDict

from callsieve.features.files.progress import Progress, by_size, silent
from callsieve.serving.custody.retention import Retention
from callsieve.serving.live.forgetting import forget
from callsieve.serving.live.verdict_log import VERDICTS
from callsieve.training.data.exclusions import FILE as EXCLUSIONS
from callsieve.training.oversight.log.audit_log import SignedLog, has_log

from . import register_folders, service_state, tables
from .places import Person, Places
from .rewriting import Deleted
from .states import TrainedModel, calls_fingerprint, models_trained_on

EVIDENCE = "evidence of verdicts, kept for appeals"
WAITING = "evidence of a verdict whose appeal is open"
CLEARED = "a reviewer has cleared this caller"


class Remaining(TypedDict):
    """A place where the person's token remains; `until` is the UTC day on which its retention ends, None if unknown."""

    where: str
    rows: int
    why: str
    until: str | None


class Deletion(TypedDict, total=False):
    """The answer to a deletion; it does not name the person.

    `files` has the summaries by file, and of the store as `cases`. `models` learnt from the rows. `scorers` has the
    seconds that each took to forget. `stays` lists what remains. `entry` is the index of the log's entry.
    """

    why: str
    rules: str
    files: dict[str, Deleted]
    models: list[TrainedModel]
    scorers: dict[str, float]
    stays: list[Remaining]
    entry: int


def delete_everywhere(
    person: Person, places: Places, why: str, log: SignedLog, now: int, progress: Progress = silent
) -> Deletion:
    """Deletes a person's rows in all places and enters the summaries in the log, without the person.

    Args:
        places: `data` is required.
        why: reason of the deletion, for the log.
        now: Unix ms.
    """
    data, token, rules, step_progress = places.data, person.token, places.rules, places.steps(progress)
    if data is None:
        raise ValueError("deletion: expected a folder of calls, which then excludes the number from trainings")
    before = calls_fingerprint(data, step_progress["before"])
    models = models_trained_on(log.folder, str(data), before) if has_log(log.folder) else []
    files = tables.delete(data, token, rules, now, step_progress["tables"])
    cleared: dict[str, int] = {}
    if places.store is not None:
        from . import case_store

        files["cases"], cleared = case_store.delete(places.store, token, rules, now)
    for path, file_progress in by_size(step_progress["verdicts"], places.verdicts).items():
        files[str(path)] = tables.delete_verdicts(path, person, rules, now, file_progress)
    for folder in places.registers:
        deleted = register_folders.delete(folder, token, rules, now)
        files |= {f"{folder.name}/{name}": summary for name, summary in deleted.items()}
    scorers = {state.name: round(forget(state, token), 1) for state in places.states}
    for state in places.states:
        overwritten = service_state.delete_evidence(state, token, rules, now)
        files |= {f"{state.name}/{name}": summary for name, summary in overwritten.items()}
    stays = remaining_rows(files, cleared | dict(service_state.clearances(places.states, token)), rules, now)
    report: Deletion = {
        "why": why, "rules": rules.version, "files": files, "models": models, "scorers": scorers, "stays": stays,
    }  # fmt: skip
    fingerprints = {"calls_before": before, "calls_after": calls_fingerprint(data, step_progress["after"])}
    return {**report, "entry": log.append("deletion", {**report, **fingerprints})}


def remaining_rows(
    files: Mapping[str, Deleted], cleared: Mapping[str, int], rules: Retention, now: int
) -> list[Remaining]:
    """Returns each place where the person's token remains. A deletion after the day of a row removes it, too.

    Args:
        files: summaries of the deletion by file; `newest` is the last call of the remaining evidence.
        cleared: expiry by place, from `service_state.clearances`.
    """
    forever = now + rules.of("exclusions").ceiling
    rows = [_remaining(EXCLUSIONS, 1, "so that later trainings exclude this number", forever)]
    for name, summary in files.items():
        rows_left, newest = summary.get("kept"), summary.get("newest")
        if rows_left and newest is not None:
            end = newest + rules.of(VERDICTS).floor
            rows.append(_remaining(name, rows_left, *((EVIDENCE, end) if end > now else (WAITING, None))))
        elif rows_left:
            rows.append(_remaining(name, rows_left, "required by the retention rules", None))
    return rows + [_remaining(name, 1, CLEARED, until) for name, until in cleared.items()]


def _remaining(where: str, rows: int, why: str, until: int | None) -> Remaining:
    day = None if until is None else datetime.fromtimestamp(until / 1000, UTC).date().isoformat()
    return {"where": where, "rows": rows, "why": why, "until": day}
