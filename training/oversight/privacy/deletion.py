"""Deletion of a person in every place, with an answer that lists what remains, and why.

Everything is checked and planned first. The plan enters the audit log as an entry of the stage "intent" before any
change, and the result as another entry. An interrupted deletion leaves a plan without a result. Another run for the
same person and folder then deletes the rest; its result counts the rows of both, and names the models of the plan.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import TypedDict

from callsieve.features.files.atomic import check_present, remove_partial_files
from callsieve.features.files.progress import Progress, by_size, silent
from callsieve.serving.custody.retention import Retention
from callsieve.serving.live.forgetting import forget
from callsieve.serving.live.verdict_log import VERDICTS
from callsieve.training.data.exclusions import FILE as EXCLUSIONS
from callsieve.training.oversight.log.audit_log import SignedLog, has_log, locked
from callsieve.training.oversight.log.payload_types import Payload

from . import register_folders, service_state, tables
from .intents import INTENT, LOCK, RESULT, open_intents
from .places import Person, Places
from .rewriting import Deleted, Erasure, carry_out, planned
from .states import CALLS, TrainedModel, calls_fingerprint, file_fingerprint, models_trained_on

KIND = "deletion"
CASES = "cases"  # name of the case store in the answer
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
    seconds that each took to forget. `stays` lists what remains. `resumes` is the plan of an interrupted deletion that
    this one finishes, None without one. `intent` and `entry` are the entries of the plan and of the result.
    """

    why: str
    rules: str
    files: dict[str, Deleted]
    models: list[TrainedModel]
    scorers: dict[str, float]
    stays: list[Remaining]
    resumes: int | None
    intent: int
    entry: int


def delete_everywhere(
    person: Person, places: Places, why: str, log: SignedLog, now: int, progress: Progress = silent
) -> Deletion:
    """Deletes a person's rows in all places, and enters plan and result in the log, without the person.

    `now`: Unix ms.
    """
    data, step_progress = places.data, places.steps(progress)
    if data is None:
        raise ValueError("deletion: expected a folder of calls, which then excludes the number from trainings")
    check_present(data, *places.states, *places.verdicts, *places.registers)
    tables.check_epoch(data / CALLS, person.token)
    log.folder.mkdir(parents=True, exist_ok=True)
    with locked(log.folder, LOCK):
        resumes, interrupted = _interrupted(log.folder, person.token, places)
        current = calls_fingerprint(data, step_progress["before"])
        learnt = models_trained_on(log.folder, str(data), current) if has_log(log.folder) else []
        models = [*interrupted.get("models", ()), *(m for m in learnt if m not in interrupted.get("models", ()))]
        with planned(_plan(person, places, now, step_progress)) as erasures:
            plan = {erasure.name: erasure.summary for erasure in erasures} | _plan_in_place(person.token, places, now)
            new = [erasure.new for erasure in erasures if erasure.path == data / CALLS and erasure.new is not None]
            facts = {
                "why": why, "rules": places.rules.version, "models": models, "resumes": resumes,
                "calls_before": interrupted.get("calls_before", current),
                "calls_after": file_fingerprint(new[0], step_progress["after"]) if new else current,
            }  # fmt: skip
            earlier: Mapping[str, Deleted] = interrupted.get("files", {})
            entered = {"person": _mark(person.token, secrets.token_hex(16)), "places": _names(places), "now": now}
            intent = log.append(KIND, {"stage": INTENT, **facts, **entered, "files": _total(plan, earlier, plan)})
            tables.exclude(data, person.token, now)
            carry_out(erasures)
        _remove_partial_files(places)
        files, cleared, scorers = _delete_in_place(person.token, places, now)
        total = _total({erasure.name: erasure.summary for erasure in erasures} | files, earlier, plan)
        cleared |= dict(service_state.clearances(places.states, person.token))
        stays = remaining_rows(total, cleared, places.rules, now)
        done = {**facts, "intent": intent, "files": total, "scorers": scorers, "stays": stays}
        entry = log.append(KIND, {"stage": RESULT, **done})
    progress("deleted", 1.0)
    return {
        "why": why, "rules": places.rules.version, "files": total, "models": models, "scorers": scorers,
        "stays": stays, "resumes": resumes, "intent": intent, "entry": entry,
    }  # fmt: skip


