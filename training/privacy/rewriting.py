"""Removes or changes rows of a Parquet file of any size: batch by batch, and atomically.

The new file replaces the old one once it is on the disk. The old data stay on the medium until their blocks are
reused; only an encrypted disk with a key of its own protects them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import silent
from callsieve.features.intake.text_columns import drop_unused_words

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Rows and SHA-256 of a file, before and after."""

    rows_before: int
    rows_after: int
    sha256_before: str
    sha256_after: str


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], progress: Progress = silent) -> Rewritten:
    """Applies `change` to every batch of a file; a file without changed rows is not written."""
    before, part = sha256(path), path.with_name(f".{path.name}.new")
    rows, rows_after, unchanged = 0, 0, True
    try:
        with (
            pq.ParquetFile(path, pre_buffer=False) as file,
            pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                changed = change(table)
                unchanged = unchanged and changed.num_rows == table.num_rows and changed.equals(table)
                rows, rows_after = rows + table.num_rows, rows_after + changed.num_rows
                writer.write_table(drop_unused_words(changed.cast(file.schema_arrow)))
                progress(path.name, rows / file.metadata.num_rows)
        if unchanged:
            return Rewritten(rows, rows, before, before)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Rewritten(rows, rows_after, before, sha256(path))
