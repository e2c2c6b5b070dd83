"""Calls that leave their folder or outlive it: exports, calls held for tracing, and re-identification of tokens.

An export or a re-identification is entered in the audit log first, with its tickets. Held calls are copies that outlive
the retention of calls, in `held.parquet` beside `calls.parquet`. The plan of thirteen ministries wants the data of
unauthenticated calls kept for a set time, to help to trace them. The rule [held] of `retention.toml` says how long.
Searches, deletions and retention treat the file like any other table. A request for deletion removes no row below the
floor. No training and no report reads the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.files.dates import DAY, EPOCH, parse_day
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import unified
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.features.keys.tokens import Key, Use, is_token
from callsieve.features.reading.call_files import write_table
from callsieve.serving.batch.output_keys import output_tokens, with_callee_keys
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import current_declaration, require_purpose
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.oversight.log.audit_log import SignedLog, has_log, log_id
from callsieve.training.oversight.log.tickets import EXPORT, REIDENTIFY, AccessControl, Act, tokens_hash

from .states import CALLS

PARTIES: tuple[Use, ...] = ("block", "operator", "trunk")
HOLD_TABLE = "held"
HOLD = "hold for tracing"
_IDENTITY = ("start", "caller", "callee")


def calls_between(folder: Path, first: str, last: str, progress: Progress = silent, table: str = "calls") -> pa.Table:
    """Returns the unexpired keyed calls of a folder between two UTC days, both included."""
    unexpired = expiry_filter(require_purpose(folder, "export"), folder)
    progress("read", 0.0)
    calls = unexpired(read_keyed(folder / f"{table}.parquet"), table)
    begin, end = ((parse_day(text, what) - EPOCH).days * DAY for text, what in ((first, "--first"), (last, "--last")))
    start = calls["start"]
    return calls.filter(pc.and_(pc.greater_equal(start, begin), pc.less(start, end + DAY)))


def export_act(calls: pa.Table, purpose: str, person: str, progress: Progress = silent) -> Act:
    """Returns the act of exporting these calls."""
    progress("fingerprint", 0.5)
    act = Act(EXPORT, fingerprint(calls), calls.num_rows, purpose, person)
    progress("fingerprint", 1.0)
    return act


def export_calls(
    calls: pa.Table, act: Act, folder: Path, out: Path, callees: CalleeCipher, control: AccessControl
) -> int:
    """Enters an export in the log, then writes the calls to a new file; returns the index of the entry.

    The file has called numbers under the key of `callees`.
    """
    if out.exists():
        raise FileExistsError(f"{out}: expected a new file; nothing is overwritten")
    entry = control.enter(act, str(folder))
    write_table(with_callee_keys(calls, callees), out)
    return entry


def reidentify_act(tokens: Sequence[str], purpose: str, person: str, log: Path) -> Act:
    """Returns the act of re-identifying these tokens, which may enter this audit log alone."""
    if not tokens or not all(is_token(token) for token in tokens):
        raise ValueError("re-identification: expected tokens of numbers, blocks, operators or trunks")
    own = log_id(log) if has_log(log) else ""
    return Act(REIDENTIFY, tokens_hash(tokens), len(tokens), purpose, person, own)


def reidentify(
    tokens: Sequence[str],
    candidates: Iterable[str],
    act: Act,
    number_key: Key,
    callees: CalleeCipher | None,
    control: AccessControl,
) -> Iterator[tuple[str, str]]:
    """Returns pairs of token and text if the text is among the candidates; for a screen, never for a file.

    A candidate is a telephone number, any number of a block, or the name of an operator or a trunk. With `callees`,
    tokens of called numbers in exported files are recognised, too.
    """
    control.enter(act)
    intake, requested = Intake(number_key), set(tokens)
    return (
        (token, text)
        for text in candidates
        for token in (*output_tokens(intake.token("number", text) or "", callees), *_party_tokens(intake, text))
        if token in requested
    )


def _party_tokens(intake: Intake, text: str) -> list[str]:
    return [token for use in PARTIES if (token := intake.token(use, text))]


def hold(folder: Path, callers: Collection[str], purpose: str, person: str, log: SignedLog) -> dict[str, int]:
    """Adds calls to the held calls of a folder: those that failed authentication, and all calls of some callers.

    An expired call is not held; no reader returns it. The audit log names the purpose and the person before the file
    changes.

    Returns: `held`: rows of the file. `added`: rows that were not held before. `entry`: index of the entry in the log.
    """
    if not all(map(is_token, callers)):
        raise ValueError("TOKEN: expected tokens of numbers")
    unexpired = expiry_filter(current_declaration(folder), folder)
    calls, path = unexpired(read_keyed(folder / CALLS), "calls"), folder / f"{HOLD_TABLE}.parquet"
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
        write_table(unified(whole).sort_by("start"), path)
    return {"held": whole.num_rows, "added": new.num_rows, "entry": entry}


def _identities(calls: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(calls[name].to_pylist() for name in _IDENTITY), strict=True))
