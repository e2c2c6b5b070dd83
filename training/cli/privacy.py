"""Commands of keeping: what a folder is for, what is past its time, one person's rows, tickets. Thin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from callsieve.features.files.dates import days_ahead, unix_now
from callsieve.serving.cli.options import CalleesKey, Json, Log, LogKey

commands = typer.Typer()
dataset = typer.Typer(no_args_is_help=True, help="What a folder of calls may be used for.")
retention = typer.Typer(no_args_is_help=True, help="Rows past their time.")
subject = typer.Typer(no_args_is_help=True, help="One person's rows; the number comes on standard input.")
ticket = typer.Typer(no_args_is_help=True, help="Agreement to what one person alone must not do with people's data.")
for name, more in (("dataset", dataset), ("retention", retention), ("subject", subject), ("ticket", ticket)):
    commands.add_typer(more, name=name)

Data = Annotated[Path, typer.Option("--data", help="Folder of keyed calls and what is beside them (Parquet).")]
Rules = Annotated[Path | None, typer.Option("--rules", help="Rules of retention; the shipped ones by default.")]
Store = Annotated[str | None, typer.Option("--store", envvar="CALLSIEVE_CASES", help="Address of the store of cases.")]
State = Annotated[Path | None, typer.Option("--state", help="Folder of live state of a scorer.")]
Verdicts = Annotated[list[Path] | None, typer.Option("--verdicts", help="File that score --out wrote; once for each.")]
RegisterFolders = Annotated[
    list[Path] | None, typer.Option("--registers", help="Folder that `callsieve registers` wrote; once for each.")
]
NumberKey = Annotated[Path, typer.Option("--key", help="Key file of the tokens of numbers.")]
GatesFile = Annotated[Path | None, typer.Option("--gates", help="Gates file that names who may agree.")]
Tickets = Annotated[list[Path] | None, typer.Option("--ticket", help="File of a ticket; once for each.")]
Purpose = Annotated[str, typer.Option(help="What for, for the log.")]
Person = Annotated[str, typer.Option(help="Who asks, for the log.")]
First = Annotated[str, typer.Option("--first", help="First UTC day, such as 2026-03-01.")]
Last = Annotated[str, typer.Option("--last", help="Last UTC day.")]


@dataset.command()
def declare(
    folder: Annotated[Path, typer.Argument(help="Folder of calls or registers.")],
    source: Annotated[str, typer.Option(help="Where the rows come from.")],
    basis: Annotated[str, typer.Option(help="Legal basis on which they are held.")],
    purpose: Annotated[list[str], typer.Option(help="What they may be used for; once for each.")],
    until: Annotated[str, typer.Option(help="Last UTC day on which they may, such as 2027-01-31.")],
    json: Json = False,
) -> None:
    """Say where the rows of a folder come from and what for they may be used; without it, readers refuse its files."""
    from dataclasses import asdict

    from callsieve.serving.cli import console
    from callsieve.serving.custody import purposes

    told = asdict(purposes.declare(folder, source, basis, purpose, until))
    console.emit_json(told) if json else console.say(f"{folder}: for {', '.join(told['purposes'])}, until {until}")


@retention.command("run")
def run_retention(
    audit: Log,
    signing_key: LogKey,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of keyed calls.")] = None,
    store: Store = None,
    state: State = None,
    verdicts: Verdicts = None,
    registers: RegisterFolders = None,
    rules: Rules = None,
    json: Json = False,
) -> None:
    """Erase what is past its time, and prove it: rows and hashes before and after, in the audit log. Exit code 1 if
    something is left."""
    from callsieve.serving.cli import console
    from callsieve.training.privacy.deletion import run_all

    with console.progress("retention run") as tell:
        report = run_all(
            audit, signing_key, data, store, state, rules, unix_now(), verdicts or (), registers or (), tell
        )
    if json:
        console.emit_json(report)
    else:
        rows = [(file, str(one.get("erased", "file")), str(one.get("past_their_time", 0)))
                for file, one in report["files"].items()]  # fmt: skip
        console.show_table("erased", ("table", "rows erased", "left past their time"), rows)
        console.say(f"entry {report['entry']} of the audit log")
    if report["left"]:
        sys.exit(1)


@subject.command("find")
def find_subject(data: Data, key: NumberKey, rules: Rules = None, json: Json = False) -> None:
    """Count a person's rows by table."""
    from callsieve.serving.cli import console
    from callsieve.serving.custody.retention import read_retention
    from callsieve.training.privacy.subject import find

    token = _token(key)
    with console.progress("subject find") as tell:
        found = find(data, token, read_retention(rules), unix_now(), tell)
    _show(found, json=json, console=console)


