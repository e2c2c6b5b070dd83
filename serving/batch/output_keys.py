"""Keys called numbers with a separate key in every table for others (`features/keys/callee_keys.py`)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from callsieve.features.intake.text_columns import dictionary_encoded, drop_unused_words
from callsieve.features.keys.callee_keys import EPHEMERAL, CalleeCipher
from callsieve.features.keys.tokens import Key, read_key


def callee_keys_or_temporary(path: Path | None) -> CalleeCipher:
    """Reads the callee key of a file; without one, makes a temporary key that ends with the process."""
    return CalleeCipher(Key.generate(EPHEMERAL, "callees") if path is None else read_key(path, "callees"))


def read_callee_keys(path: Path | None) -> CalleeCipher | None:
    """Reads the callee key of a file; None without one."""
    return None if path is None else CalleeCipher(read_key(path, "callees"))


def with_callee_keys(calls: pa.Table, callees: CalleeCipher) -> pa.Table:
    """Returns the table with its column `callee` under the callee key; no other value changes.

    Dictionaries are cut to the words in use, so a table that was cut out of another carries none of its tokens.
    """
    calls = drop_unused_words(calls)
    place, encoded = calls.schema.get_field_index("callee"), dictionary_encoded(calls["callee"])
    tokens = pa.array(callees.tokens(encoded.dictionary.to_pylist()), pa.string())
    keyed = pa.DictionaryArray.from_arrays(encoded.indices, tokens)
    return calls.set_column(place, "callee", keyed.cast(calls["callee"].type))


def output_tokens(token: str, callees: CalleeCipher | None) -> tuple[str, ...]:
    """Returns every token by which a table may name a number: as a caller, and as a called number under its own key."""
    return (token,) if callees is None else (token, callees.token(token))
