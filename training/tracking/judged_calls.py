"""The calls that judged a run, with their scores: a file of its record, so that two runs compare without their models.

It holds no token and no time: a call is the number of its folder and of its row there, a caller is a code that is the
same in all runs on the same folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import atomic_path
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.train import Trained

JUDGED = "judged.parquet"
COLUMNS = ("folder", "row", "caller", "slice", "nuisance", "raw", "flagged")


@dataclass(frozen=True, slots=True)
class Judged:
    """The judged calls of a run; arrays of shape (calls,), in order of folder and row.

    raw: NaN where the model gave no score. flagged: whether the call reaches the certified band.
    """

    folder: Array
    row: Array
    caller: Array
    slice: Array
    nuisance: Array
    raw: Array
    flagged: Array


def write_judged(trained: Trained, path: Path) -> None:
    """Writes the calls of the certifying fold of a training."""
    pool, band = trained.pool, trained.card.thresholds[0]
    aligned = aligned_scores(trained.raw, trained.stratum, band)
    rows = np.flatnonzero(pool.certify & pool.judged.known)
    columns = {
        "folder": pool.folder[rows].astype(np.int32),
        "row": pool.row[rows].astype(np.int64),
        "caller": pool.caller[rows].astype(np.int64),
        "slice": pa.array(pool.judged.slice[rows].astype(str)).dictionary_encode(),
        "nuisance": pool.judged.nuisance[rows],
        "raw": trained.raw[rows],
        "flagged": aligned[rows] >= band.threshold,
    }
    with atomic_path(path) as part:
        pq.write_table(pa.table(columns), part, compression="zstd")


def read_judged(path: Path) -> Judged:
    """Returns the judged calls of a run.

    Raises:
        ValueError: in one line, if there is no such file, or it has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        raise ValueError(f"{path}: expected the judged calls of a run; train it with this version") from None
    if table.column_names != list(COLUMNS):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    plain = {name: table[name].to_numpy() for name in COLUMNS if name != "slice"}
    return Judged(slice=np.asarray(table["slice"].to_pylist(), dtype=str), **plain)
