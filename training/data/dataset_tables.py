"""The tables of a data set in one form, with the SHA-256 of each, for the record of a training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from callsieve.features.intake.text_columns import dictionary_decoded

from .dataset import CAMPAIGNS, COMPLAINTS, EXCLUSIONS, FINDINGS, LISTS, RECYCLED, TRUTH_COLUMNS, Dataset
from .fingerprint import fingerprint

TABLES = {
    "complaints": COMPLAINTS,
    "findings": FINDINGS,
    "recycled": RECYCLED,
    "lists": LISTS,
    "campaigns": CAMPAIGNS,
    "exclusions": EXCLUSIONS,
}


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table of a data set: SHA-256 of the whole table, number of rows, "training" or "evaluation", and its columns,
    with the word of MLflow for the type of each.
    """

    name: str
    sha256: str
    rows: int
    context: str
    columns: dict[str, str]


def table_facts(dataset: Dataset) -> tuple[TableFacts, ...]:
    """Returns the facts of every table of a data set, the calls first."""
    others = (_facts(name, fingerprint(table), table, context) for name, table, context in tables(dataset))
    return (_facts("calls", dataset.fingerprint, dataset.calls, "training"), *others)


def _facts(name: str, sha256: str, table: pa.Table, context: str) -> TableFacts:
    kinds = ((pa.types.is_boolean, "boolean"), (pa.types.is_integer, "long"), (pa.types.is_floating, "double"))
    known = (*kinds, (pa.types.is_timestamp, "datetime"))
    columns = {
        field.name: next((word for is_kind, word in known if is_kind(field.type)), "string") for field in table.schema
    }
    return TableFacts(name, sha256, table.num_rows, context, columns)


def tables(dataset: Dataset) -> Iterable[tuple[str, pa.Table, str]]:
    """Yields every table besides the calls that a model or its split depends on: name, table in one form, and context.

    The form does not depend on the files that the dataset was read from.
    """
    for name, schema in TABLES.items():
        frame = getattr(dataset, name)
        fields = [field for field in schema if field.name in frame]
        yield name, pa.table({field.name: arrow(frame[field.name], field.type) for field in fields}), "training"
    if dataset.own is not None:
        kinds = [pa.string(), COMPLAINTS.field("known_at").type, *[pa.float64()] * (dataset.own.shape[1] - 2)]
        columns = {name: arrow(dataset.own[name], kind) for name, kind in zip(dataset.own, kinds, strict=True)}
        yield "own columns", pa.table(columns), "training"
    if dataset.truth is not None:
        # The split keeps campaigns together, so it depends on this column.
        names = [*TRUTH_COLUMNS, *(name for name in ("campaign",) if name in dataset.truth.column_names)]
        yield "truth", pa.table([dictionary_decoded(dataset.truth[name]) for name in names], names=names), "evaluation"


def arrow(column: pd.Series, kind: pa.DataType) -> pa.Array:
    """Returns a column of a frame as an Arrow array of this type."""
    if pa.types.is_timestamp(kind):
        moments = column.dt.tz_convert(None).to_numpy()
        return pa.array(moments, from_pandas=True).cast(pa.timestamp(kind.unit), safe=False).cast(kind)
    return pa.array(column.to_numpy(), kind, from_pandas=True)
