"""The commands of cases: from a case id to its evidence, an appeal, a decision and a notice."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from callsieve.features.files.dates import now_ms
from callsieve.serving import Scorer, read_policy, read_public_key
from callsieve.serving.bundle.signing import signer_path
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import ApiKeys, Bundle, Host, PolicyFile, Port, StateFolders, Trust
from callsieve.serving.cli.service_commands import require_free_port
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.live.verdict_log import letters_to_floats
from callsieve.training.oversight.log.audit_log import SignedLog
from callsieve.training.oversight.log.folder_log import folder_log
from callsieve.training.oversight.log.run_paths import sqlite_path

if TYPE_CHECKING:
    from callsieve.serving.cases.store import CaseStore

INTERVAL = 0.2  # seconds between two cycles of `watch`

CaseId = Annotated[str, Argument(metavar="CASE", help="Id of the case: 16 hex digits, as in the verdict.")]
Person = Annotated[str, Option("--person", help="Who decides: a name of a-z 0-9 _ . - for the audit log.")]
Reason = Annotated[str, Option("--why", help="Reason; the notice shows it to the caller.")]
RulesFile = Annotated[Path | None, Option("--rules", help="Rules of appeals; by default the shipped cases.toml.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Office:
    """The case store, the services whose verdicts it imports, and the rules."""

    store: str = "sqlite:///cases.db"
    state: StateFolders = None
    rules: RulesFile = None

    @contextmanager
    def opened(self) -> Iterator[CaseStore]:
        """Open the store with the new verdicts of the services; afterwards publish the cleared callers to them."""
        from callsieve.serving.cases.feed import import_verdicts, publish_cleared
        from callsieve.serving.cases.store import CaseError, CaseStore, DatabaseError

        folders = self.state or ()
        store = CaseStore(self.store, read_case_rules(self.rules), keep=read_retention().of("cases").ceiling)
        try:
            for folder in folders:
                import_verdicts(store, folder)
            yield store
            for folder in folders:
                publish_cleared(store, folder, now_ms())
        except DatabaseError as error:
            raise CaseError(f"case store: the database failed: {type(error).__name__}") from None
        finally:
            store.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionLog:
    """The audit log that records decisions, each with its reviewer."""

    audit_log: Path | None = None
    signing_key: Path | None = None

    def of(self, office: Office) -> SignedLog:
        """Returns the log of an office with the key that signs it."""
        store = sqlite_path(office.store)
        return folder_log(Path() if store is None else store.parent, self.signing_key, self.audit_log)


def show_queue(office: Office) -> Result:
    """List open appeals in the order of review, one line for each group of related appeals.

    Next: callsieve cases show.

    Example: callsieve cases list --store sqlite:///cases.db
    """
    with office.opened() as store:
        waiting = store.open_appeals(now_ms())
    first = {appeal.group: appeal for appeal in reversed(waiting)}
    rows = [
        (
            appeal.case,
            _moment(appeal.due) + (" overdue" if appeal.overdue else ""),
            f"{appeal.harm:.1f}",
            str(appeal.group),
            str(appeal.members),
            f"{appeal.voices} of {appeal.needs}",
        )
        for appeal in waiting
        if first[appeal.group] is appeal
    ]
    head = ("case", "answer until", "harm", "group", "appeals in group", "reviewers agreed")
    title = f"open appeals ({len(waiting)}, in {len(first)} groups)" if rows else "open appeals"
    return Result({"appeals": [asdict(appeal) for appeal in waiting]}, lambda: console.show_table(title, head, rows))


def show(case_id: CaseId, office: Office) -> Result:
    """Show the evidence of a verdict: model, policy, reasons, and the appeals against it.

    Next: callsieve cases decide.

    Example: callsieve cases show 0123456789abcdef --store sqlite:///cases.db
    """
    with office.opened() as store:
        case = store.find(case_id, now_ms())
    record = case.record
    facts = {name: getattr(record, name) for name in record.__slots__ if name not in ("raw", "vector")}
    facts |= {"raw": _finite(letters_to_floats(record.raw)[0]), "appeals": [asdict(appeal) for appeal in case.appeals]}
    names = ("score", "raw", "band", "status", "model", "policy", "content", "mode", "caller")
    lines = [f"case {case_id}: {facts['action']}, call of {_moment(record.at)}"]
    lines += [f"{name:<9}{facts[name]}" for name in names]
    for reason in (*record.rules, *record.reasons):
        lines.append(f"because  {reason.get('en', reason) if isinstance(reason, dict) else reason}")
    for appeal in case.appeals:
        lines.append(f"appeal {appeal.appeal} of {_moment(appeal.at)}: {appeal.state} ({appeal.ground})")
        for step in appeal.decisions:
            lines.append(f"  {_moment(step.at)} {step.person}: {step.outcome}: {step.why}")
    return Result(facts | {"vector": [_finite(value) for value in letters_to_floats(record.vector)]}, lines)


def appeal(
    case_id: CaseId,
    office: Office,
    ground: Annotated[str, Option(help="Ground of the appeal, one of those in the rules.")] = "other",
    words: Annotated[str, Option("--note", help="The caller's own words, without a telephone number.")] = "",
) -> Result:
    """Record an appeal, after you have verified that it comes from the owner of the number.

    Next: callsieve cases list.

    Example: callsieve cases appeal 0123456789abcdef --store sqlite:///cases.db
    """
    with office.opened() as store:
        entry = store.appeal(case_id, ground, words, now_ms())
    facts = {name: getattr(entry, name) for name in ("appeal", "case", "at", "due", "state")}
    return Result(facts, f"appeal {entry.appeal}: answer until {_moment(entry.due)}")


def decide(
    case_id: CaseId,
    outcome: Annotated[
        str, Argument(help="upheld: the verdict stays; overturned: calls of this caller pass from now on.")
    ],
    person: str,
    why: Reason,
    office: Office,
    log: DecisionLog,
) -> Result:
    """Record a decision on an appeal; the services of --state pass a cleared caller at once.

    Next: callsieve cases notice.

    Example: callsieve cases decide 0123456789abcdef overturned --person p1 --why 'a hospital'
    """
    signed_log = log.of(office)
    with office.opened() as store:
        appeal = store.decide(case_id, outcome, person, why, now_ms())
        decision = {"case": case_id, "outcome": outcome, "person": person, "why": why, "state": appeal.state}
        entry = signed_log.append("decision", decision)
    facts = {name: getattr(appeal, name) for name in ("appeal", "case", "state", "needs")}
    state = appeal.state
    words = f"still open; {appeal.needs} reviewers must agree on this group" if state == "open" else state
    return Result(facts | {"entry": entry}, f"appeal {appeal.appeal}: {words}; entry {entry} of the audit log")


def end_clearance(case_id: CaseId, person: str, why: Reason, office: Office, log: DecisionLog) -> Result:
    """End the clearance of a caller: its calls are scored again.

    Next: callsieve cases list.

    Example: callsieve cases end-clearance 0123456789abcdef --person p1 --why 'new complaints'
    """
    signed_log = log.of(office)
    with office.opened() as store:
        store.end_clearance(case_id, person, why, now_ms())
        signed_log.append("decision", {"case": case_id, "outcome": "clearance ended", "person": person, "why": why})
    return Result({"case": case_id, "ended": True}, f"case {case_id}: clearance ended")


def notice(case_id: CaseId, office: Office, lang: str = "zh", zone: str = "Asia/Shanghai") -> Result:
    """Print the notice to the caller: the verdict, its reasons, the ways to appeal, and the decision.

    Next: callsieve cases decide.

    Example: callsieve cases notice 0123456789abcdef --lang en
    """
    from callsieve.serving.cases.notice import notice as written

    with office.opened() as store:
        case = store.find(case_id, now_ms())
        clearances = [row for row in store.clearances() if row.caller == case.record.caller]
        text = written(case, store.rules, lang, zone, clearances[-1] if clearances else None)
    return Result({"case": case_id, "language": lang, "notice": text}, lambda: typer.echo(text, nl=False))


def replay(case_id: CaseId, bundle: Bundle, office: Office, trust: Trust = None, policy: PolicyFile = None) -> Result:
    """Score the stored vector of a case again and compare bit for bit; exit code 1 if something differs.

    Next: callsieve cases show.

    Example: callsieve cases replay 0123456789abcdef --bundle run/bundle --store sqlite:///cases.db
    """
    signer = read_public_key(signer_path(bundle, trust))
    scorer = Scorer.load(bundle, trusted=[signer], policy=read_policy(policy))
    with office.opened() as store:
        result = rescore(store.find(case_id, now_ms()).record, scorer)
    facts = {"equal": list(result.equal), "differences": list(result.differences)}
    lines = console.equality(result.equal, result.differences)
    return Result(facts, lines, failed=bool(result.differences))


def watch(office: Office) -> None:
    """Import the verdicts of running services and publish cleared callers to them, five times a second.

    Next: callsieve cases list.

    Example: callsieve cases watch --state state --store sqlite:///cases.db
    """
    from callsieve.serving.cases.feed import import_verdicts, publish_cleared

    folders = _folders(office, "watch")
    with office.opened() as store:
        while True:
            time.sleep(INTERVAL)
            for folder in folders:
                import_verdicts(store, folder)
                publish_cleared(store, folder, now_ms())


def serve(
    office: Office, keys: ApiKeys, log: DecisionLog, host: Host = "127.0.0.1", port: Port = 8081, json: bool = False
) -> None:
    """Do the work of `watch`, and accept appeals (scope appeal) and decisions (scope decide) over HTTP.

    The access log is in the first --state folder.

    Next: callsieve cases list.

    Example: callsieve cases serve --state state --keys api.keys --store sqlite:///cases.db
    """
    from callsieve.serving.cases.case_app import CaseService, case_application
    from callsieve.serving.http.access_log import CASE_ACCESSES, AccessLog
    from callsieve.serving.http.api_keys import read_keys
    from callsieve.serving.http.server import configured
    from callsieve.serving.live.service_log import log_to_stderr

    folders = _folders(office, "serve")
    require_free_port(host, port)
    log_to_stderr(json=json)
    signed_log = log.of(office)
    with office.opened() as store:
        accesses = AccessLog(folders[0], CASE_ACCESSES)
        service = CaseService(
            store,
            folders,
            read_keys(keys),
            now_ms,
            lambda decision: signed_log.append("decision", decision),
            accesses.note,
            accesses.close,
        )
        configured(case_application(service), host, port).run()


@console.private
def exclusions(
    out: Annotated[Path, Option("--out", help="Folder of calls for training; gets exclusions.parquet.")],
    store: str = "sqlite:///cases.db",
    rules: RulesFile = None,
) -> Result:
    """Write the cleared callers: training leaves them out, and evaluation counts them as innocent, from that day on.

    Next: callsieve train.

    Example: callsieve cases exclusions --out world --store sqlite:///cases.db
    """
    from callsieve.training.data.exclusions import write_cleared

    with Office(store=store, rules=rules).opened() as opened:
        facts = write_cleared(opened.clearances(), out)
    return Result(facts, f"{out}: {facts['excluded']} numbers excluded from training")


def _folders(office: Office, command: str) -> list[Path]:
    if not office.state:
        console.fail(f"cases {command}: expected --state FOLDER", code=2)
    return office.state


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(milliseconds / 1000))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
