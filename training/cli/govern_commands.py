"""The commands of `govern`: report, compliance, and those of `govern incident`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from callsieve.features.files.atomic import write_new
from callsieve.features.files.dates import parse_time
from callsieve.features.keys.tokens import read_key
from callsieve.serving.bundle.signing import AUDIT
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import Data, NumberKey, Out
from callsieve.training.language import language

from .log_options import ActOptions, LogOptions, Period, Permission, Request
from .privacy_commands import token_on_stdin

CanaryKey = Annotated[Path, Option("--key", help="Key file (purpose canaries) that gives the canary numbers.")]
State = Annotated[Path, Option("--planted", help="File that lists the datasets with canaries; it has no number.")]
CANARIES = 20  # in a copy
StoreKey = Annotated[Path | None, Option("--store-key", help="Key file that made the tokens in the stored data.")]


def report(
    data: Data,
    out: Out,
    period: Period,
    callees: Annotated[int, Option(min=1, help="Fewest distinct called numbers behind a count.")] = 10,
    callers: Annotated[int, Option(min=1, help="Fewest distinct callers behind a count.")] = 5,
    past: Annotated[
        Path | None,
        Option("--past", help="File of the counts of earlier reports, without tokens; this report adds its own."),
    ] = None,
    lang: str = "zh",
    *,
    bundle: Annotated[
        Path | None, Option("--bundle", help="Model (bundle) that gave the verdicts, if it is not the shipped one.")
    ] = None,
) -> Result:
    """Write the governance report: rounded counts of calls by connecting party, trunk, industry and regulator.

    Next: callsieve govern compliance.

    Example: callsieve govern report --data world --out report
    """
    from callsieve.training.oversight.governance.report import write_report

    if bundle is not None and period.verdicts is None:
        console.fail("govern report: --bundle: expected --verdicts, too", code=2)
    with console.progress("govern report") as progress, language(lang):
        figures = write_report(
            data,
            console.new_folder(out),
            verdicts=period.verdicts,
            bundle=bundle,
            until=period.until,
            days=period.days,
            least={"callee": callees, "caller": callers},
            past=past,
            progress=progress,
        )

    def show() -> None:
        rows = [(name, f"{len(table):,}") for name, table in figures["tables"].items()]
        console.show_table(f"rows shown for {figures['now']}", ("table", "rows"), rows)
        console.say(f"{out / 'report.html'}: written")

    return Result(figures, show)


@console.private
def parties(
    data: Data,
    request: Request,
    log: LogOptions,
    permission: Permission,
    out: Annotated[Path, Option("--out", help="New Parquet file: one row for each operator and trunk.")],
    period: Period,
) -> Result:
    """Count the calls of each operator and trunk exactly, for internal use; needs a ticket, and is recorded in the log.

    The ticket comes from `callsieve privacy ticket parties`. Names are those of the registers beside the calls.

    Next: callsieve privacy reidentify.

    Example: callsieve govern parties --data world --purpose audit --person p1 --ticket ticket.json --gates gates.toml
    --out parties.parquet --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.governance import party_audit

    with console.progress("govern parties"):
        opened = party_audit.open_audit(data, period.verdicts, period.until, period.days)
        act = party_audit.audit_act(opened, request.purpose, request.person)
        facts = party_audit.write_audit(opened, act, out, data, permission.control(log.signed()))
    text = f"{out}: {facts['operator']} operators, {facts['trunk']} trunks; entry {facts['entry']} of the audit log"
    return Result(facts, text)


CalendarFile = Annotated[
    Path | None, Option("--calendar", help="TOML file with the State Council's notices of further years.")
]


def complaints_list(
    data: Data,
    regulator: Annotated[
        str | None, Option("--regulator", help="Only complaints for this regulator, such as finance.")
    ] = None,
    calendar: CalendarFile = None,
) -> Result:
    """List complaints with their class, regulator, status and deadline; exit code 1 if one is overdue.

    Next: callsieve govern complaints enter.

    Example: callsieve govern complaints list --data world --regulator finance
    """
    from callsieve.training.oversight.governance.complaint_desk import complaints_of
    from callsieve.training.oversight.governance.working_days import read_working_days

    rows = complaints_of(data, regulator=regulator, calendar=read_working_days(calendar))
    names = ("complaint", "work_order", "at", "category", "plan_class", "regulator", "status")
    lines = [
        (
            *(str(dict(row)[name] or "") for name in names),
            f"{row['dispatch'] or row['answer'] or ''}{' overdue' * row['overdue']}",
        )
        for row in rows
    ]
    return Result(
        {"complaints": rows},
        lambda: console.show_table(f"{len(rows):,} complaints", (*names, "due"), lines, texts=len(names) + 1),
        failed=any(row["overdue"] for row in rows),
    )


