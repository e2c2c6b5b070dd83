"""The desk of complaints: whose trade a complaint is about, what became of it, and by when (`complaint_desk.toml`).

A complaint is received, dispatched and answered, in this order. The steps stand in `complaint_status.parquet` beside
`complaints.parquet`, with tokens of the number and the reporter: searches, deletions, rekeying and retention treat it
like any other table. A regulator sees the complaints about its own trade; the person who complained gets the status.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.dates import now_ms
from callsieve.features.files.decode import Record, toml_as
from callsieve.features.reading.call_files import write_table
from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import require_purpose
from callsieve.training.language import day, language
from callsieve.training.oversight.log.folder_log import COMPLAINT, STEPS_FILE, PersonalLog, check_note

from .complaint_counts import class_of, regulator_of
from .parties import regulators
from .working_days import WorkingDays, read_working_days

RECEIVED, DISPATCHED, ANSWERED = "received", "dispatched", "answered"
STEPS = (RECEIVED, DISPATCHED, ANSWERED)
FILE, TABLE = STEPS_FILE, "complaint_status"
IDENTITY = ("reporter", "number", "at", "known_at")
_MOMENT = pa.timestamp("ms", "UTC")
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("complaint", "reporter", "number"), pa.string()),
        **dict.fromkeys(("at", "known_at"), _MOMENT),
        "status": pa.string(),
        "entered": _MOMENT,
        "note": pa.string(),
    }.items()
)


class DeskRules(Record, frozen=True):
    """The reviewed clocks of complaints, in working days, and the notices by status and language."""

    version: str
    dispatch_days: int
    answer_days: int
    notices: dict[str, dict[str, str]]


class Complaint(TypedDict):
    """A complaint with its status.

    `complaint` is its id (16 letters), `number` a token; `at` and `known_at` are local days. `dispatch` and `answer`
    are deadlines: None before their clock runs, or after the step. `work_order`, `area` and `carrier` are as the office
    that sent the file wrote them; None if it did not.
    """

    complaint: str
    number: str
    at: str
    known_at: str
    category: str | None
    plan_class: str
    regulator: str
    status: str
    dispatch: str | None
    answer: str | None
    overdue: bool
    note: str
    work_order: str | None
    area: str | None
    carrier: str | None


Row = Mapping[str, Any]  # of a table
Identity = tuple[object, ...]  # values of IDENTITY


@cache
def desk_rules() -> DeskRules:
    """Returns the reviewed clocks and notices of complaints."""
    return toml_as(DeskRules, files(__package__).joinpath("complaint_desk.toml"))


def complaints_of(
    folder: Path,
    *,
    regulator: str | None = None,
    reporter: str | None = None,
    today: date | None = None,
    calendar: WorkingDays | None = None,
) -> list[Complaint]:
    """Returns complaints with their status, the ones with the earliest deadline first.

    `today`: the day on which a clock counts as overdue; by default today in China. `calendar`: the working days; by
    default those of the shipped notices.
    """
    if regulator is not None and regulator not in regulators().regulators:
        raise ValueError(f"--regulator: expected one of {', '.join(sorted(regulators().regulators))}")
    frame = _complaints(folder)
    steps = _last_steps(folder)
    today = today or _today()
    calendar = calendar or read_working_days()
    rows = [
        _row(complaint, steps.get(tuple(complaint[name] for name in IDENTITY)), today, calendar)
        for complaint in frame
        if reporter in (None, complaint["reporter"])
    ]
    mine = [row for row in rows if regulator in (None, row["regulator"])]
    return sorted(mine, key=lambda row: (row["status"] == ANSWERED, row["dispatch"] or row["answer"] or "", row["at"]))


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a complaint: its id, the new status, and a note, which the person who complained reads."""

    complaint: str
    status: str
    note: str = ""