@subject.command("delete")
def delete_subject(
    data: Data,
    key: NumberKey,
    why: Annotated[str, typer.Option(help="Reason, for the log.")],
    audit: Log,
    signing_key: LogKey,
    store: Store = None,
    state: Annotated[
        list[Path] | None, typer.Option("--state", help="Live state of a scorer, running or not; once for each.")
    ] = None,
    verdicts: Verdicts = None,
    registers: RegisterFolders = None,
    callees_key: CalleesKey = None,
    rules: Rules = None,
    json: Json = False,
) -> None:
    """Delete a person's rows, exclude the number from later trainings, and name the models that learnt from them, and
    what stays, why and until when."""
    from callsieve.serving.batch.output_keys import read_callee_keys
    from callsieve.serving.cli import console
    from callsieve.training.privacy.deletion import delete_everywhere

    token = _token(key)
    with console.progress("subject delete") as tell:
        report = delete_everywhere(
            data, token, why, audit, signing_key, store, state or (), rules, unix_now(), verdicts or (),
            registers or (), read_callee_keys(callees_key), tell,
        )  # fmt: skip
    if json:
        console.emit_json(report)
        return
    _show(report["files"], json=False, console=console)
    for one in report["models"]:
        console.say(f"model {one['model']}, run {one['run']}: trained on {one['why']}")
    for name, seconds in report["scorers"].items():
        console.say(f"scorer {name}: forgot the number within {seconds:.1f} s")
    for one in report["stays"]:
        until = f", until {one['until']}" if one["until"] else ""
        console.say(f"stays    {one['where']}: {one['rows']} rows: {one['why']}{until}")
    console.say(f"entry {report['entry']} of the audit log")


@ticket.command("export")
def ask_export(
    data: Data, first: First, last: Last, purpose: Purpose, person: Person,
    out: Annotated[Path, typer.Option(help="New file for those who are asked to agree.")],
    json: Json = False,
) -> None:  # fmt: skip
    """Write down which calls somebody wants to export."""
    from callsieve.serving.cli import console
    from callsieve.training.log.tickets import write_act
    from callsieve.training.privacy import exports

    with console.progress("ticket export") as tell:
        act = exports.export_act(exports.chosen(data, first, last, tell), purpose, person, tell)
    write_act(act, out)
    facts = {"act": act.act, "rows": act.count, "out": str(out)}
    console.emit_json(facts) if json else console.say(f"{out}: {act.act}, {act.count} rows")


@ticket.command("reidentify")
def ask_reidentify(
    token: Annotated[list[str], typer.Argument(help="Tokens.")], purpose: Purpose, person: Person,
    out: Annotated[Path, typer.Option(help="New file for those who are asked to agree.")],
    json: Json = False,
) -> None:  # fmt: skip
    """Write down whose tokens somebody wants to know."""
    from callsieve.serving.cli import console
    from callsieve.training.log.tickets import write_act
    from callsieve.training.privacy import exports

    act = exports.reidentify_act(token, purpose, person)
    write_act(act, out)
    facts = {"act": act.act, "tokens": act.count, "out": str(out)}
    console.emit_json(facts) if json else console.say(f"{out}: {act.act}, {act.count} tokens")


