"""Compares a folder of data with the audit log in it: its declaration, and the steps of its complaints."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from callsieve.serving.custody import purposes
from callsieve.training.language import gettext
from callsieve.training.oversight.log.folder_log import COMPLAINT, STEPS_FILE

from .content import Content, Fault, entry_place

_STEP = ("complaint", "status", "note", "entered")


def declaration_faults(folder: Path, content: Content) -> list[Fault]:
    """Returns a fault if the declaration of a folder is not the newest one in its log; none if the log has none."""
    if not content.declarations:
        return []
    index, newest = max(content.declarations.items())
    try:
        present = purposes.declared_content(folder)
    except ValueError:
        present = {}
    if present == newest["declaration"]:
        return []
    entry = entry_place(index)
    what = gettext("differs from the declaration in %(entry)s: it was changed without an entry", entry=entry)
    return [Fault(purposes.FILE, what)]


def step_faults(folder: Path, content: Content) -> list[Fault]:
    """Returns a fault for each step of a complaint without an entry that has the same complaint, note and moment.

    As many steps may be without an entry as entries of steps were erased.
    """
    path = folder / STEPS_FILE
    rows = pq.read_table(path, columns=list(_STEP)).to_pylist() if path.is_file() else []
    entered = [tuple(payload[name] for name in _STEP) for payload in content.steps.values()]
    unknown = [row for row in rows if (*[row[name] for name in _STEP[:3]], _ms(row)) not in entered]
    erased = sum(entry.kind == COMPLAINT and entry.index in content.erased for entry in content.entries)
    if len(unknown) <= erased:
        return []
    what = gettext("has no entry: it was added or changed")
    return [Fault(f"{STEPS_FILE}, {row['complaint']}, {row['status']}", what) for row in unknown]


def _ms(row: dict[str, Any]) -> int:
    """Returns the moment of a step in Unix ms."""
    moment: datetime = row["entered"]
    return round(moment.timestamp() * 1000)