def _interrupted(log: Path, token: str, places: Places) -> tuple[int | None, Payload]:
    """Returns index and payload of the plan of an interrupted deletion of this person from this folder of calls.

    Returns: None and an empty payload if there is none.
    """
    names = _names(places)
    for index, payload in open_intents(log, KIND):
        mark, before = payload["person"], payload["places"]
        if hmac.compare_digest(mark["hash"], _mark(token, mark["salt"])["hash"]) and before["data"] == names["data"]:
            missing = [f"--{option} {name}" for option, all_names in before.items()
                       for name in all_names if name not in names[option]]  # fmt: skip
            if missing:
                raise ValueError(
                    f"entry {index} of the audit log: the interrupted deletion included more places; "
                    f"expected {', '.join(missing)}"
                )
            return index, payload
    return None, {}


def _mark(token: str, salt: str) -> dict[str, str]:
    return {"salt": salt, "hash": hmac.new(bytes.fromhex(salt), token.encode(), hashlib.sha256).hexdigest()}


def _names(places: Places) -> dict[str, list[str]]:

    def resolved(paths: Sequence[Path]) -> list[str]:
        return [str(path.resolve()) for path in paths]

    return {
        "data": resolved([] if places.data is None else [places.data]),
        "state": resolved(places.states),
        "store": [] if places.store is None else ["URL"],
        "verdicts": resolved(places.verdicts),
        "registers": resolved(places.registers),
    }


def _plan(
    person: Person, places: Places, now: int, step_progress: Mapping[str, Progress]
) -> Iterator[Erasure[Deleted]]:
    rules, token = places.rules, person.token
    if places.data is not None:
        yield from tables.plan_deletion(places.data, token, rules, now, step_progress["tables"])
    for path, file_progress in by_size(step_progress["verdicts"], places.verdicts).items():
        yield tables.plan_verdict_deletion(path, person, rules, now, file_progress)
    for folder in places.registers:
        yield from register_folders.plan_deletion(folder, token, rules, now)


def _plan_in_place(token: str, places: Places, now: int) -> dict[str, Deleted]:
    files: dict[str, Deleted] = {}
    if places.store is not None:
        from . import case_store

        files[CASES] = case_store.plan_deletion(places.store, token, places.rules, now)
    for state in places.states:
        counts = service_state.count_evidence(state, token, places.rules, now)
        files |= {f"{state.name}/{name}": summary for name, summary in counts.items()}
    return files


def _delete_in_place(
    token: str, places: Places, now: int
) -> tuple[dict[str, Deleted], dict[str, int], dict[str, float]]:
    """Erases the rows of `_plan_in_place`; returns their summaries, the clearances of the store, and the scorers."""
    files: dict[str, Deleted] = {}
    cleared: dict[str, int] = {}
    if places.store is not None:
        from . import case_store

        files[CASES], cleared = case_store.delete(places.store, token, places.rules, now)
    scorers = {state.name: round(forget(state, token), 1) for state in places.states}
    for state in places.states:
        overwritten = service_state.delete_evidence(state, token, places.rules, now)
        files |= {f"{state.name}/{name}": summary for name, summary in overwritten.items()}
    return files, cleared, scorers


def _total(
    files: Mapping[str, Deleted], earlier: Mapping[str, Deleted], plan: Mapping[str, Deleted]
) -> dict[str, Deleted]:
    """Adds to the summaries what an interrupted deletion has done: the rows of its plan that are no longer there."""
    total = {**earlier, **files}
    for name in earlier.keys() & files.keys():
        before, now = earlier[name], files[name]
        done = max(0, before["deleted"] - plan.get(name, now)["deleted"])
        total[name] = {**now, "rows": now["rows"] + done, "deleted": now["deleted"] + done}
        if "sha256_before" in before:
            total[name]["sha256_before"] = before["sha256_before"]
        if "cases" in now:
            total[name]["cases"] = now["cases"] + done
    return total


def _remove_partial_files(places: Places) -> None:
    for folder, pattern in ((places.data, "*.parquet"), *((folder, "*.jsonl") for folder in places.registers)):
        if folder is not None:
            remove_partial_files(folder, pattern)
    for path in places.verdicts:
        remove_partial_files(path.parent, escape(path.name))


def remaining_rows(
    files: Mapping[str, Deleted], cleared: Mapping[str, int], rules: Retention, now: int
) -> list[Remaining]:
    """Returns each place where the person's token remains. A deletion after the day of a row removes it, too."""
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
