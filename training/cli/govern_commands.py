"""The commands of `govern`: report, compliance, and those of `govern incident`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import Data, Json, Lang, LogOptions, NumberKey, Out

from .disclosure_commands import Period, Permission, Request

CanaryKey = Annotated[Path, typer.Option("--key", help="Key file (purpose canaries) that gives the canary numbers.")]
State = Annotated[Path, typer.Option("--planted", help="File that lists the datasets with canaries; it has no number.")]
StoreKey = Annotated[Path | None, typer.Option("--store-key", help="Key file that made the tokens in the stored data.")]


class Step(Enum):
    """A step of a complaint that can be entered."""

    DISPATCHED = "dispatched"
    ANSWERED = "answered"


def report(
    data: Data,
    out: Out,
    period: Period,
    callees: Annotated[int, typer.Option(min=1, help="Fewest distinct called numbers behind a count.")] = 10,
    callers: Annotated[int, typer.Option(min=1, help="Fewest distinct callers behind a count.")] = 5,
    lang: Lang = "zh",
    json: Json = False,
) -> None:
    """Write the governance report: rounded counts of calls by connecting party, trunk, industry and regulator.

    Next: callsieve govern compliance.

    Example: callsieve govern report --data world --out report
    """
    from callsieve.training.language import language
    from callsieve.training.oversight.governance.report import write_report

    with console.progress("govern report") as progress, language(lang):
        figures = write_report(
            data,
            console.new_folder(out),
            verdicts=period.verdicts,
            until=period.until,
            days=period.days,
            least={"callee": callees, "caller": callers},
            progress=progress,
        )
    if json:
        console.emit_json(figures)
        return
    rows = [(name, f"{len(table):,}") for name, table in figures["tables"].items()]
    console.show_table(f"rows shown for {figures['now']}", ("table", "rows"), rows)
    console.say(f"{out / 'report.html'}: written")


def parties(
    data: Data,
    request: Request,
    log: LogOptions,
    permission: Permission,
    out: Annotated[Path, typer.Option("--out", help="New Parquet file: one row for each operator and trunk.")],
    period: Period,
    json: Json = False,
) -> None:
    """Count the calls of each operator and trunk exactly, for internal use; needs a ticket, and is recorded in the log.

    The ticket comes from `callsieve privacy ticket parties`. `callsieve privacy reidentify` turns a token into a name.

    Next: callsieve privacy reidentify.

    Example: callsieve govern parties --data world --purpose audit --person p1 --ticket ticket.json --gates gates.toml
    --out parties.parquet --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.governance import party_audit
    from callsieve.training.oversight.log.audit_log import SignedLog
    from callsieve.training.oversight.log.gates import read_gates
    from callsieve.training.oversight.log.tickets import AccessControl

    with console.progress("govern parties"):
        opened = party_audit.open_audit(data, period.verdicts, period.until, period.days)
        act = party_audit.audit_act(opened, request.purpose, request.person)
        gates, signed_log = read_gates(permission.gates), SignedLog.of(log.audit, log.signing_key)
        control = AccessControl(signed_log, gates, permission.ticket or ())
        facts = party_audit.write_audit(opened, act, out, data, control)
    text = f"{out}: {facts['operator']} operators, {facts['trunk']} trunks; entry {facts['entry']} of the audit log"
    console.emit_json(facts) if json else console.say(text)


def complaints_list(
    data: Data,
    regulator: Annotated[
        str | None, typer.Option("--regulator", help="Only complaints for this regulator, such as finance.")
    ] = None,
    json: Json = False,
) -> None:
    """List complaints with their class, regulator, status and deadline; exit code 1 if one is overdue.

    Next: callsieve govern complaints enter.

    Example: callsieve govern complaints list --data world --regulator finance
    """
    from callsieve.training.oversight.governance.complaint_desk import complaints_of

    rows = complaints_of(data, regulator=regulator)
    if json:
        console.emit_json({"complaints": rows})
    else:
        names = ("complaint", "at", "category", "plan_class", "regulator", "status")
        lines = [
            (
                *(str(row[name]) for name in names),
                f"{row['dispatch'] or row['answer'] or ''}{' overdue' * row['overdue']}",
            )
            for row in rows
        ]
        console.show_table(f"{len(rows):,} complaints", (*names, "due"), lines, texts=len(names) + 1)
    if any(row["overdue"] for row in rows):
        sys.exit(1)


def complaints_enter(
    complaint: Annotated[str, typer.Argument(help="Id of the complaint, from `govern complaints list`.")],
    status: Annotated[Step, typer.Argument(help="The next step: dispatched or answered.")],
    data: Data,
    note: Annotated[str, typer.Option("--note", help="What was done; the person who complained reads it.")] = "",
    json: Json = False,
) -> None:
    """Record that a complaint was passed on to its regulator or operator, or answered.

    Next: callsieve govern complaints status.

    Example: callsieve govern complaints enter abcdefghijklmnop dispatched --data world
    """
    from callsieve.training.oversight.governance.complaint_desk import enter

    row = enter(data, complaint, status.value, note)
    console.emit_json(row) if json else console.say(f"{complaint}: {row['status']}")


