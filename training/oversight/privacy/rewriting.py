"""Removes or changes rows of a Parquet file of any size: batch by batch, and atomically.

The new version is written beside the file and replaces it once it is on the disk. The old data stay on the medium
until their blocks are reused; only an encrypted disk with a key of its own protects them. For an erasure that the
audit log must have beforehand, the new version waits beside the file (`Erasure`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypedDict, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.text_columns import drop_unused_words

BATCH_ROWS = 1 << 17
ERASED, NOTHING_EXPIRED, NO_ROWS = "erased", "nothing expired", "no rows"


class Expired(TypedDict, total=False):
    """The effect of a retention run on a file or a case store, as the audit log has it: the outcome and counts.

    A file has hashes before and after; `sha256_after` is "" after its deletion. A case store has rows by kind.
    """

    outcome: str
    rows_before: int
    rows_after: int
    bytes: int
    erased: int
    past_their_time: int
    sha256_before: str
    sha256_after: str
    cases: int
    appeals: int
    decisions: int
    clearances: int
    waiting: int


class Deleted(TypedDict, total=False):
    """The effect of the deletion of a person on a file or a case store: rows of the person, deleted and kept rows.

    A file has hashes before and after, or `newest`, the last call (Unix ms) of the evidence that stays.
    """

    rows: int
    deleted: int
    kept: int
    sha256_before: str
    sha256_after: str
    newest: int | None
    cases: int
    appeals: int
    decisions: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Rows and SHA-256 of a file, before and after."""

    rows_before: int
    rows_after: int
    sha256_before: str
    sha256_after: str

    def expired(self) -> Expired:
        """Returns the summary of an erasure of expired rows, with its outcome in words."""
        erased = self.rows_before - self.rows_after
        outcome = ERASED if erased else NOTHING_EXPIRED if self.rows_before else NO_ROWS
        return {
            "outcome": outcome, "rows_before": self.rows_before, "rows_after": self.rows_after, "erased": erased,
            "sha256_before": self.sha256_before, "sha256_after": self.sha256_after,
        }  # fmt: skip

    def deleted(self, rows: int, retained: int) -> Deleted:
        """Returns the summary of the deletion of a person who had `rows` rows, of which `retained` must stay."""
        return {"rows": rows, "deleted": self.rows_before - self.rows_after, "kept": retained,
                "sha256_before": self.sha256_before, "sha256_after": self.sha256_after}  # fmt: skip


Summary = TypeVar("Summary", Expired, Deleted)


@dataclass(frozen=True, slots=True)
class Erasure(Generic[Summary]):
    """The planned erasure of rows of a file, or of a whole file; the file changes when it is carried out.

    Attributes:
        name: of the file in the report.
        path: the file.
        summary: rows or bytes, and SHA-256 before and after.
        new: the version without these rows, beside the file; None if the file stays or is deleted.
        deletes: whether the whole file is deleted.
        count_left: counts the expired rows of the file.
    """

    name: str
    path: Path
    summary: Summary
    new: Path | None = None
    deletes: bool = False
    count_left: Callable[[], int] = int

    @property
    def changes(self) -> bool:
        """Whether the file changes."""
        return self.deletes or self.new is not None

    def check_unchanged(self) -> None:
        """Raises ValueError if another process has changed the file since the plan."""
        if self.changes and sha256(self.path) != self.summary["sha256_before"]:
            raise ValueError(f"{self.path}: was changed by another process during the erasure; run the command again")

    def carry_out(self) -> None:
        """Replaces or deletes the file."""
        if self.new is not None:
            self.new.replace(self.path)
        elif self.deletes:
            self.path.unlink()

    def discard(self) -> None:
        """Deletes the new version if it has not replaced the file."""
        if self.new is not None:
            self.new.unlink(missing_ok=True)


@contextmanager
def planned(plans: Iterator[Erasure[Summary]]) -> Iterator[list[Erasure[Summary]]]:
    """Collects erasures under distinct names for the block; then deletes each new version that replaced no file."""
    erasures: list[Erasure[Summary]] = []
    try:
        for erasure in plans:
            taken = any(erasure.name == other.name for other in erasures)  # folders of registers can have the same name
            erasures.append(replace(erasure, name=str(erasure.path)) if taken else erasure)
        yield erasures
    finally:
        for erasure in erasures:
            erasure.discard()


def carry_out(erasures: Sequence[Erasure[Summary]]) -> None:
    """Replaces or deletes all files of a plan, and waits until the disk has it."""
    for erasure in erasures:
        erasure.check_unchanged()
    for erasure in erasures:
        erasure.carry_out()
    for folder in {erasure.path.parent for erasure in erasures if erasure.changes}:
        sync(folder)


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

    Returns: the path of the new version, whose bytes are on the disk, and rows and SHA-256 of both versions. The path
    is None if no row changes.
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
