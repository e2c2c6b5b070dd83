"""The scope of an incident: affected data sets, number of people (never who), epochs of tokens, and keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.masking import masked
from callsieve.features.keys.tokens import is_token, read_any_key
from callsieve.serving.bundle.signing import key_id, read_signing_key
from callsieve.training.log.tickets import MOST_WITHOUT

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


@dataclass(slots=True)
class Affected:
    """The scope. `people` counts tokens: a person may have several numbers, and has another token in each epoch."""

    datasets: list[dict[str, Any]] = field(default_factory=list)
    people: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    keys: list[dict[str, str]] = field(default_factory=list)
    others: int = 0

    @property
    def kinds(self) -> list[str]:
        """Returns the kinds of personal information, without repetition."""
        return [kind for kind in KINDS if any(kind in one["kinds"] for one in self.datasets)]

    @property
    def call_records(self) -> int:
        """Returns the number of call records in all data sets."""
        return sum(one["rows"] for one in self.datasets if "call record" in one["kinds"])

    @property
    def readable(self) -> list[str]:
        """Returns the epochs whose key is affected as well: their tokens can be turned into numbers.

        Callees in verdicts and exports can be read with the key of callees together with a key of records.
        """
        ids = {kind: {one["id"] for one in self.keys if one["kind"] == kind} for kind in ("records", "callees")}
        return sorted(self.epochs.keys() & (ids["records"] | (ids["callees"] if ids["records"] else set())))


def affected(folders: Iterable[Path]) -> Affected:
    """Scans folders for data sets and keys.

    Raises:
        ValueError: if a folder is missing.
    """
    found, tokens = Affected(), set[str]()
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; expected a copy of the affected data")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = masked(path.relative_to(folder).as_posix())
            if path.suffix == ".parquet" and not path.name.startswith("."):
                found.datasets.append(_dataset(path, name, tokens))
            elif key := _key(path):
                found.keys.append({"file": name} | key)
            else:
                found.others += 1
    found.people = len(tokens)
    for token in tokens:
        epoch = token.partition(".")[0]
        found.epochs[epoch] = found.epochs.get(epoch, 0) + 1
    return found


def _dataset(path: Path, name: str, tokens: set[str]) -> dict[str, Any]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = [column for column in PEOPLE if column in file.schema_arrow.names]
            kinds = [kind for kind, needed in KINDS.items() if needed & set(file.schema_arrow.names)]
            rows, mine = file.metadata.num_rows, set[str]()
            for batch in file.iter_batches(columns=columns) if columns else ():
                mine.update(_tokens(batch))
    except (pa.ArrowException, OSError):
        return {"file": name, "rows": None, "people": None, "epochs": [], "kinds": []}
    tokens |= mine
    epochs = sorted({token.partition(".")[0] for token in mine})
    return {"file": name, "rows": rows, "people": len(mine), "epochs": epochs, "kinds": kinds}


def _tokens(batch: pa.RecordBatch) -> Iterator[str]:
    for column in batch.columns:
        words = column.dictionary if pa.types.is_dictionary(column.type) else pc.unique(column)
        if pa.types.is_string(words.type):
            yield from (word for word in words.to_pylist() if word and is_token(word))


def _key(path: Path) -> dict[str, str] | None:
    """Returns the kind and id of the key in a file; None if the file is no key. The key itself is not returned."""
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
