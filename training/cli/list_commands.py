"""The commands of `govern token-list`: publish, lookup; and of `govern discredited`: add, appeal."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from callsieve.features.files.dates import checked_days, now_ms, time_zone, utc_text
from callsieve.features.keys.tokens import read_key
from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.serving.bundle.signing import read_public_key, read_signing_key, signer_path
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import Trust, ValidDays
from callsieve.serving.lists import discredited
from callsieve.serving.lists.exchange import Issuer
from callsieve.serving.lists.exchange import publish as publish_list
from callsieve.serving.lists.following import open_lists
from callsieve.serving.scorer.scorer import Scorer

from .log_options import LogOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class ListIssuer:
    """The issuer of a list, the key that makes its tokens, the key that signs it, and the model that flags numbers."""

    issuer: Annotated[str, Option("--issuer", help="Name of the issuer, as readers write it in their file.")]
    key: Annotated[Path, Option("--key", help="Key file (purpose sharing) that makes the tokens of the list.")]
    signing_key: Path
    bundle: Annotated[
        Path | None, Option("--bundle", help="Model behind the verdicts, whose certified error bound the list states.")
    ] = None
    trust: Trust = None

    def read(self) -> Issuer:
        """Returns the issuer with its keys."""
        issuer = Issuer(self.issuer, read_key(self.key, "sharing"), read_signing_key(self.signing_key))
        if self.bundle is None:
            return issuer
        bundle = Scorer.load(self.bundle, trusted=[read_public_key(signer_path(self.bundle, self.trust))]).bundle
        proofs = [band.certificate for band in (bundle.thresholds[0], *(bundle.flags or {}).values())]
        bound = max(proof.bound for proof in proofs) if all(proof.certified for proof in proofs) else None
        return replace(issuer, model=bundle.model_id, error_bound=bound if bundle.flags else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFor:
    """The files that say which numbers are listed; without them all numbers are."""

    store_key: Annotated[
        Path | None, Option("--store-key", help="Key file that made the tokens in verdicts and findings.")
    ] = None
    issued: Annotated[
        Path | None,
        Option("--issued", help="Private file of the tokens on the list, by which cleared numbers are withdrawn."),
    ] = None
    verdicts: Annotated[Path | None, Option("--verdicts", help="File that `callsieve score --out` wrote.")] = None
    findings: Annotated[Path | None, Option("--findings", help="Findings (Parquet): number, nuisance, known_at.")] = (
        None
    )
    exclude: Annotated[
        Path | None, Option("--exclude", help="Cleared numbers: tokens, one a line, or exclusions.parquet.")
    ] = None


def publish(
    numbers: Annotated[Path, Argument(help="Text file with one candidate number a line.")],
    out: Annotated[Path, Option("--out", help="Folder of the issuer's lists, for readers.")],
    issuer: ListIssuer,
    reasons: ListedFor,
    valid_days: ValidDays = 2.0,
    by_prefix: Annotated[
        bool, Option("--by-prefix", help="Write 256 lists by prefix, too, for readers who take a part.")
    ] = False,
) -> Result:
    """Publish the next signed list of nuisance numbers as tokens: what is new since the last, and what is withdrawn.

    With --store-key, the list has the numbers that the model flagged or a finding confirmed; else all numbers of the
    file, and no others. Run it hourly: readers stop to use a list after --valid-days.

    Next: callsieve govern token-list lookup.

    Example: callsieve govern token-list publish numbers.txt --out lists/own --issuer own --key sharing.key
    --signing-key signing.key
    """
    from callsieve.training.oversight.governance.sharing import all_numbers, candidates_among, choose, read_excluded

    signed_by, now = issuer.read(), now_ms() // 1000 * 1000
    with numbers.open(encoding="utf-8") as lines:
        texts = (line.strip() for line in lines)
        if reasons.store_key is None:
            if any((reasons.issued, reasons.verdicts, reasons.findings, reasons.exclude)):
                console.fail("publish: --issued, --verdicts, --findings and --exclude need --store-key", code=2)
            candidates = all_numbers(texts, signed_by.key, now)
        else:
            if reasons.issued is None:
                console.fail("publish: --store-key needs --issued FILE, for withdrawals", code=2)
            chosen = choose(reasons.verdicts, reasons.findings, excluded=read_excluded(reasons.exclude))
            keys = read_key(reasons.store_key), signed_by.key
            candidates = candidates_among(texts, chosen, *keys, reasons.issued, now)
    new, whole = publish_list(
        out,
        signed_by,
        candidates.entries,
        candidates.withdrawn,
        complete=reasons.store_key is None,
        by_prefix=by_prefix,
        now=now,
        valid_days=checked_days(valid_days),
    )
    waited = sorted((now - entry.last) / 1000 for entry in candidates.entries)
    facts = {
        "issuer": signed_by.name,
        "epoch": new.epoch,
        "listed": sum(group.tokens for group in whole.groups),
        "new": sum(group.tokens for group in new.groups),
        "withdrawn": new.withdrawn,
        "valid_until": utc_text(new.valid_until),
        "error_bound": new.error_bound,
        "flagged_to_published_seconds": waited[len(waited) // 2] if waited else None,
        **candidates.counts,
    }
    return Result(facts, lambda: console.show_facts(str(out), facts))


def lookup(
    lists: Annotated[Path, Argument(help="TOML file of lists, as --lists of the services takes it.")],
    json: bool = False,
) -> Result:
    """Print the issuers that list each number on standard input, one a line; "no" for a number that none lists.

    Next: callsieve serve.

    Example: callsieve govern token-list lookup lists.toml
    """
    opened = open_lists(lists)
    for line in opened.statuses():
        console.note(line)
    answers = []
    for line in sys.stdin:
        listing = opened.listed.at(opened.listed.token(line.strip()), now_ms())
        answers.append([] if listing is None else listing.issuers())
        if not json:
            typer.echo(", ".join(answers[-1]) or "no")
    return Result({"listed": answers}, ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Firm:
    """A firm of the list of discredited firms, and the folder of registers that holds the list."""

    registers: Annotated[Path, Option("--registers", help="Folder that `callsieve ingest registers` wrote.")]
    role: Annotated[str, Argument(help="principal or agent, as the register of campaigns names it.")]


FirmName = Annotated[str, Argument(help="Name of the firm, as the register of campaigns writes it.")]


def discredit(
    party: FirmName,
    firm: Firm,
    log: LogOptions,
    why: Annotated[str, Option("--why", help="Reason, for the notice and the audit log.")],
    days: Annotated[int, Option(min=1, help="Days until it takes effect, for an appeal.")] = discredited.APPEAL_DAYS,
) -> Result:
    """List a firm as discredited (失信), print the notice to it, and record it in the audit log.

    Next: callsieve govern discredited appeal.

    Example: callsieve govern discredited add FIRM agent --why complaints --registers registers --audit audit
    --signing-key log.key
    """
    signed_log = log.signed()
    row = _local_days(discredited.list_firm(firm.registers, party, firm.role, why, now_ms(), days))
    notices = {language: text.format(**row) for language, text in discredited.NOTICE.items()}
    entry = signed_log.append("policy", {"what": "listed as discredited"} | row)
    lines = [notices["zh"], notices["en"], f"{row['party']}: entry {entry} of the audit log"]
    return Result(row | notices | {"entry": entry}, lines)


def appeal_discredited(
    party: FirmName,
    firm: Firm,
    log: LogOptions,
    why: Annotated[str, Option("--why", help="Why the appeal is upheld, for the audit log.")],
) -> Result:
    """End the entry of a discredited firm whose appeal is upheld, and record it in the audit log.

    Next: callsieve govern report.

    Example: callsieve govern discredited appeal FIRM agent --why mistaken --registers registers --audit audit
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
