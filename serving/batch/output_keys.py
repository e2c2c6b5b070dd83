"""Rewrites called numbers under a key of their own in every table that leaves (`features/keys/callee_keys.py`)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from callsieve.features.intake.text_columns import coded, only_used
from callsieve.features.keys.callee_keys import ONCE, Callees
from callsieve.features.keys.tokens import Key, read_key


def callee_keys_or_temporary(path: Path | None) -> Callees:
    """Reads the callee key of a file; without one, makes a temporary key that ends with the process."""
    return Callees(Key.generate(ONCE, "callees") if path is None else read_key(path, "callees"))


def read_callee_keys(path: Path | None) -> Callees | None:
    """Reads the callee key of a file; None without one."""
    return None if path is None else Callees(read_key(path, "callees"))


def with_callee_keys(calls: pa.Table, callees: Callees) -> pa.Table:
    """Returns the table with its column `callee` under the callee key; no other value changes.

    Dictionaries are cut to the words in use, so a table that was cut out of another carries none of its tokens.

    Raises:
        ValueError: if the column holds anything but keyed tokens.
    """
    calls = only_used(calls)
    place = calls.schema.get_field_index("callee")
    column = calls["callee"].unify_dictionaries().combine_chunks()
    encoded = coded(column)
    tokens = pa.array(callees.tokens(encoded.dictionary.to_pylist()), pa.string())
    return calls.set_column(place, "callee", pa.DictionaryArray.from_arrays(encoded.indices, tokens).cast(column.type))


def output_tokens(token: str, callees: Callees | None) -> tuple[str, ...]:
    """Returns every token by which a table may name a number: as a caller, and as a called number under its own key."""
    return (token,) if callees is None else (token, callees.token(token))