@ticket.command()
def agree(
    act: Annotated[Path, typer.Argument(help="File of what somebody wants to do.")],
    key: Annotated[Path, typer.Option(help="One's own Ed25519 key (PEM), which the gates must name.")],
    out: Annotated[Path, typer.Option(help="New file for the ticket.")],
    days: Annotated[float, typer.Option(help="How long it may be used.")] = 7.0,
    json: Json = False,
) -> None:
    """Agree to an act with one's key."""
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.training.log.tickets import approve, read_act

    wanted = read_act(act)
    by = approve(wanted, read_signing_key(key), out, days_ahead(days))
    facts = {"key": by, "act": wanted.act, "rows": wanted.count, "person": wanted.person, "purpose": wanted.purpose}
    console.emit_json(facts | {"out": str(out)}) if json else console.say(
        f"{out}: key {by} agrees to {wanted.act}, {wanted.count} rows, for {wanted.person}: {wanted.purpose}"
    )


@commands.command("export-calls")
def export_calls(
    data: Data, first: First, last: Last, purpose: Purpose, person: Person,
    out: Annotated[Path, typer.Option(help="New Parquet file for the calls.")],
    audit: Log, signing_key: LogKey, gates: GatesFile = None, tickets: Tickets = None, callees_key: CalleesKey = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Export keyed calls; 500 or more only with a ticket. Each export is in the audit log."""
    from callsieve.features.files.progress import steps
    from callsieve.serving.batch.output_keys import callee_keys_or_temporary
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.training.log.gates import read_gates
    from callsieve.training.log.tickets import EXPORT, Act, refusals_entered
    from callsieve.training.privacy import exports

    log_key, hidden = read_signing_key(signing_key), callee_keys_or_temporary(callees_key)
    with console.progress("export-calls") as tell:
        inside = steps(tell, {"calls": 2, "file": 1})
        with refusals_entered(audit, Act(EXPORT, "", 0, purpose, person), log_key):
            calls = exports.chosen(data, first, last, inside["calls"])
        act = exports.export_act(calls, purpose, person, inside["calls"])
        entry = exports.export(calls, act, data, out, hidden, audit, tickets or (), read_gates(gates), log_key)
        inside["file"]("write", 1.0)
    facts: dict[str, Any] = {"rows": act.count, "sha256": act.what, "entry": entry}
    console.emit_json(facts) if json else console.say(f"{out}: {act.count} calls; entry {entry} of the audit log")


@commands.command()
def reidentify(
    token: Annotated[list[str], typer.Argument(help="Tokens.")], purpose: Purpose, person: Person,
    key: NumberKey, audit: Log, signing_key: LogKey, tickets: Tickets = None, gates: GatesFile = None,
    callees_key: CalleesKey = None, json: Json = False,
) -> None:  # fmt: skip
    """Print whose tokens these are, of the numbers on standard input; needs two tickets, and is in the audit log."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.batch.output_keys import read_callee_keys
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.training.log.gates import read_gates
    from callsieve.training.privacy import exports

    act = exports.reidentify_act(token, purpose, person)
    lines = (line.strip() for line in sys.stdin)
    given = (
        read_key(key),
        read_callee_keys(callees_key),
        audit,
        tickets or (),
        read_gates(gates),
        read_signing_key(signing_key),
    )
    numbers = exports.reidentify(token, lines, act, *given)
    if json:
        console.emit_json({"numbers": [{"token": found, "number": number} for found, number in numbers]})
        return
    for found, number in numbers:
        typer.echo(f"{found}\t{number}")


def _token(key: Path) -> str:
    """The token of the number on standard input: on the command line others could see it."""
    from callsieve.features.intake.intake import Intake
    from callsieve.features.keys.tokens import read_key

    written = sys.stdin.readline().strip()
    if not written:
        raise ValueError("subject: expected a number on standard input")
    return Intake(read_key(key)).token("number", written) or ""


def _show(files: dict[str, dict[str, Any]], *, json: bool, console: Any) -> None:
    if json:
        console.emit_json({"files": files})
        return
    rows = [(name, str(one["rows"]), str(one["kept"])) for name, one in files.items()]
    console.show_table("rows", ("table", "rows", "must be kept for now"), rows)