def enter(
    folder: Path, step: Step, log: PersonalLog, at: int | None = None, calendar: WorkingDays | None = None
) -> Complaint:
    """Enters the next step of a complaint, first in the audit log; returns the complaint as `complaints_of` does.

    `at`: when the step was done, Unix ms; by default now.
    """
    complaint, status, note = step.complaint, step.status, step.note
    check_note(note, "--note")
    matches = [row for row in complaints_of(folder, calendar=calendar) if row["complaint"] == complaint]
    if not matches:
        raise ValueError(f"{complaint}: no such complaint in {folder}; see callsieve govern complaints list")
    expected = STEPS[min(STEPS.index(matches[0]["status"]) + 1, len(STEPS) - 1)]
    if status != expected or matches[0]["status"] == ANSWERED:
        raise ValueError(f"{complaint}: is {matches[0]['status']}; expected the step {expected}, got {status}")
    steps = _last_steps(folder)
    raw = next(row for row in _complaints(folder) if _id(tuple(row[name] for name in IDENTITY), steps) == complaint)
    values = {**asdict(step), "entered": now_ms() if at is None else at}
    new = pa.Table.from_pylist([{name: raw[name] for name in IDENTITY} | values], schema=_SCHEMA)
    # Before the step is written: it may start a clock that reaches a year that the calendar lacks.
    entered = _row(raw, new.to_pylist()[0], _today(), calendar or read_working_days())
    log.append(COMPLAINT, values)
    path = folder / FILE
    write_table(pa.concat_tables([pq.read_table(path, schema=_SCHEMA), new]) if path.exists() else new, path)
    return entered


def notice(row: Complaint, lang: str) -> str:
    """Returns what the person who complained is told, in "en" or "zh"."""
    text = desk_rules().notices[row["status"]][lang]
    names = regulators().regulators.get(row["regulator"], {"en": "the operator", "zh": "运营商"})
    with language(lang):
        dates = {"at": row["at"], "dispatch": row["dispatch"], "answer": row["answer"]}
        days = {name: day(date.fromisoformat(text)) for name, text in dates.items() if text}
    return str(text.format(**{**row, **days, "regulator": names[lang]}))


def _complaints(folder: Path) -> list[Row]:
    unexpired = expiry_filter(require_purpose(folder, "statistics"), folder)
    path = folder / "complaints.parquet"
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected the output of callsieve ingest complaints")
    table = unexpired(pq.read_table(path), "complaints")
    return list(table.drop_columns([n for n in table.column_names if n in ("channel", "call")]).to_pylist())


def _last_steps(folder: Path) -> dict[Identity, Row]:
    path = folder / FILE
    rows = pq.read_table(path, schema=_SCHEMA).to_pylist() if path.exists() else []
    return {tuple(row[name] for name in IDENTITY): row for row in rows}


def _id(identity: Identity, steps: Mapping[Identity, Row]) -> str:
    if identity in steps:
        return str(steps[identity]["complaint"])
    digest = hashlib.sha256("\x1f".join(map(str, identity)).encode()).hexdigest()[:16]
    return digest.translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))


def _row(complaint: Row, step: Row | None, today: date, calendar: WorkingDays) -> Complaint:
    identity = tuple(complaint[name] for name in IDENTITY)
    status = RECEIVED if step is None else step["status"]
    known, category = _local(complaint["known_at"]), complaint.get("category")
    rules = desk_rules()
    dispatch = calendar.due(known, rules.dispatch_days) if status == RECEIVED else None
    answer = calendar.due(_local(step["entered"]), rules.answer_days) if step and status == DISPATCHED else None
    clock = dispatch or answer
    return {
        "complaint": _id(identity, {} if step is None else {identity: step}),
        "number": complaint["number"],
        "at": _local(complaint["at"]).isoformat(),
        "known_at": known.isoformat(),
        "category": category,
        "plan_class": class_of(category, complaint.get("mode")),
        "regulator": regulator_of(category),
        "status": status,
        "dispatch": dispatch.isoformat() if dispatch else None,
        "answer": answer.isoformat() if answer else None,
        "overdue": clock is not None and today > clock,
        "note": "" if step is None else step["note"],
        "work_order": complaint.get("work_order"),
        "area": complaint.get("area"),
        "carrier": complaint.get("carrier"),
    }


def _today() -> date:
    today: date = pd.Timestamp.now(tz=DEFAULT_ZONE).date()
    return today


def _local(moment: Any) -> date:
    return pd.Timestamp(moment).tz_convert(DEFAULT_ZONE).date()