@console.private
def complaints_enter(
    complaint: Annotated[str, Argument(help="Id of the complaint, from `govern complaints list`.")],
    status: Annotated[Literal["dispatched", "answered"], Argument(help="The next step: dispatched or answered.")],
    data: Data,
    act: ActOptions,
    note: Annotated[str, Option("--note", help="What was done; the person who complained reads it.")] = "",
    calendar: CalendarFile = None,
) -> Result:
    """Record that a complaint was passed on to its regulator or operator, or answered.

    The audit log in the folder records the step with the person.

    Next: callsieve govern complaints status.

    Example: callsieve govern complaints enter abcdefghijklmnop dispatched --data world --person p1
    """
    from callsieve.training.oversight.governance.complaint_desk import Step, enter
    from callsieve.training.oversight.governance.working_days import read_working_days

    step = Step(complaint, status, note)
    row = enter(data, step, act.log(data), calendar=read_working_days(calendar))
    return Result(row, f"{complaint}: {row['status']}")


def complaints_status(data: Data, key: NumberKey, calendar: CalendarFile = None) -> Result:
    """Print the status of the complaints of the person whose number is on standard input, in Chinese and English.

    Next: callsieve privacy find.

    Example: callsieve govern complaints status --data world --key number.key
    """
    from callsieve.training.oversight.governance.complaint_desk import complaints_of, notice
    from callsieve.training.oversight.governance.working_days import read_working_days

    rows = complaints_of(data, reporter=token_on_stdin(key), calendar=read_working_days(calendar))
    notices = [{language: notice(row, language) for language in ("zh", "en")} | row for row in rows]
    lines = [f"{row['complaint']}\n{row['zh']}\n{row['en']}" for row in notices]
    return Result({"complaints": notices}, lines or "no complaint of this number")


Party = Annotated[str, Argument(help="Name of the party, as the register and the report write it.")]


@console.private
def rectification_order(
    party: Party,
    data: Data,
    act: ActOptions,
    why: Annotated[str, Option("--why", help="What is to be remedied.")],
    days: Annotated[int, Option("--days", min=1, help="Working days until the deadline.")] = 15,
    calendar: CalendarFile = None,
) -> Result:
    """Order a party to remedy something (整改) within a number of working days; the audit log in the folder records it.

    Next: callsieve govern rectification list.

    Example: callsieve govern rectification order "示例电信" --why "举报率居首" --data world --person p1
    """
    from callsieve.training.oversight.governance.rectification import order
    from callsieve.training.oversight.governance.working_days import read_working_days

    row = order(act.log(data), party, why, days, read_working_days(calendar))
    return Result(row, f"{party}: until {row['due']}")


@console.private
def rectification_recheck(
    party: Party,
    outcome: Annotated[Literal["remedied", "not-remedied"], Argument(help="Result: remedied or not-remedied.")],
    data: Data,
    act: ActOptions,
    note: Annotated[str, Option("--note", help="What was checked.")] = "",
) -> Result:
    """Record a re-check (复查) of a party with an open order; remedied closes the order.

    Next: callsieve govern rectification list.

    Example: callsieve govern rectification recheck "示例电信" remedied --data world --person p1
    """
    from callsieve.training.oversight.governance.rectification import recheck

    row = recheck(act.log(data), party, outcome, note)
    return Result(row, f"{party}: {row['state']}")


def rectification_list(data: Data) -> Result:
    """List the orders of rectification with their deadlines and re-checks; exit code 1 if one is overdue.

    Next: callsieve govern rectification recheck.

    Example: callsieve govern rectification list --data world
    """
    from callsieve.training.oversight.governance.rectification import rectifications

    rows = sorted(rectifications(data / AUDIT), key=lambda row: (row["state"], row["due"]))
    names = ("party", "reason", "ordered", "due", "state")
    lines = [
        (*(str(dict(row)[name]) for name in names), str(len(row["rechecks"])), "overdue" * row["overdue"])
        for row in rows
    ]
    head = (*names, "re-checks", "")
    return Result(
        {"orders": rows},
        lambda: console.show_table(f"{len(rows):,} orders", head, lines, texts=len(names)),
        failed=any(row["overdue"] for row in rows),
    )


