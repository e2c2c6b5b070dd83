"""The scope of an incident: affected data sets, number of people (no identities), token epochs, and keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.masking import masked
from callsieve.features.keys.tokens import is_token, read_any_key
from callsieve.serving.bundle.signing import key_id, read_signing_key
from callsieve.training.oversight.log.tickets import MOST_WITHOUT

PEOPLE = ("caller", "callee", "number", "reporter")
KINDS = {
    "number": frozenset(PEOPLE),
    "call record": frozenset({"ring", "talk"}),
    "place": frozenset({"place"}),
    "device": frozenset({"device"}),
    "report": frozenset({"reporter"}),
    "preference": frozenset({"accepts", "industry"}),
}
CALL_RECORDS = MOST_WITHOUT + 1
"""Handing over this many call records is a crime (judicial interpretation of 2017, article 5)."""


class Dataset(TypedDict):
    """An affected table. Rows and people are None if the file cannot be read."""

    file: str
    rows: int | None
    people: int | None
    epochs: list[str]
    kinds: list[str]


@dataclass(slots=True)
class Affected:
    """The scope. `people` counts tokens: a person may have several numbers, and has another token in each epoch."""

    datasets: list[Dataset] = field(default_factory=list)
    people: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    keys: list[dict[str, str]] = field(default_factory=list)
    others: int = 0

    @property
    def kinds(self) -> list[str]:
        """Returns the kinds of personal information in the data sets, each kind once."""
        return [kind for kind in KINDS if any(kind in dataset["kinds"] for dataset in self.datasets)]

    @property
    def call_records(self) -> int:
        """Returns the number of call records in all data sets."""
        return sum(dataset["rows"] or 0 for dataset in self.datasets if "call record" in dataset["kinds"])

    @property
    def readable(self) -> list[str]:
        """Returns the epochs whose key is affected as well, so that their tokens can be turned into numbers.

        To read callees in verdicts and exports, a callee key and a record key are needed together.
        """
        ids = {kind: {key["id"] for key in self.keys if key["kind"] == kind} for kind in ("records", "callees")}
        return sorted(self.epochs.keys() & (ids["records"] | (ids["callees"] if ids["records"] else set())))


def affected(folders: Iterable[Path]) -> Affected:
    """Scans folders for data sets and keys.

    Raises:
        ValueError: if a folder is missing.
    """
    scope, tokens = Affected(), set[str]()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; expected a copy of the affected data")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = masked(path.relative_to(folder).as_posix())
            if path.suffix == ".parquet" and not path.name.startswith("."):
                scope.datasets.append(_dataset(path, name, tokens))
            elif key := _key(path):
                scope.keys.append({"file": name} | key)
            else:
                scope.others += 1
    scope.people = len(tokens)
    for token in tokens:
        epoch = token.partition(".")[0]
        scope.epochs[epoch] = scope.epochs.get(epoch, 0) + 1
    return scope


def _dataset(path: Path, name: str, tokens: set[str]) -> Dataset:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = [column for column in PEOPLE if column in file.schema_arrow.names]
            kinds = [kind for kind, needed in KINDS.items() if needed & set(file.schema_arrow.names)]
            rows, tokens_here = file.metadata.num_rows, set[str]()
            for batch in file.iter_batches(columns=columns) if columns else ():
                tokens_here.update(_tokens(batch))
    except (pa.ArrowException, OSError):
        return {"file": name, "rows": None, "people": None, "epochs": [], "kinds": []}
    tokens |= tokens_here
    epochs = sorted({token.partition(".")[0] for token in tokens_here})
    return {"file": name, "rows": rows, "people": len(tokens_here), "epochs": epochs, "kinds": kinds}


def _tokens(batch: pa.RecordBatch) -> Iterator[str]:
    for column in batch.columns:
        values = column.dictionary if pa.types.is_dictionary(column.type) else pc.unique(column)
        if pa.types.is_string(values.type):
            yield from (value for value in values.to_pylist() if value and is_token(value))


def _key(path: Path) -> dict[str, str] | None:
    """Returns the kind and id of the key in a file; None if the file is not a key. Never returns the secret."""
    if path.stat().st_size > 4096:
        return None
    try:
        return {"kind": "signing", "id": key_id(read_signing_key(path).public_key())}
    except (ValueError, OSError):
        pass
    try:
        key = read_any_key(path)
    except (ValueError, OSError):
        return None
    return {"kind": key.purpose, "id": key.epoch}
