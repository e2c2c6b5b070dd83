"""Removes or changes rows of a Parquet file of any size: batch by batch, and atomically.

The new version is written beside the file and replaces it once it is on the disk. The old data stay on the medium
until their blocks are reused; only an encrypted disk with a key of its own protects them.
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
    new, done = write_new_version(path, change, progress)
    if new is not None:
        try:
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    return done


def write_new_version(
    path: Path, change: Callable[[pa.Table], pa.Table], progress: Progress = silent
) -> tuple[Path | None, Rewritten]:
    """Writes beside a Parquet file the version that `change` makes of it, batch by batch; the file stays as it is.

    Returns:
        The path of the new version, whose bytes are on the disk, and rows and SHA-256 of both versions. The path is
        None if no row changes.
    """
    before, new, rows, rows_after, unchanged = sha256(path), create_new_version(path), 0, 0, True
    try:
        with (
            pq.ParquetFile(path, pre_buffer=False) as file,
            pq.ParquetWriter(new, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                changed = change(table)
                unchanged = unchanged and changed.num_rows == table.num_rows and changed.equals(table)
                rows, rows_after = rows + table.num_rows, rows_after + changed.num_rows
                writer.write_table(drop_unused_words(changed.cast(file.schema_arrow)))
                progress(path.name, rows / file.metadata.num_rows)
        if unchanged:
            new.unlink()
            return None, Rewritten(rows, rows, before, before)
        sync(new)
        return new, Rewritten(rows, rows_after, before, sha256(new))
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def create_new_version(path: Path) -> Path:
    """Creates the empty file for a new version, with the mode of `path`; replaces one that a killed process left."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(path.stat().st_mode & 0o777)
    return new


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
