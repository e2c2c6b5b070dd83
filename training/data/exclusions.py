"""Numbers that training must not learn from: callers whom a person has cleared, and people who had their data deleted.

`exclusions.parquet` lies beside the calls; a row holds from the day on which it was known. It holds back labels, so
that no call of the number is learnt from in any training whose cutoff is later. Judging is not touched: a caller that
was wrongly labelled must go on to count against the model, and a finding says that it is benign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.reading.call_files import write_table

from .dataset import EXCLUSIONS, FINDINGS
from .labels import label_numbers

if TYPE_CHECKING:
    from .dataset import Dataset
    from .label_policy import LabelPolicy

FILE = "exclusions.parquet"
UNLISTED, DELETED = "unlisted", "deleted"


def labels_to_learn(dataset: Dataset, cutoff: pd.Timestamp, policy: LabelPolicy) -> pd.DataFrame:
    """The labels of `label_numbers`, but those of numbers that were excluded by the cutoff."""
    labels = label_numbers(dataset, cutoff, policy)
    known = dataset.exclusions[dataset.exclusions["known_at"] <= cutoff]
    kept: pd.DataFrame = labels[~labels["number"].isin(known["number"])]
    return kept.reset_index(drop=True)


def write_cleared(cleared: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, int]:
    """Add callers that persons have cleared to a folder's exclusions, and a finding that each is benign.

    Args:
        cleared: rows of `CaseStore.cleared`: caller, `since` (Unix ms), and `ended_at` if somebody took it back.
    Returns: how many rows are new: `excluded`, `findings`.
    """
    rows = [
        {"number": one["caller"], "known_at": pd.Timestamp(one["since"], unit="ms", tz="UTC"), "why": UNLISTED}
        for one in cleared
    ]
    # One that was taken back says nothing of the number, and is still not learnt from.
    benign = [
        {"number": row["number"], "nuisance": False, "known_at": row["known_at"]}
        for row, one in zip(rows, cleared, strict=True)
        if one["ended_at"] is None
    ]
    return {
        "excluded": add_rows(folder / FILE, EXCLUSIONS, rows),
        "findings": add_rows(folder / "findings.parquet", FINDINGS, benign),
    }


def add_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add to a table on disk the rows that it does not hold, whole or not at all; how many those are."""
    old = pq.read_table(path) if path.exists() else schema.empty_table()
    known = {tuple(row.values()) for row in old.select(schema.names).to_pylist()}
    new = [row for row in rows if tuple(row[name] for name in schema.names) not in known]
    if not new and path.exists():
        return 0
    both = pa.concat_tables([old.select(schema.names).cast(schema), pa.Table.from_pylist(new, schema)])
    write_table(both, path)
    return len(new)