def complaints_status(data: Data, key: NumberKey, json: Json = False) -> None:
    """Print the status of the complaints of the person whose number is on standard input, in Chinese and English.

    Next: callsieve privacy find.

    Example: callsieve govern complaints status --data world --key number.key
    """
    from callsieve.training.oversight.governance.complaint_desk import complaints_of, notice

    from .privacy_commands import token_on_stdin

    rows = complaints_of(data, reporter=token_on_stdin(key))
    notices = [{language: notice(row, language) for language in ("zh", "en")} | row for row in rows]
    if json:
        console.emit_json({"complaints": notices})
        return
    if not notices:
        console.say("no complaint of this number")
    for row in notices:
        console.say(f"{row['complaint']}\n{row['zh']}\n{row['en']}")


def compliance(
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder of calls; repeat for several.")] = None,
    audit: Annotated[Path | None, typer.Option("--audit", help="Folder of the audit log.")] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Key file that turns numbers into tokens; repeat for several.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="File of API keys; see `callsieve live api-key`.")] = None,
    json: Json = False,
) -> None:
    """Print the records of processing, and which legal duties are met; exit code 1 if one is broken.

    Next: callsieve privacy retention.

    Example: callsieve govern compliance --data world --audit audit
    """
    from callsieve.training.oversight.governance.compliance import AuditScope, report

    from .tables import checks

    result = report(AuditScope(tuple(data or ()), audit, tuple(key or ()), keys))
    console.emit_json(result) if json else checks.duties(result)
    if not result["holds"]:
        sys.exit(1)


def drill(
    record: Annotated[
        Path, typer.Option(help="What happened (TOML); see training/oversight/governance/incident.toml for the form.")
    ],
    out: Out,
    json: Json = False,
) -> None:
    """Write incident.json and the notices: affected datasets, keys, epochs, number of people, and deadlines.

    Next: callsieve privacy key rotate.

    Example: callsieve govern incident drill --record incident.toml --out drill
    """
    from callsieve.training.oversight.governance.incident import drill as run

    facts = run(record, console.new_folder(out))
    if json:
        console.emit_json(facts)
        return
    epochs = ", ".join(sorted(facts["epochs"])) or "none"
    console.say(f"{len(facts['datasets'])} datasets, {facts['call_records']:,} call records")
    console.say(f"at most {facts['people_at_most']:,} people; epochs {epochs}")
    for name, moment in facts["clocks"].items():
        console.say(f"{moment}  {name}")
    for epoch in facts["readable_epochs"]:
        console.say(f"the key of epoch {epoch} leaked, too: its tokens can be turned into numbers")


def plant(
    key: CanaryKey,
    dataset: Annotated[str, typer.Option(help="Name of the copy; each recipient gets a copy of its own.")],
    calls: Annotated[
        Path | None, typer.Option("--calls", help="Keyed calls (Parquet) to copy; by default call records are printed.")
    ] = None,
    store_key: StoreKey = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --calls: new file for the copy.")] = None,
    state: State = Path("canaries.json"),
    count: Annotated[int, typer.Option(min=1, help="Number of canaries.")] = 20,
    since: Annotated[
        str | None, typer.Option(help="Without --calls: first moment, such as 2026-03-01T00:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Without --calls: last moment.")] = None,
    json: Json = False,
) -> None:
    """Write a copy of keyed calls with calls of invented numbers (canaries) in it, or print such calls.

    Next: callsieve govern incident search-canaries.

    Example: callsieve govern incident plant-canaries --key canary.key --dataset march
    """
    from callsieve.features.files.dates import parse_time
    from callsieve.features.keys.tokens import read_key
    from callsieve.training.oversight.governance import canaries

    secret, planted = read_key(key, "canaries"), canaries.Canaries(dataset, count)
    if calls is not None and store_key is not None and out is not None:
        rows = canaries.plant(calls, out, secret, read_key(store_key), planted, state)
        facts = {"dataset": dataset, "canaries": count, "rows": rows}
        text = f"{out}: {rows:,} calls, {count} canaries of {dataset} among them"
        console.emit_json(facts) if json else console.say(text)
        return
    if calls is not None or since is None or until is None:
        console.fail("plant-canaries: expected --calls with --store-key and --out, or --since and --until", code=2)
    first, last = parse_time(since, "--since").timestamp(), parse_time(until, "--until").timestamp()
    canaries.add_to_state(state, planted)
    lines = canaries.raw_lines(secret, planted, first, last)
    if json:
        console.emit_json({"dataset": dataset, "canaries": count, "lines": list(lines)})
        return
    for line in lines:
        typer.echo(line)


def search(
    file: Annotated[Path, typer.Argument(help="List from outside: text, plain or gzip, or Parquet.")],
    key: CanaryKey,
    state: State = Path("canaries.json"),
    store_key: StoreKey = None,
    json: Json = False,
) -> None:
    """Search a list for planted canaries, and name the dataset that leaked; exit code 1 if one is found.

    Next: callsieve govern incident drill.

    Example: callsieve govern incident search-canaries list.txt --key canary.key
    """
    from callsieve.features.keys.tokens import read_key
    from callsieve.training.oversight.governance import canaries

    result = canaries.search(file, read_key(key, "canaries"), state, None if store_key is None else read_key(store_key))
    if json:
        console.emit_json(result)
    else:
        for row in result["datasets"]:
            console.say(f"{row['dataset']}: {row['found']} of {row['planted']} canaries found")
        console.say(f"{result['lines']:,} lines read")
    if any(row["found"] for row in result["datasets"]):
        sys.exit(1)
