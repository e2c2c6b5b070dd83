"""The compliance report for an auditor: the register of processing and the result of each duty check.

The register of processing states for each folder of calls its purposes, legal basis and expiry, its retention,
the models trained on it, and the recipients of rows. All values come from `dataset.json`, the retention rules and the
audit log. A duty is reported as unknown if the caller does not name the files to check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from callsieve.features.files.dates import DAY, now_ms
from callsieve.features.keys.tokens import read_key
from callsieve.serving.bundle.signing import AUDIT
from callsieve.serving.custody.expiry import count_expired
from callsieve.serving.custody.purposes import SIMULATED, is_simulated, read_declaration, require_purpose
from callsieve.serving.custody.retention import Retention, read_retention
from callsieve.serving.http.api_keys import read_keys
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.audit_log import accesses, has_log, payloads
from callsieve.training.oversight.log.tickets import EXPORT, MOST_WITHOUT, NEEDED
from callsieve.training.oversight.privacy import deletion, retention_run
from callsieve.training.oversight.privacy.intents import INTENT, open_intents
from callsieve.training.oversight.privacy.states import calls_fingerprint, earlier_fingerprints, models_trained_on
from callsieve.training.reports.wording import in_markdown

HOURS_TO_ERASE = 24


@dataclass(frozen=True, slots=True)
class Duty:
    """The result of one check. `holds` is None without a file to check; `result` describes it."""

    name: str
    row: str  # of tests/tools/sources.toml
    holds: bool | None
    result: str


@dataclass(frozen=True, slots=True)
class AuditScope:
    """The folders and files that the auditor checks."""

    data: tuple[Path, ...]
    log: Path | None
    number_keys: tuple[Path, ...]
    api_keys: Path | None


def report(scope: AuditScope, now: int | None = None) -> dict[str, Any]:
    """Returns the register of processing and the result of every duty. Writes nothing and needs no secret key.

    `now`: Unix ms; by default the current time.
    Returns: JSON-able. `processing`: one row per folder. `given_beside`: accesses outside the folders, such as
    re-identifications. `duties`: the results. `holds`: whether no duty is broken.
    """
    moment, rules = now_ms() if now is None else now, read_retention()
    duties = [duty for check in DUTIES for duty in check(scope, rules, moment)]
    return {
        "at": datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds"),
        "processing": [processing(folder, scope.log, rules) for folder in scope.data],
        "given_beside": [
            access for source, access in granted_accesses(scope.log) if source not in map(str, scope.data)
        ],
        "duties": [asdict(duty) for duty in duties],
        "holds": not any(duty.holds is False for duty in duties),
    }


def assessment(result: Mapping[str, Any]) -> str:
    """Returns a Chinese template of an impact assessment (个人信息保护影响评估) in Markdown, filled from a report."""
    pages = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701 - `plain` escapes
    pages.filters["plain"] = lambda text: in_markdown(str(text)).replace("|", "\\|")
    template = files(__package__).joinpath("impact_assessment.md").read_text(encoding="utf-8")
    models = dict.fromkeys(model for row in result["processing"] for model in row["models"])
    return pages.from_string(template).render(result, models=list(models))


def processing(folder: Path, log: Path | None, rules: Retention) -> dict[str, Any]:
    """Returns one folder's row of the register: its declaration, retention, models, accesses and deletions."""
    declaration = read_declaration(folder)
    retention = {
        path.stem: rules.tables[path.stem] for path in sorted(folder.glob("*.parquet")) if path.stem in rules.tables
    }
    state = calls_fingerprint(folder)
    states = set() if log is None else earlier_fingerprints(log, state)
    entries = [] if log is None else [payload for _, payload in payloads(log, deletion.KIND)]
    deletions = [payload for payload in entries if payload.get("stage") != INTENT]
    return {
        "folder": str(folder),
        "declared": None if declaration is None else asdict(declaration),
        "kept_days": {name: rule.ceiling // DAY for name, rule in retention.items() if not rule.follows},
        "models": [] if log is None else models_trained_on(log, str(folder), state),
        "given": [access for source, access in granted_accesses(log) if source == str(folder)],
        "deletions": sum(payload.get("calls_after") in states for payload in deletions),
    }


def granted_accesses(log: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the folder ("" if none is logged) and the details of each granted access in the audit log."""
    for _, access in () if log is None else accesses(log):
        if access.get("act") and "refused" not in access:
            names = ("person", "act", "purpose", "count")
            yield access.get("source", ""), {name: access.get(name, "erased") for name in names}


def check_declarations(scope: AuditScope, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Checks that each folder has a declaration that has not expired, and that agrees with the log in the folder."""
    for folder in scope.data:
        try:
            declaration = read_declaration(folder)
            beside = f"; {SIMULATED} is not of these calls" if (folder / SIMULATED).exists() else ""
            if declaration is None:
                result = f"{folder}: no declaration; run `callsieve privacy declare`{beside}"
                yield Duty("declared", "L42", False, result)
                continue
            require_purpose(folder, declaration.purposes[0])
            log = folder / AUDIT
            if has_log(log) and (faults := verify(log, run_folder=folder).faults):
                yield Duty("declared", "L42", False, f"{folder}: {faults[0].where}: {faults[0].what}")
                continue
            yield Duty("declared", "L42", True, f"{folder}: for {', '.join(declaration.purposes)}")
        except ValueError as error:
            yield Duty("declared", "L42", False, str(error))


def check_erasure(scope: AuditScope, rules: Retention, now: int) -> Iterator[Duty]:
    """Checks that no row is expired, and that the last erasure is at most a day old."""
    for folder in scope.data:
        if is_simulated(folder):
            yield Duty("in time", "P5", True, f"{folder}: simulated, without retention")
            continue
        tables = {path: rules.tables.get(path.stem) for path in sorted(folder.glob("*.parquet"))}
        unruled = [path.name for path, rule in tables.items() if rule is None]
        due = {path.name: count_expired(path, rule, now) for path, rule in tables.items() if rule and not rule.follows}
        late = [f"{name}: {rows} rows" for name, rows in due.items() if rows]
        problem = "; ".join([*late, *(f"{name}: no rule" for name in unruled)])
        yield Duty("in time", "P5", not problem, f"{folder}: {problem or 'no row is expired'}")
    if scope.log is None:
        yield Duty("erased daily", "P5", None, "no audit log was specified")
        return
    runs = [
        datetime.fromisoformat(entry.at)
        for entry, run in payloads(scope.log, retention_run.KIND)
        if run.get("stage") != INTENT and not run.get("interrupted")
    ]
    last = max(runs, default=None)
    recent = last is not None and last > datetime.fromtimestamp(now / 1000, UTC) - timedelta(hours=HOURS_TO_ERASE)
    interrupted = [index for index, _ in open_intents(scope.log, retention_run.KIND)]
    result = f"last run: {last.isoformat() if last else 'never'}"
    if interrupted:
        result += f"; the run of entry {interrupted[0]} was interrupted: run callsieve privacy retention again"
    yield Duty("erased daily", "P5", recent and not interrupted, result)


def check_deletions(scope: AuditScope, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Checks that no deletion of a person was interrupted."""
    if scope.log is None:
        yield Duty("deletions finished", "P6", None, "no audit log was specified")
        return
    interrupted = [index for index, _ in open_intents(scope.log, deletion.KIND)]
    numbers = ", ".join(map(str, interrupted))
    result = f"entries {numbers}: interrupted; run callsieve privacy delete again for these persons"
    yield Duty("deletions finished", "P6", not interrupted, result if interrupted else "none was interrupted")


def check_audit_log(scope: AuditScope, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Checks that the audit log was not altered."""
    if scope.log is None:
        yield Duty("log unchanged", "L32", None, "no audit log was specified")
        return
    faults = verify(scope.log).faults
    result = f"{faults[0].where}: {faults[0].what}" if faults else "no fault"
    yield Duty("log unchanged", "L32", not faults, result)


def check_tickets(scope: AuditScope, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Checks that large exports and re-identifications had the required tickets."""
    if scope.log is None:
        yield Duty("agreed by others", "P9", None, "no audit log was specified")
        return
    without_tickets = [
        entry.index
        for entry, access in accesses(scope.log)
        if "refused" not in access
        and access.get("act") in NEEDED
        and (access["act"] != EXPORT or access["count"] > MOST_WITHOUT)
        and len({ticket["key"] for ticket in access["tickets"]}) < NEEDED[access["act"]]
    ]
    numbers = ", ".join(map(str, without_tickets))
    result = f"entries {numbers}: too few tickets" if without_tickets else "every access had its tickets"
    yield Duty("agreed by others", "P9", not without_tickets, result)


def check_key_files(scope: AuditScope, _rules: Retention, _now: int) -> Iterator[Duty]:
    """Checks that key files are readable by their owner only, have the right purpose, and lie outside the data."""
    files: list[tuple[Path, Callable[[Path], object]]] = [(path, read_key) for path in scope.number_keys]
    files += [] if scope.api_keys is None else [(scope.api_keys, read_keys)]
    if not files:
        yield Duty("keys private", "P2", None, "no key file was specified")
    for path, read in files:
        inside = [folder for folder in scope.data if folder.resolve() in path.resolve().parents]
        try:
            read(path)
            yield Duty(
                "keys private",
                "P2",
                not inside,
                f"{path}: {'inside a data folder' if inside else 'readable by its owner only'}",
            )
        except (ValueError, OSError) as error:
            yield Duty("keys private", "P2", False, str(error))


Check = Callable[[AuditScope, Retention, int], Iterator[Duty]]
DUTIES: Sequence[Check] = (
    check_declarations,
    check_erasure,
    check_deletions,
    check_audit_log,
    check_tickets,
    check_key_files,
)
