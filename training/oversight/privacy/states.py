"""The state of a folder's calls, by which the audit log links them to the models that were trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from callsieve.features.files.progress import silent
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.training.data.fingerprint import fingerprint

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

CALLS = "calls.parquet"


def calls_fingerprint(data: Path | None, progress: Progress = silent) -> str:
    """Returns the fingerprint of a folder's calls, as a training reads them; "" if there are none."""
    return "" if data is None or not (data / CALLS).exists() else file_fingerprint(data / CALLS, progress)


def file_fingerprint(calls: Path, progress: Progress = silent) -> str:
    """Returns the fingerprint of a Parquet file of keyed calls, as a training reads them."""
    progress("fingerprint", 0.0)
    result = fingerprint(read_keyed(calls).sort_by("start"))
    progress("fingerprint", 1.0)
    return result
