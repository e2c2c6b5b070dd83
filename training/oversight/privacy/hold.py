"""Calls held for tracing: copies that outlive the retention of calls, in `held.parquet` beside `calls.parquet`.

The plan of thirteen ministries wants the data of unauthenticated calls kept for a set time, to help to trace them. The
rule [held] of `retention.toml` says how long. Searches, deletions and retention treat the file like any other table. A
request for deletion removes no row below the floor. No training and no report reads the file.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.call_files import write_table
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import current_declaration
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.oversight.log.audit_log import SignedLog

from .states import CALLS

TABLE = "held"
HOLD = "hold for tracing"
_IDENTITY = ("start", "caller", "callee")


def hold(folder: Path, callers: Collection[str], purpose: str, person: str, log: SignedLog) -> dict[str, int]:
    """Adds calls to the held calls of a folder: those that failed authentication, and all calls of some callers.

    An expired call is not held; no reader returns it. The audit log names the purpose and the person before the file
    changes.

    Args:
        callers: tokens of further callers to trace.
    Returns:
        `held`: rows of the file. `added`: rows that were not held before. `entry`: index of the entry in the log.
    Raises:
        ValueError: if a token is malformed, the folder has no keyed calls, or all of them have expired.
    """
    if not all(map(is_token, callers)):
        raise ValueError("--token: expected tokens of numbers")
    unexpired = expiry_filter(current_declaration(folder), folder)
    calls, path = unexpired(read_keyed(folder / CALLS), "calls"), folder / f"{TABLE}.parquet"
    failed = pc.equal(calls["attestation"].cast(pa.string()), "failed")
    chosen = pc.or_(
        failed.fill_null(False), pc.is_in(calls["caller"].cast(pa.string()), pa.array(sorted(callers), pa.string()))
    )
    matches, earlier = calls.filter(chosen), read_keyed(path) if path.exists() else calls.slice(0, 0)
    known = set(_identities(earlier))
    new = matches.filter(pa.array([identity not in known for identity in _identities(matches)], pa.bool_()))
    names = [name for name in earlier.column_names if name in new.column_names]
    whole = pa.concat_tables([earlier.select(names), new.select(names)], promote_options="permissive")
    act = {"act": HOLD, "what": fingerprint(new.sort_by("start")), "count": new.num_rows}
    entry = log.append("access", act | {"purpose": purpose, "person": person, "tickets": [], "source": str(folder)})
    if new.num_rows or not path.exists():
        write_table(whole.unify_dictionaries().sort_by("start"), path)
    return {"held": whole.num_rows, "added": new.num_rows, "entry": entry}


def _identities(calls: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(calls[name].to_pylist() for name in _IDENTITY), strict=True))
