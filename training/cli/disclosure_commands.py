"""The commands that hand personal data out: export and reidentify, and the tickets that they need."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from callsieve.features.files.dates import checked_days
from callsieve.features.files.progress import steps
from callsieve.features.keys.tokens import read_key
from callsieve.serving.bundle.signing import read_signing_key
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import CalleesKey, Data, NumberKey, ValidDays
from callsieve.training.oversight.log.tickets import EXPORT, Act, read_act, refusals_entered, sign_ticket, write_act

from .log_options import LogOptions, Period, Permission, Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The days of an export, and the table of their calls."""

    first: Annotated[str, Option("--first", help="First UTC day, such as 2026-03-01.")]
    last: Annotated[str, Option("--last", help="Last UTC day.")]
    for_tracing: Annotated[
        bool, Option("--held", help="Read held.parquet, which `callsieve privacy hold` wrote, instead of the calls.")
    ] = False

    @property
    def table(self) -> str:
        """Returns the name of the table of the calls."""
        return "held" if self.for_tracing else "calls"


Tokens = Annotated[list[str], Argument(metavar="TOKEN...", help="Tokens of numbers, blocks, operators or trunks.")]
ActFile = Annotated[Path, Option("--out", help="New file for the request.")]


@console.private
def export(
    data: Data,
    span: Span,
    request: Request,
    out: Annotated[Path, Option("--out", help="New Parquet file for the calls.")],
    log: LogOptions,
    permission: Permission,
    callees_key: CalleesKey = None,
) -> Result:
    """Export keyed calls, and record the export in the audit log; 500 calls or more need a ticket.

    Next: callsieve audit show.

    Example: callsieve privacy export --data world --first 2026-03-01 --last 2026-03-02 --purpose study --person p1
    --out calls.parquet --audit audit --signing-key log.key
    """
    from callsieve.serving.batch.output_keys import callee_keys_or_temporary
    from callsieve.training.oversight.privacy import exports

    signed_log, hidden = log.signed(), callee_keys_or_temporary(callees_key)
    with console.progress("privacy export") as progress:
        inside = steps(progress, {"calls": 2, "file": 1})
        with refusals_entered(signed_log, Act(EXPORT, "", 0, request.purpose, request.person)):
            calls = exports.calls_between(data, span.first, span.last, inside["calls"], span.table)
        act = exports.export_act(calls, request.purpose, request.person, inside["calls"])
        entry = exports.export_calls(calls, act, data, out, hidden, permission.control(signed_log))
        inside["file"]("write", 1.0)
    facts = {"rows": act.count, "sha256": act.what, "entry": entry}
    return Result(facts, f"{out}: {act.count} calls; entry {entry} of the audit log")


def reidentify(
    token: Tokens,
    request: Request,
    key: NumberKey,
    log: LogOptions,
    permission: Permission,
    callees_key: CalleesKey = None,
) -> Result:
    """Print which numbers, blocks, operators and trunks on standard input have these tokens; needs two tickets.

    A line of the input is a number, any number of a block, or the name of an operator or a trunk.

    Next: callsieve audit show.

    Example: callsieve privacy reidentify e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp --purpose appeal --person p1
    --key number.key --audit audit --signing-key log.key
    """
    from callsieve.serving.batch.output_keys import read_callee_keys
    from callsieve.training.oversight.privacy import exports

    act = exports.reidentify_act(token, request.purpose, request.person, log.audit_log)
    number_key, callees, control = read_key(key), read_callee_keys(callees_key), permission.control(log.signed())
    numbers = list(exports.reidentify(token, map(str.strip, sys.stdin), act, number_key, callees, control))

    def show() -> None:
        for name, number in numbers:
            typer.echo(f"{name}\t{number}")

    return Result({"numbers": [{"token": name, "number": number} for name, number in numbers]}, show)


def ticket_export(data: Data, span: Span, request: Request, out: ActFile) -> Result:
    """Write a request for an export, which becomes a ticket when another person signs it.

    Next: callsieve privacy ticket agree.

    Example: callsieve privacy ticket export --data world --first 2026-03-01 --last 2026-03-02 --purpose study
    --person p1 --out request.json
    """
    from callsieve.training.oversight.privacy import exports

    with console.progress("privacy ticket export") as progress:
        calls = exports.calls_between(data, span.first, span.last, progress, span.table)
        act = exports.export_act(calls, request.purpose, request.person, progress)
    return _requested(act, out, "rows")


def ticket_reidentify(token: Tokens, request: Request, out: ActFile, audit_log: Path) -> Result:
    """Write a request for a reidentification, which becomes a ticket when another person signs it.

    The ticket is valid for one audit log, which must have an entry: `callsieve audit note` begins one.

    Next: callsieve privacy ticket agree.

    Example: callsieve privacy ticket reidentify e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp --purpose appeal --person p1
    --audit audit --out request.json
    """
    from callsieve.training.oversight.privacy import exports

    act = exports.reidentify_act(token, request.purpose, request.person, audit_log)
    if not act.log:
        raise ValueError(f"{audit_log}: the audit log has no entry yet; begin it with callsieve audit note")
    return _requested(act, out, "tokens")


def ticket_parties(data: Data, request: Request, out: ActFile, period: Period) -> Result:
    """Write a request for an audit of operators and trunks, which becomes a ticket when another person signs it.

    Next: callsieve privacy ticket agree.

    Example: callsieve privacy ticket parties --data world --purpose audit --person p1 --out request.json
    """
    from callsieve.training.oversight.governance import party_audit

    with console.progress("privacy ticket parties"):
        opened = party_audit.open_audit(data, period.verdicts, period.until, period.days)
        act = party_audit.audit_act(opened, request.purpose, request.person)
    return _requested(act, out, "rows", "calls")


def _requested(act: Act, out: Path, unit: str, word: str = "") -> Result:
    write_act(act, out)
    facts = {"act": act.act, unit: act.count, "out": str(out)}
    return Result(facts, f"{out}: {act.act}, {act.count} {word or unit}")


def agree(
    act: Annotated[Path, Argument(metavar="REQUEST", help="File that another `privacy ticket` command wrote.")],
    signing_key: Path,
    out: Annotated[Path, Option("--out", help="New file for the ticket.")],
    valid_days: ValidDays = 7.0,
) -> Result:
    """Sign a request, which makes a ticket; the gates file names the keys that may sign.

    Next: callsieve privacy export, or privacy reidentify.

    Example: callsieve privacy ticket agree request.json --signing-key risk.key --out ticket.json
    """
    request = read_act(act)
    signer = sign_ticket(request, read_signing_key(signing_key), out, checked_days(valid_days))
    facts = {"key": signer, "act": request.act, "rows": request.count, "person": request.person}
    what = f"{request.act}, {request.count} rows, for {request.person}: {request.purpose}"
    return Result(facts | {"purpose": request.purpose, "out": str(out)}, f"{out}: key {signer} agrees to {what}")
