"""Numbers that training must not learn from: callers that a person cleared, and persons who had their data deleted.

`exclusions.parquet` lies beside the calls; a row counts from the moment when it was known. It removes the number's
label, so no training with a later cutoff learns from its calls. Judging still counts them: a wrongly labelled caller
must continue to count against the model, and a finding states that it is benign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.reading.call_files import write_table

from .dataset import EXCLUSIONS, FINDINGS
from .labels import label_numbers

if TYPE_CHECKING:
    from callsieve.serving.cases.tables import Clearance

    from .dataset import Dataset
    from .label_policy import LabelPolicy

FILE = "exclusions.parquet"
CLEARED, DELETED = "cleared", "deleted"


def labels_to_learn(dataset: Dataset, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    """Returns the labels of `label_numbers` without the numbers that were excluded by the cutoff."""
    labels = label_numbers(dataset, cutoff, policy)
    excluded = dataset.exclusions[dataset.exclusions["known_at"] <= cutoff]
    remaining: pd.DataFrame = labels[~labels["number"].isin(excluded["number"])]
    return remaining.reset_index(drop=True)


def write_cleared(cleared: Sequence[Clearance], folder: Path) -> dict[str, int]:
    """Adds cleared callers to a folder's exclusions, and a finding that each is benign.

    Returns: counts of new rows, `excluded` and `findings`.
    """
    known = [pd.Timestamp(clearance.since, unit="ms", tz="UTC") for clearance in cleared]
    rows = [{"number": c.caller, "known_at": at, "why": CLEARED} for c, at in zip(cleared, known, strict=True)]
    # An ended clearance is no evidence about the number; the number stays excluded from training.
    benign = [
        {"number": clearance.caller, "nuisance": False, "known_at": at}
        for clearance, at in zip(cleared, known, strict=True)
        if clearance.ended_at is None
    ]
    return {
        "excluded": add_rows(folder / FILE, EXCLUSIONS, rows),
        "findings": add_rows(folder / "findings.parquet", FINDINGS, benign),
    }


def add_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, object]]) -> int:
    """Adds the missing rows to a table on disk, atomically; returns how many rows were new."""
    old = pq.read_table(path) if path.exists() else schema.empty_table()
    existing = {tuple(row.values()) for row in old.select(schema.names).to_pylist()}
    new = [row for row in rows if tuple(row[name] for name in schema.names) not in existing]
    if not new and path.exists():
        return 0
    both = pa.concat_tables([old.select(schema.names).cast(schema), pa.Table.from_pylist(new, schema)])
    write_table(both, path)
    return len(new)
