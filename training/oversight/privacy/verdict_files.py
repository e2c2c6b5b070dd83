"""Personal data in files of verdicts, which `callsieve score --out` wrote under any name: deletion and expiry.

The rule "verdicts" of `retention.toml` applies to each of them.
"""

from __future__ import annotations

from glob import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.atomic import remove_partial_files
from callsieve.features.files.progress import Progress, silent
from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.serving.batch.output_keys import output_tokens
from callsieve.serving.custody.expiry import all_moments_expired
from callsieve.serving.custody.retention import Retention

from .places import Person
from .rewriting import Deleted, Erasure
from .tables import delete_from, plan_rows

VERDICTS = "verdicts"


def plan_expiry(path: Path, rules: Retention, now: int, progress: Progress = silent) -> Erasure:
    """Plans the erasure of expired rows of a verdict file; rows of invalid calls expire with its last call."""
    rule = rules.of(VERDICTS)
    invalid_too = all_moments_expired(path, rule, now)
    return plan_rows(str(path), path, rule, now, progress, without_moment=invalid_too)


def delete(path: Path, person: Person, rules: Retention, now: int, progress: Progress = silent) -> Deleted:
    """Deletes calls from and to a person in a verdict file; returns the counts and hashes of `tables.delete_from`.

    Raises:
        ValueError: if the file has called numbers under another key than `person.callees`; nothing is deleted.
    """
    tokens = output_tokens(person.token, person.callees)
    words = pc.unique(pq.read_table(path, columns=["callee"])["callee"].cast(pa.string())).to_pylist()
    epochs = {EPHEMERAL, *(token.partition(".")[0] for token in tokens)}
    unknown_epochs = sorted({word.partition(".")[0] for word in words if word} - epochs)
    if unknown_epochs:
        raise ValueError(
            f"{path.name}: called numbers are under key {unknown_epochs[0]}: pass that key as --callees-key"
        )
    remove_partial_files(path.parent, escape(path.name))
    return delete_from(path, tokens, rules.of(VERDICTS), now, progress)
