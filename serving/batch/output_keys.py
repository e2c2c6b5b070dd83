"""Tables of calls that leave the house: called numbers get a key of their own (`features/keys/callee_keys.py`)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from callsieve.features.intake.text_columns import coded, only_used
from callsieve.features.keys.callee_keys import ONCE, Callees
from callsieve.features.keys.tokens import Key, read_key


def callee_keys_or_temporary(path: Path | None) -> Callees:
    """How called numbers are written: by the key of a file, or else by a new one that dies with the process."""
    return Callees(Key.generate(ONCE, "callees") if path is None else read_key(path, "callees"))


def read_callee_keys(path: Path | None) -> Callees | None:
    """How called numbers were written; None if no key is given."""
    return None if path is None else Callees(read_key(path, "callees"))


def with_callee_keys(calls: pa.Table, callees: Callees) -> pa.Table:
    """The table with its column `callee` as others may have it; no other value changes.

    Nor is there a word of other calls, of which those were taken.

    Raises: ValueError: if it holds anything but keyed tokens.
    """
    calls = only_used(calls)
    place = calls.schema.get_field_index("callee")
    column = calls["callee"].unify_dictionaries().combine_chunks()
    held = coded(column)
    words = pa.array(callees.tokens(held.dictionary.to_pylist()), pa.string())
    return calls.set_column(place, "callee", pa.DictionaryArray.from_arrays(held.indices, words).cast(column.type))


def output_tokens(token: str, callees: Callees | None) -> tuple[str, ...]:
    """Every token that a number's token can stand as in a table: as a caller, and as a called number for others."""
    return (token,) if callees is None else (token, callees.token(token))
