"""The commands that hand personal data out: export and reidentify, and the tickets that they need."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from callsieve.features.files.dates import checked_days
from callsieve.serving.cli import console
from callsieve.serving.cli.options import (
    CalleesKey,
    Data,
    GatesFile,
    Json,
    LogOptions,
    NumberKey,
    SigningKey,
    ValidDays,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The requester of a disclosure and the purpose."""

    purpose: Annotated[str, typer.Option("--purpose", help="Purpose, for the audit log.")]
    person: Annotated[str, typer.Option("--person", help="Who asks, for the audit log.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The days of an export, and the table of their calls."""

    first: Annotated[str, typer.Option("--first", help="First UTC day, such as 2026-03-01.")]
    last: Annotated[str, typer.Option("--last", help="Last UTC day.")]
    for_tracing: Annotated[
        bool,
        typer.Option("--held", help="Read held.parquet, which `callsieve privacy hold` wrote, instead of the calls."),
    ] = False

    @property
    def table(self) -> str:
        """Returns the name of the table of the calls."""
        return "held" if self.for_tracing else "calls"


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """The days of a report or an audit, and the verdicts on their calls."""

    verdicts: Annotated[
        Path | None, typer.Option("--verdicts", help="File that `callsieve score --out` wrote for these calls.")
    ] = None
    until: Annotated[
        str | None, typer.Option("--until", help="Local date after the last day; by default after the last call.")
    ] = None
    days: Annotated[int, typer.Option("--days", min=1, help="Number of days; compared with as many days before.")] = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    """The tickets that permit an act, and the gates that name who may agree."""

    gates: GatesFile = None
    ticket: Annotated[
        list[Path] | None, typer.Option("--ticket", help="File that `privacy ticket agree` wrote; repeat for several.")
    ] = None


Tokens = Annotated[
    list[str], typer.Argument(metavar="TOKEN...", help="Tokens of numbers, blocks, operators or trunks.")
]
ActFile = Annotated[Path, typer.Option("--out", help="New file for the request.")]


def export(
    data: Data,
    span: Span,
    request: Request,
    out: Annotated[Path, typer.Option("--out", help="New Parquet file for the calls.")],
    log: LogOptions,
    permission: Permission,
    callees_key: CalleesKey = None,
    json: Json = False,
) -> None:
    """Export keyed calls, and record the export in the audit log; 500 calls or more need a ticket.

    Next: callsieve audit show.

    Example: callsieve privacy export --data world --first 2026-03-01 --last 2026-03-02 --purpose study --person p1
    --out calls.parquet --audit audit --signing-key log.key
    """
    from callsieve.features.files.progress import steps
    from callsieve.serving.batch.output_keys import callee_keys_or_temporary
    from callsieve.training.oversight.log.audit_log import SignedLog
    from callsieve.training.oversight.log.gates import read_gates
    from callsieve.training.oversight.log.tickets import EXPORT, AccessControl, Act, refusals_entered
    from callsieve.training.oversight.privacy import exports

    signed_log, hidden = SignedLog.of(log.audit, log.signing_key), callee_keys_or_temporary(callees_key)
    with console.progress("privacy export") as progress:
        inside = steps(progress, {"calls": 2, "file": 1})
        with refusals_entered(signed_log, Act(EXPORT, "", 0, request.purpose, request.person)):
            calls = exports.calls_between(data, span.first, span.last, inside["calls"], span.table)
        act = exports.export_act(calls, request.purpose, request.person, inside["calls"])
        control = AccessControl(signed_log, read_gates(permission.gates), permission.ticket or ())
        entry = exports.export_calls(calls, act, data, out, hidden, control)
        inside["file"]("write", 1.0)
    facts: dict[str, Any] = {"rows": act.count, "sha256": act.what, "entry": entry}
    console.emit_json(facts) if json else console.say(f"{out}: {act.count} calls; entry {entry} of the audit log")


def reidentify(
    token: Tokens,
    request: Request,
    key: NumberKey,
    log: LogOptions,
    permission: Permission,
    callees_key: CalleesKey = None,
    json: Json = False,
) -> None:
    """Print which numbers, blocks, operators and trunks on standard input have these tokens; needs two tickets.

    A line of the input is a number, any number of a block, or the name of an operator or a trunk.

    Next: callsieve audit show.

    Example: callsieve privacy reidentify e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp --purpose appeal --person p1
    --key number.key --audit audit --signing-key log.key
    """
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.batch.output_keys import read_callee_keys
    from callsieve.training.oversight.log.audit_log import SignedLog
    from callsieve.training.oversight.log.gates import read_gates
    from callsieve.training.oversight.log.tickets import AccessControl
    from callsieve.training.oversight.privacy import exports

    act = exports.reidentify_act(token, request.purpose, request.person)
    number_key, callees, gates = read_key(key), read_callee_keys(callees_key), read_gates(permission.gates)
    control = AccessControl(SignedLog.of(log.audit, log.signing_key), gates, permission.ticket or ())
    numbers = exports.reidentify(token, map(str.strip, sys.stdin), act, number_key, callees, control)
    if json:
        console.emit_json({"numbers": [{"token": name, "number": number} for name, number in numbers]})
        return
    for name, number in numbers:
        typer.echo(f"{name}\t{number}")


def ticket_export(data: Data, span: Span, request: Request, out: ActFile, json: Json = False) -> None:
    """Write a request for an export, which becomes a ticket when another person signs it.

    Next: callsieve privacy ticket agree.

    Example: callsieve privacy ticket export --data world --first 2026-03-01 --last 2026-03-02 --purpose study
    --person p1 --out request.json
    """
    from callsieve.training.oversight.log.tickets import write_act
    from callsieve.training.oversight.privacy import exports

    with console.progress("privacy ticket export") as progress:
        calls = exports.calls_between(data, span.first, span.last, progress, span.table)
        act = exports.export_act(calls, request.purpose, request.person, progress)
    write_act(act, out)
    facts = {"act": act.act, "rows": act.count, "out": str(out)}
    console.emit_json(facts) if json else console.say(f"{out}: {act.act}, {act.count} rows")


def ticket_reidentify(token: Tokens, request: Request, out: ActFile, json: Json = False) -> None:
    """Write a request for a reidentification, which becomes a ticket when another person signs it.

    Next: callsieve privacy ticket agree.

    Example: callsieve privacy ticket reidentify e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp --purpose appeal --person p1
    --out request.json
    """
    from callsieve.training.oversight.log.tickets import write_act
    from callsieve.training.oversight.privacy import exports

    act = exports.reidentify_act(token, request.purpose, request.person)
    write_act(act, out)
    facts = {"act": act.act, "tokens": act.count, "out": str(out)}
    console.emit_json(facts) if json else console.say(f"{out}: {act.act}, {act.count} tokens")


def ticket_parties(data: Data, request: Request, out: ActFile, period: Period, json: Json = False) -> None:
    """Write a request for an audit of operators and trunks, which becomes a ticket when another person signs it.

    Next: callsieve privacy ticket agree.

    Example: callsieve privacy ticket parties --data world --purpose audit --person p1 --out request.json
    """
    from callsieve.training.oversight.governance import party_audit
    from callsieve.training.oversight.log.tickets import write_act

    with console.progress("privacy ticket parties"):
        opened = party_audit.open_audit(data, period.verdicts, period.until, period.days)
        act = party_audit.audit_act(opened, request.purpose, request.person)
    write_act(act, out)
    facts = {"act": act.act, "rows": act.count, "out": str(out)}
    console.emit_json(facts) if json else console.say(f"{out}: {act.act}, {act.count} calls")


def agree(
    act: Annotated[Path, typer.Argument(metavar="REQUEST", help="File that another `privacy ticket` command wrote.")],
    signing_key: SigningKey,
    out: Annotated[Path, typer.Option("--out", help="New file for the ticket.")],
    valid_days: ValidDays = 7.0,
    json: Json = False,
) -> None:
    """Sign a request, which makes a ticket; the gates file names the keys that may sign.

    Next: callsieve privacy export, or privacy reidentify.

    Example: callsieve privacy ticket agree request.json --signing-key risk.key --out ticket.json
    """
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.training.oversight.log.tickets import read_act, sign_ticket

    request = read_act(act)
    signer = sign_ticket(request, read_signing_key(signing_key), out, checked_days(valid_days))
    if json:
        facts = {"key": signer, "act": request.act, "rows": request.count, "person": request.person}
        console.emit_json(facts | {"purpose": request.purpose, "out": str(out)})
    else:
        what = f"{request.act}, {request.count} rows, for {request.person}: {request.purpose}"
        console.say(f"{out}: key {signer} agrees to {what}")
