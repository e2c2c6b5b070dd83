"""The commands of `govern token-list`: make, lookup, share; and of `govern discredited`: add, appeal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.dates import DAY, checked_days, now_ms, time_zone, utc_text
from callsieve.features.keys.tokens import Key, read_key
from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.serving.bundle.signing import read_public_key, read_signing_key, signer_path
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import ValidDays
from callsieve.serving.lists import discredited
from callsieve.serving.lists.token_list import TokenList, write_token_list

from .log_options import LogOptions

SharingKey = Annotated[
    Path,
    typer.Option("--key", help="Key file (purpose sharing) that makes the tokens of the list."),
]
ListFile = Annotated[Path, typer.Argument(help="List that `make` or `share` wrote.")]
NewList = Annotated[Path, typer.Option("--out", help="New file for the list.")]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) of the signer; by default signer.pub beside the list."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ListKeys:
    """The key that makes the tokens of a list, the key that signs it, and its number."""

    key: SharingKey
    signing_key: Path
    list_epoch: Annotated[int, typer.Option("--list-epoch", help="Number of the list; readers refuse an earlier list.")]

    def read(self) -> tuple[Key, Ed25519PrivateKey]:
        """Returns the key of the tokens and the key that signs."""
        return read_key(self.key, "sharing"), read_signing_key(self.signing_key)


def make(
    numbers: Annotated[Path, typer.Argument(help="Text file with one number a line.")],
    out: NewList,
    keys: ListKeys,
    valid_days: ValidDays = 7.0,
    rate: Annotated[
        float, typer.Option("--false-positive-rate", help="Highest false positive rate of unlisted numbers.")
    ] = 1e-6,
) -> Result:
    """Make a signed, expiring list of nuisance numbers for handsets; it has tokens in place of numbers.

    Next: callsieve govern token-list lookup.

    Example: callsieve govern token-list make numbers.txt --out list --list-epoch 1 --key sharing.key
    --signing-key signing.key
    """
    lines, until = numbers.read_text(encoding="utf-8").splitlines(), _after(valid_days)
    facts = write_token_list(out, lines, *keys.read(), epoch=keys.list_epoch, valid_until=until, rate=rate)
    return Result(facts, lambda: console.show_facts(str(out), facts))


def lookup(
    tokens: ListFile,
    key: SharingKey,
    trust: Trust = None,
    minimum_epoch: Annotated[int, typer.Option("--minimum-epoch", help="Number of the earliest list to accept.")] = 0,
    json: bool = False,
) -> Result:
    """Print yes or no for each number on standard input, one a line.

    Next: callsieve govern token-list share.

    Example: callsieve govern token-list lookup list --key sharing.key
    """
    signer = read_public_key(signer_path(tokens, trust))
    listed = TokenList.open(tokens, read_key(key, "sharing"), [signer], minimum_epoch=minimum_epoch)
    answers = []
    for line in sys.stdin:
        answers.append(listed.lists(line.strip()))
        if not json:
            typer.echo("yes" if answers[-1] else "no")
    return Result({"listed": answers}, ())


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFor:
    """The files that say which numbers are listed."""

    verdicts: Annotated[Path | None, typer.Option("--verdicts", help="File that `callsieve score --out` wrote.")] = None
    findings: Annotated[
        Path | None, typer.Option("--findings", help="Findings (Parquet): number, nuisance, known_at.")
    ] = None
    exclude: Annotated[
        Path | None, typer.Option("--exclude", help="Cleared numbers: tokens, one a line, or exclusions.parquet.")
    ] = None


def share(
    numbers: Annotated[Path, typer.Argument(help="Text file with one candidate number a line.")],
    out: NewList,
    store_key: Annotated[
        Path, typer.Option("--store-key", help="Key file that made the tokens in verdicts and findings.")
    ],
    keys: ListKeys,
    reasons: ListedFor,
    valid_days: ValidDays = 7.0,
) -> Result:
    """Make a signed, expiring list of numbers with certified verdicts or a confirming finding, without cleared ones.

    Next: callsieve govern token-list lookup.

    Example: callsieve govern token-list share numbers.txt --store-key number.key --out list --list-epoch 1
    --key sharing.key --signing-key signing.key
    """
    from callsieve.training.oversight.governance.sharing import choose, only, read_excluded

    chosen = choose(reasons.verdicts, reasons.findings, excluded=read_excluded(reasons.exclude))
    sharing, signer = keys.read()
    with numbers.open(encoding="utf-8") as lines:
        listed, until = (
            only((line.strip() for line in lines), chosen.tokens, read_key(store_key), sharing),
            _after(valid_days),
        )
        facts = write_token_list(out, listed, sharing, signer, epoch=keys.list_epoch, valid_until=until)
    facts |= {name: getattr(chosen, name) for name in ("certified", "confirmed", "cleared", "excluded")}
    facts["not_found"] = len(chosen.tokens) - facts["tokens"] - facts["protected"]
    return Result(facts, lambda: console.show_facts(str(out), facts))


def _after(days: float) -> str:
    return utc_text(now_ms() + checked_days(days) * DAY)


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
    appeal_days: Annotated[
        int, typer.Option(min=1, help="Days until it takes effect, for an appeal.")
    ] = discredited.APPEAL_DAYS,
) -> Result:
    """List a firm as discredited (失信), print the notice to it, and record it in the audit log.

    Next: callsieve govern discredited appeal.

    Example: callsieve govern discredited add FIRM --role agent --reason complaints --registers registers --audit audit
    --signing-key log.key
    """
    signed_log = log.signed()
    row = _local_days(discredited.list_firm(firm.registers, party, firm.role, reason, now_ms(), appeal_days))
    notices = {language: text.format(**row) for language, text in discredited.NOTICE.items()}
    entry = signed_log.append("policy", {"what": "listed as discredited"} | row)
    lines = [notices["zh"], notices["en"], f"{row['party']}: entry {entry} of the audit log"]
    return Result(row | notices | {"entry": entry}, lines)


def appeal_discredited(
    party: FirmName,
    firm: Firm,
    log: LogOptions,
    why: Annotated[str, typer.Option("--why", help="Why the appeal is upheld, for the audit log.")],
) -> Result:
    """End the entry of a discredited firm whose appeal is upheld, and record it in the audit log.

    Next: callsieve govern report.

    Example: callsieve govern discredited appeal FIRM --role agent --why mistaken --registers registers --audit audit
    --signing-key log.key
    """
    signed_log = log.signed()
    row = _local_days(discredited.unlist_firm(firm.registers, party, firm.role, now_ms()))
    entry = signed_log.append("policy", {"what": "appeal upheld, not discredited", "why": why} | row)
    return Result(row | {"entry": entry}, f"{row['party']}: entry {entry} of the audit log")


def _local_days(row: discredited.Entry) -> dict[str, Any]:
    zone = time_zone(DEFAULT_ZONE)
    moments = {"valid_from": row.valid_from, "valid_to": row.valid_to, "known_at": row.known_at}
    days = {
        name: moment and datetime.fromtimestamp(moment / 1000, zone).date().isoformat()
        for name, moment in moments.items()
    }
    return row._asdict() | days