def compliance(
    data: Annotated[list[Path] | None, Option("--data", help="Folder of calls; repeat for several.")] = None,
    audit_log: Path | None = None,
    key: Annotated[
        list[Path] | None, Option("--key", help="Key file that turns numbers into tokens; repeat for several.")
    ] = None,
    keys: Annotated[Path | None, Option("--keys", help="File of API keys; see `callsieve live api-key`.")] = None,
    assessment: Annotated[
        Path | None,
        Option("--assessment", help="New Markdown file: an impact assessment (个人信息保护影响评估) to fill in."),
    ] = None,
) -> Result:
    """Print the records of processing, and which legal duties are met; exit code 1 if one is broken.

    Next: callsieve privacy retention.

    Example: callsieve govern compliance --data world --audit audit
    """
    from callsieve.training.oversight.governance import compliance as checked

    from . import terminal_tables

    result = checked.report(checked.AuditScope(tuple(data or ()), audit_log, tuple(key or ()), keys))
    if assessment is not None:
        write_new(assessment, checked.assessment(result).encode())
    return Result(result, lambda: terminal_tables.duties(result), failed=not result["holds"])


def drill(
    record: Annotated[
        Path, Argument(help="What happened (TOML); see training/oversight/governance/incident.toml for the form.")
    ],
    out: Out,
) -> Result:
    """Write incident.json and the notices: affected datasets, keys, epochs, number of people, and deadlines.

    Next: callsieve privacy key rotate.

    Example: callsieve govern incident drill incident.toml --out drill
    """
    from callsieve.training.oversight.governance.incident import drill as run

    facts = run(record, console.new_folder(out))
    epochs = ", ".join(sorted(facts["epochs"])) or "none"
    lines = [
        f"{len(facts['datasets'])} datasets, {facts['call_records']:,} call records",
        f"at most {facts['people_at_most']:,} people; epochs {epochs}",
        *(f"{moment}  {name}" for name, moment in facts["clocks"].items()),
        *(
            f"the key of epoch {epoch} leaked, too: its tokens can be turned into numbers"
            for epoch in facts["readable_epochs"]
        ),
    ]
    return Result(facts, lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryCopy:
    """The calls that are copied with canaries among them."""

    calls: Annotated[
        Path | None, Option("--calls", help="Keyed calls (Parquet) to copy; by default call records are printed.")
    ] = None
    store_key: StoreKey = None
    out: Annotated[Path | None, Option("--out", help="With --calls: new file for the copy.")] = None


def plant(
    key: CanaryKey,
    name: Annotated[str, Option(help="Name of the copy; each recipient gets a copy of its own.")],
    copy: CanaryCopy,
    state: State = Path("canaries.json"),
    first: Annotated[str | None, Option(help="Without --calls: first moment, such as 2026-03-01T00:00:00Z.")] = None,
    last: Annotated[str | None, Option(help="Without --calls: last moment.")] = None,
) -> Result:
    """Write a copy of keyed calls with calls of invented numbers (canaries) in it, or print such calls.

    Next: callsieve govern incident search-canaries.

    Example: callsieve govern incident plant-canaries --key canary.key --name march
    """
    from callsieve.training.oversight.governance import canaries

    secret, planted = read_key(key, "canaries"), canaries.Canaries(name, CANARIES)
    facts = {"dataset": name, "canaries": CANARIES}
    if copy.calls is not None and copy.store_key is not None and copy.out is not None:
        rows = canaries.plant(copy.calls, copy.out, secret, read_key(copy.store_key), planted, state)
        return Result(facts | {"rows": rows}, f"{copy.out}: {rows:,} calls, {CANARIES} canaries of {name} among them")
    if copy.calls is not None or first is None or last is None:
        console.fail("plant-canaries: expected --calls with --store-key and --out, or --first and --last", code=2)
    begin, end = parse_time(first, "--first").timestamp(), parse_time(last, "--last").timestamp()
    canaries.add_to_state(state, planted)
    lines = list(canaries.raw_lines(secret, planted, begin, end))
    return Result(facts | {"lines": lines}, lambda: typer.echo("\n".join(lines)))


def search(
    file: Annotated[Path, Argument(help="List from outside: text, plain or gzip, or Parquet.")],
    key: CanaryKey,
    state: State = Path("canaries.json"),
    store_key: StoreKey = None,
) -> Result:
    """Search a list for planted canaries, and name the dataset that leaked; exit code 1 if one is found.

    Next: callsieve govern incident drill.

    Example: callsieve govern incident search-canaries list.txt --key canary.key
    """
    from callsieve.training.oversight.governance import canaries

    result = canaries.search(file, read_key(key, "canaries"), state, None if store_key is None else read_key(store_key))
    rows = result["datasets"]
    lines = [f"{row['dataset']}: {row['found']} of {row['planted']} canaries found" for row in rows]
    leaked = any(row["found"] for row in rows)
    return Result(result, [*lines, f"{result['lines']:,} lines read"], failed=leaked)
