"""The planned erasure of one file: everything is known and written before the file changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import silent
from callsieve.serving.custody.expiry import count_expired, unexpired_rows

from .rewriting import Rewritten, write_new_version

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress
    from callsieve.serving.custody.retention import RetentionRule

ERASED, NOTHING_EXPIRED, NO_ROWS = "erased", "nothing expired", "no rows"


@dataclass(frozen=True, slots=True)
class Erasure:
    """The erasure of expired rows of a file, or of a whole file.

    Attributes:
        name: of the file in the report.
        path: the file.
        summary: rows or bytes, and SHA-256 before and after; "" after a deletion.
        new: the version without the expired rows, beside the file; None if the file stays or is deleted.
        deletes: whether the whole file is deleted.
        count_left: counts the expired rows of the file.
    """

    name: str
    path: Path
    summary: dict[str, Any]
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


def plan_expiry(
    name: str,
    path: Path,
    rule: RetentionRule,
    now: int,
    progress: Progress = silent,
    *,
    without_moment: bool = False,
) -> Erasure:
    """Plans the erasure of the expired rows of a Parquet file. Args: as for `custody.expiry.is_expired`."""
    keep = partial(unexpired_rows, rule, now, without_moment=without_moment)
    new, done = write_new_version(path, keep, progress)
    count_left = partial(count_expired, path, rule, now, without_moment=without_moment)
    return Erasure(name, path, rows_summary(done), new, count_left=count_left)


def rows_summary(done: Rewritten) -> dict[str, Any]:
    """Returns rows and hashes of a file, before and after, and the outcome in words."""
    erased = done.rows_before - done.rows_after
    outcome = ERASED if erased else NOTHING_EXPIRED if done.rows_before else NO_ROWS
    return {
        "outcome": outcome, "rows_before": done.rows_before, "rows_after": done.rows_after, "erased": erased,
        "sha256_before": done.sha256_before, "sha256_after": done.sha256_after,
    }  # fmt: skip
