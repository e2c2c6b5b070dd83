"""The commands of `govern token-list`: make, lookup, share; and of `govern discredited`: add, appeal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsieve.serving.cli import console
from callsieve.serving.cli.options import Json, LogOptions, SigningKey, ValidDays

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SharingKey = Annotated[
    Path,
    typer.Option("--key", help="Key file (purpose sharing) that makes the tokens of the list."),
]
ListFile = Annotated[Path, typer.Argument(help="List that `make` or `share` wrote.")]
NewList = Annotated[Path, typer.Option("--out", help="New file for the list.")]
ListEpoch = Annotated[int, typer.Option("--list-epoch", help="Number of the list; readers refuse an earlier list.")]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) of the signer; by default signer.pub beside the list."),
]


def make(
    numbers: Annotated[Path, typer.Argument(help="Text file with one number a line.")],
    out: NewList,
    key: SharingKey,
    signing_key: SigningKey,
    list_epoch: ListEpoch,
    valid_days: ValidDays = 7.0,
    rate: Annotated[
        float, typer.Option("--false-positive-rate", help="Highest false positive rate of unlisted numbers.")
    ] = 1e-6,
    json: Json = False,
) -> None:
    """Make a signed, expiring list of nuisance numbers for handsets; it has tokens in place of numbers.

    Next: callsieve govern token-list lookup.

    Example: callsieve govern token-list make numbers.txt --out list --list-epoch 1 --key sharing.key
    --signing-key signing.key
    """
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.lists.token_list import write_token_list as write

    lines = numbers.read_text(encoding="utf-8").splitlines()
    facts = write(
        out,
        lines,
        read_key(key, "sharing"),
        read_signing_key(signing_key),
        epoch=list_epoch,
        valid_until=_after(valid_days),
        rate=rate,
    )
    console.emit_json(facts) if json else console.show_facts(str(out), facts)


def lookup(
    tokens: ListFile,
    key: SharingKey,
    trust: Trust = None,
    minimum_epoch: Annotated[int, typer.Option("--minimum-epoch", help="Number of the earliest list to accept.")] = 0,
    json: Json = False,
) -> None:
    """Print yes or no for each number on standard input, one a line.

    Next: callsieve govern token-list share.

    Example: callsieve govern token-list lookup list --key sharing.key
    """
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_public_key, signer_path
    from callsieve.serving.lists.token_list import TokenList

    signer = read_public_key(signer_path(tokens, trust))
    listed = TokenList.open(tokens, read_key(key, "sharing"), [signer], minimum_epoch=minimum_epoch)
    answers = (listed.lists(line.strip()) for line in sys.stdin)
    if json:
        console.emit_json({"listed": list(answers)})
        return
    for answer in answers:
        typer.echo("yes" if answer else "no")


def share(
    numbers: Annotated[Path, typer.Argument(help="Text file with one candidate number a line.")],
    out: NewList,
    store_key: Annotated[
        Path, typer.Option("--store-key", help="Key file that made the tokens in verdicts and findings.")
    ],
    key: SharingKey,
    signing_key: SigningKey,
    list_epoch: ListEpoch,
    verdicts: Annotated[
        Path | None, typer.Option("--verdicts", help="File that `callsieve score --out` wrote.")
    ] = None,
    findings: Annotated[
        Path | None, typer.Option("--findings", help="Findings (Parquet): number, nuisance, known_at.")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option("--exclude", help="Cleared numbers: tokens, one a line, or exclusions.parquet.")
    ] = None,
    valid_days: ValidDays = 7.0,
    json: Json = False,
) -> None:
    """Make a signed, expiring list of numbers with certified verdicts or a confirming finding, without cleared ones.

    Next: callsieve govern token-list lookup.

    Example: callsieve govern token-list share numbers.txt --store-key number.key --out list --list-epoch 1
    --key sharing.key --signing-key signing.key
    """
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.lists.token_list import write_token_list as write
    from callsieve.training.oversight.governance.sharing import choose, only, read_excluded

    chosen = choose(verdicts, findings, excluded=read_excluded(exclude))
    sharing = read_key(key, "sharing")
    with numbers.open(encoding="utf-8") as lines:
        listed = only((line.strip() for line in lines), chosen.tokens, read_key(store_key), sharing)
        signer = read_signing_key(signing_key)
        facts = write(out, listed, sharing, signer, epoch=list_epoch, valid_until=_after(valid_days))
    facts |= {name: getattr(chosen, name) for name in ("certified", "confirmed", "cleared", "excluded")}
    facts["not_found"] = len(chosen.tokens) - facts["tokens"] - facts["protected"]
    console.emit_json(facts) if json else console.show_facts(str(out), facts)


def _after(days: float) -> str:
    """Returns the moment this many days from now, in the form of a list. Raises ValueError: if `days` is not valid."""
    from datetime import UTC, datetime, timedelta

    from callsieve.features.files.dates import checked_days
    from callsieve.serving.lists.token_list import MOMENT

    return (datetime.now(UTC) + timedelta(days=checked_days(days))).strftime(MOMENT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Firm:
    """A firm of the list of discredited firms, and the folder of registers that holds the list."""

    registers: Annotated[Path, typer.Option("--registers", help="Folder that `callsieve ingest registers` wrote.")]
    role: Annotated[str, typer.Option("--role", help="principal or agent, as the register of campaigns names it.")]


FirmName = Annotated[str, typer.Argument(help="Name of the firm, as the register of campaigns writes it.")]


def discredit(
    party: FirmName,
    firm: Firm,
    log: LogOptions,
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the notice and the audit log.")],
    appeal_days: Annotated[int, typer.Option(min=1, help="Days until it takes effect, for an appeal.")] = 10,
    json: Json = False,
) -> None:
    """List a firm as discredited (失信), print the notice to it, and record it in the audit log.

    Next: callsieve govern discredited appeal.

    Example: callsieve govern discredited add FIRM --role agent --reason complaints --registers registers --audit audit
    --signing-key log.key
    """
    from callsieve.features.files.dates import now_ms
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.lists.discredited import NOTICE, list_firm

    key = read_signing_key(log.signing_key)
    row = _local_days(list_firm(firm.registers, party, firm.role, reason, now_ms(), appeal_days))
    notices = {language: text.format(**row) for language, text in NOTICE.items()}
    _entered(log.audit, key, {"what": "listed as discredited"} | row, row | notices, json)


def appeal_discredited(
    party: FirmName,
    firm: Firm,
    log: LogOptions,
    why: Annotated[str, typer.Option("--why", help="Why the appeal is upheld, for the audit log.")],
    json: Json = False,
) -> None:
    """End the entry of a discredited firm whose appeal is upheld, and record it in the audit log.

    Next: callsieve govern report.

    Example: callsieve govern discredited appeal FIRM --role agent --why mistaken --registers registers --audit audit
    --signing-key log.key
    """
    from callsieve.features.files.dates import now_ms
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.lists.discredited import unlist_firm

    key = read_signing_key(log.signing_key)
    row = _local_days(unlist_firm(firm.registers, party, firm.role, now_ms()))
    _entered(log.audit, key, {"what": "appeal upheld, not discredited", "why": why} | row, row, json)


def _local_days(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of the list with its moments as days in China."""
    from datetime import datetime

    from callsieve.features.files.dates import time_zone
    from callsieve.features.reading.layouts import DEFAULT_ZONE

    zone = time_zone(DEFAULT_ZONE)
    moments = {name: row[name] for name in ("valid_from", "valid_to", "known_at")}
    days = {
        name: moment and datetime.fromtimestamp(moment / 1000, zone).date().isoformat()
        for name, moment in moments.items()
    }
    return row | days


def _entered(log: Path, key: Ed25519PrivateKey, payload: dict[str, Any], facts: dict[str, Any], json: bool) -> None:
    from callsieve.training.oversight.log.audit_log import append

    entry = append(log, "policy", payload, key)
    if json:
        console.emit_json(facts | {"entry": entry})
        return
    for line in (facts.get("zh"), facts.get("en"), f"{facts['party']}: entry {entry} of the audit log"):
        if line:
            console.say(line)
