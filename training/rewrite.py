"""Rows taken out of, or changed in, a Parquet file of any size: batch by batch, whole or not at all.

The new file takes the old one's name when it is on the disk. What the old one held stays on the medium until its blocks
are used again; only a disk that is encrypted with a key of its own can promise more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from .steps import silent
from .texts import only_used

if TYPE_CHECKING:
    from .console import Tell

BATCH_ROWS = 1 << 17
ABANDONED = 60.0  # seconds since a writer that is alive has written something
# How files are named until they are whole: by `features/whole.py`, by `rewrite`, and by `serving/files.py`.
_UNFINISHED = ("{}.part", ".{}.new", ".{}." + "[0-9a-f]" * 8)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file before and after: rows, and SHA-256 of its bytes."""

    rows_before: int
    rows_after: int
    sha256_before: str
    sha256_after: str


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], tell: Tell = silent) -> Rewritten:
    """Put every batch of a file through `change`; a file of which no row changes is left as it is."""
    before, part = sha256(path), path.with_name(f".{path.name}.new")
    rows, kept, same = 0, 0, True
    try:
        with (
            pq.ParquetFile(path, pre_buffer=False) as file,
            pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(BATCH_ROWS):
                old = pa.Table.from_batches([batch])
                new = change(old)
                same = same and new.num_rows == old.num_rows and new.equals(old)
                rows, kept = rows + old.num_rows, kept + new.num_rows
                writer.write_table(only_used(new.cast(file.schema_arrow)))
                tell(path.name, rows / file.metadata.num_rows)
        if same:
            return Rewritten(rows, rows, before, before)
        with part.open("rb") as whole:
            os.fsync(whole.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Rewritten(rows, kept, before, sha256(path))


def drop_unfinished(folder: Path, name: str) -> None:
    """Delete what killed writers of some files left in a folder: a person stands there as in the files themselves.

    Args:
        name: of the files, as a pattern.
    """
    for form in _UNFINISHED:
        for part in folder.glob(form.format(name)):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - ABANDONED:
                    part.unlink()


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
