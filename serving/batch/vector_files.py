"""Writes the feature vectors of a file of calls, in shards, for training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from callsieve.features.catalogue import NAMES
from callsieve.features.catalogue.lite import LITE
from callsieve.features.files.atomic import locked_folder
from callsieve.features.files.dates import now_ms
from callsieve.features.files.progress import Progress
from callsieve.features.offline.shards import count_rows, write_shards
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.custody.expiry import count_expired, older_than
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.custody.retention import read_retention

from .call_files import CallFile, intake_inputs, key_file, row_numbers
from .verdict_file import IDENTITY, OWN, ROW, CopiedColumns, check_copied

TRAINING = "training"  # the purpose that vectors are declared for


def write_vectors(
    file: CallFile,
    out: Path,
    *,
    names: tuple[str, ...] = NAMES,
    keep: Sequence[str] = (),
    memory: int | None = None,
    threads: int = 0,
    progress: Progress,
) -> dict[str, Any]:
    """Writes the vectors of a file of calls into a folder, in shards; resumes an unfinished run in that folder.

    Column `row` is the number of the call in the file, as in the verdicts of `callsieve score`: the line of a text
    file, or the row of a Parquet file from 1.

    `memory`: maximum of bytes to use; None for the default of `write_shards`.
    Returns: counts, the purpose and the folder; JSON-able.
    """
    file.check()
    check_copied(file, keep)
    declaration = require_purpose(file.path, TRAINING)
    calls, quarantined = file.path, 0
    if not file.keyed:
        with locked_folder(out):
            calls, counts = key_file(
                file, out, inputs=intake_inputs(file), progress=lambda what, part: progress(what, 0.3 * part)
            )
        quarantined = sum(counts.values())
    elif declaration.limits and (expired := count_expired(file.path, read_retention().of("calls"), now_ms())):
        raise ValueError(f"{file.path}: {expired:,} calls are {older_than('calls', read_retention())}")
    figures = write_shards(
        calls,
        out,
        features=names,
        memory=memory,
        threads=threads or None,
        row_columns=partial(_rows_and_copies, file, calls, keep, {*IDENTITY, *names}),
        identity={"--keep": list(keep)},
        progress=progress,
    )
    return {**figures, "quarantined": quarantined, "purpose": declaration.in_record(TRAINING), "out": str(out)}


def _rows_and_copies(file: CallFile, calls: Path, keep: Sequence[str], taken: set[str]) -> pa.Table:
    numbers = np.arange(1, count_rows(calls) + 1) if file.keyed else row_numbers(calls)
    layout = None if file.keyed else read_layout(file.layout)
    table = CopiedColumns(file.path, layout, keep).joined(pa.table({ROW: numbers}), None)
    return table.rename_columns([OWN + name if name in taken else name for name in table.column_names])


def feature_names(text: str | None) -> tuple[str, ...]:
    """Returns the feature names of the option `--features`.

    >>> feature_names("call_hour, call_step")
    ('call_hour', 'call_step')
    """
    if text is None:
        return NAMES
    if text == "lite":
        return LITE
    # A list of names may be longer than a path can be, so a text with a comma is never looked up as a file.
    is_file = "," not in text and Path(text).is_file()
    words = Path(text).read_text(encoding="utf-8").split() if is_file else text.split(",")
    return tuple(dict.fromkeys(word.strip() for word in words))
