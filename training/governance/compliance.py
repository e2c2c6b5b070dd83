"""The compliance report for an auditor: the register of processing, and the duties that hold or are broken.

The register of processing states for each folder of calls its purposes, legal basis and expiry, how long rows are kept,
which models learnt from it, and who received rows. Everything is read from `dataset.json`, the retention rules and the
audit log. A duty whose evidence was not named is reported as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from callsieve.features.files.dates import DAY, now_ms
from callsieve.features.keys.tokens import read_key
from callsieve.serving.custody.expiry import count_expired
from callsieve.serving.custody.purposes import SIMULATED, read_declaration, require_purpose
from callsieve.serving.custody.retention import Retention, read_retention
from callsieve.serving.http.api_keys import read_keys
from callsieve.training.audit.verify import verify
from callsieve.training.log.audit_log import PUBLIC_KEY, payloads
from callsieve.training.log.tickets import MOST_WITHOUT, NEEDED, REIDENTIFY
from callsieve.training.privacy.deletion import calls_fingerprint
from callsieve.training.privacy.subject import earlier_fingerprints, models_trained_on

HOURS_TO_ERASE = 24


@dataclass(frozen=True, slots=True)
class Duty:
    """The result of one check. `holds` is None if no place to check was named; `found` says what was checked."""

    name: str
    row: str  # of sources.toml
    holds: bool | None
    found: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Folders and files that the auditor names."""

    data: tuple[Path, ...]
    log: Path | None
    number_keys: tuple[Path, ...]
    api_keys: Path | None


def report(asked: Asked, now: int | None = None) -> dict[str, Any]:
    """Returns the register of processing and the result of every duty. Reads only; needs no key but public ones.

    Args:
        now: Unix ms; by default the present.
    Returns:
        JSON-able. `processing`: one row a folder. `given_beside`: accesses to none of the folders, such as
        re-identifications. `duties`: the results. `holds`: whether no duty is broken.
    Raises:
        ValueError: if the declaration of a folder is malformed.
    """
    moment, rules = now_ms() if now is None else now, read_retention()
    duties = [duty for look in DUTIES for duty in look(asked, rules, moment)]
    return {
        "at": datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds"),
        "processing": [processing(folder, asked.log, rules) for folder in asked.data],
        "given_beside": [access for source, access in given(asked.log) if source not in map(str, asked.data)],
        "duties": [asdict(one) for one in duties],
        "holds": not any(one.holds is False for one in duties),
    }


def processing(folder: Path, log: Path | None, rules: Retention) -> dict[str, Any]:
    """Returns one folder's row of the register: its declaration, retention, models, accesses and deletions.

    Raises:
        ValueError: if the declaration of the folder is malformed.
    """
    told = read_declaration(folder)
    kept = {
        path.stem: rules.tables[path.stem] for path in sorted(folder.glob("*.parquet")) if path.stem in rules.tables
    }
    state = calls_fingerprint(folder)
    states = set() if log is None else earlier_fingerprints(log, state)
    deletions = [] if log is None else [one for _, one in payloads(log, "deletion")]
    return {
        "folder": str(folder),
        "declared": None if told is None else asdict(told),
        "kept_days": {name: rule.ceiling // DAY for name, rule in kept.items() if not rule.follows},
        "models": [] if log is None else models_trained_on(log, str(folder), state),
        "given": [access for source, access in given(log) if source == str(folder)],
        "deletions": sum(one.get("calls_after") in states for one in deletions),
    }


def given(log: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each granted access of the log with its folder, "" if the log names none."""
    for _, one in () if log is None else payloads(log, "access"):
        if one.get("act") and "refused" not in one:
            yield one.get("source", ""), {name: one[name] for name in ("person", "act", "purpose", "count")}


def declared(asked: Asked, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Each folder has a declaration that has not expired."""
    for folder in asked.data:
        try:
            told = read_declaration(folder)
            if told is None:
                yield Duty("declared", "L42", False, f"{folder}: no declaration; run `callsieve privacy declare`")
                continue
            require_purpose(folder, told.purposes[0])
            yield Duty("declared", "L42", True, f"{folder}: for {', '.join(told.purposes)}")
        except ValueError as error:
            yield Duty("declared", "L42", False, str(error))


def erased(asked: Asked, rules: Retention, now: int) -> Iterator[Duty]:
    """No row is expired, and the last erasure is at most a day old."""
    for folder in asked.data:
        if (folder / SIMULATED).exists():
            yield Duty("in time", "P5", True, f"{folder}: simulated, without retention")
            continue
        tables = {path: rules.tables.get(path.stem) for path in sorted(folder.glob("*.parquet"))}
        unruled = [path.name for path, rule in tables.items() if rule is None]
        due = {path.name: count_expired(path, rule, now) for path, rule in tables.items() if rule and not rule.follows}
        late = [f"{name}: {rows} rows" for name, rows in due.items() if rows]
        problem = "; ".join([*late, *(f"{name}: no rule" for name in unruled)])
        yield Duty("in time", "P5", not problem, f"{folder}: {problem or 'no row is expired'}")
    if asked.log is None:
        yield Duty("erased daily", "P5", None, "no audit log was named")
        return
    runs = [datetime.fromisoformat(entry.at) for entry, _ in payloads(asked.log, "retention")]
    last = max(runs, default=None)
    recent = last is not None and last > datetime.fromtimestamp(now / 1000, UTC) - timedelta(hours=HOURS_TO_ERASE)
    yield Duty("erased daily", "P5", recent, f"last run: {last.isoformat() if last else 'never'}")


def log_sound(asked: Asked, _rules: Retention, _now: int) -> Iterator[Duty]:
    """The audit log is unchanged."""
    if asked.log is None:
        yield Duty("log unchanged", "L32", None, "no audit log was named")
        return
    faults = verify(asked.log, trust=asked.log / PUBLIC_KEY).faults
    found = f"{faults[0].where}: {faults[0].what}" if faults else "no fault"
    yield Duty("log unchanged", "L32", not faults, found)


def agreed(asked: Asked, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Large exports and re-identifications had the tickets that they need."""
    if asked.log is None:
        yield Duty("agreed by others", "P9", None, "no audit log was named")
        return
    short = [
        entry.index
        for entry, one in payloads(asked.log, "access")
        if "refused" not in one and one.get("act") in NEEDED
        and (one["act"] == REIDENTIFY or one["count"] > MOST_WITHOUT)
        and len({ticket["key"] for ticket in one["tickets"]}) < NEEDED[one["act"]]
    ]  # fmt: skip
    found = f"entries {', '.join(map(str, short))}" if short else "each had its tickets"
    yield Duty("agreed by others", "P9", not short, found)


def keys_private(asked: Asked, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Key files are private to their owner, have their purpose, and do not lie beside the data."""
    named: list[tuple[Path, Callable[[Path], object]]] = [(path, read_key) for path in asked.number_keys]
    named += [] if asked.api_keys is None else [(asked.api_keys, read_keys)]
    if not named:
        yield Duty("keys private", "P2", None, "no key file was named")
    for path, read in named:
        beside = [folder for folder in asked.data if folder.resolve() in path.resolve().parents]
        try:
            read(path)
            yield Duty(
                "keys private", "P2", not beside, f"{path}: {'beside the data' if beside else 'its owner alone'}"
            )
        except (ValueError, OSError) as error:
            yield Duty("keys private", "P2", False, str(error))


Look = Callable[[Asked, Retention, int], Iterator[Duty]]
DUTIES: Sequence[Look] = (declared, erased, log_sound, agreed, keys_private)
