"""Turns an operator's own files of call records and complaints into the folder that a training reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.atomic import check_distinct, check_present
from callsieve.features.files.progress import silent, steps
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.keyed_file import write_keyed
from callsieve.features.reading.call_files import write_table
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.custody.purposes import copy_declaration, require_purpose

from .complaint_files import layout_named, read_complaint_file
from .ingest import arrow_table

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

TRAINING = "training"


def key_own_files(
    calls: Path,
    layout: str,
    complaints: Path,
    complaint_layout: str,
    key: Key,
    folder: Path,
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes `calls.parquet` and `complaints.parquet` of own files into a folder, with numbers as tokens of one key.

    The declaration of the calls, if any, also applies to the folder.

    Args:
        calls, layout: file of call records, and the name or TOML file of its layout.
        complaints, complaint_layout: file of complaints, and the name or TOML file of its layout.
        folder: new folder.
    Returns: number of quarantined rows of each file, by reason; JSON-able.
    Raises:
        ValueError: in one line, if a file is missing or invalid, all of its rows are invalid, or the declaration of its
            folder does not permit a training.
    """
    check_distinct(calls, complaints)
    check_present(calls, complaints)
    for path in (calls, complaints):
        require_purpose(path, TRAINING)
    read_layout(layout)
    layout_named(complaint_layout)
    folder.mkdir(parents=True)
    step = steps(progress, {"calls": 9, "complaints": 1})
    # The shorter file first: a fault in it is reported before the calls are read.
    read = read_complaint_file(complaints, complaint_layout, key, progress=step["complaints"])
    write_table(arrow_table(read.table), folder / "complaints.parquet")
    quarantined = write_keyed(
        calls, layout, folder / "calls.parquet", key=key, quarantine=None, strict=False, progress=step["calls"]
    )
    copy_declaration(calls.parent, folder)
    return {"calls": quarantined, "complaints": dict(read.quarantined)}
