"""Commands that make and read signed lists of nuisance numbers, as tokens. Thin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import Json

commands = typer.Typer()
share = typer.Typer(no_args_is_help=True, help="Share nuisance numbers with handsets and other operators, as tokens.")
commands.add_typer(share, name="share")

SharingKey = Annotated[
    Path, typer.Option("--key", help="Key file of the tokens that are shared; never the key of stored tokens.")
]
SigningKey = Annotated[Path, typer.Option(help="Ed25519 key (PEM) that signs.")]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) that must have signed; by default signer.pub beside the file."),
]


@share.command("list")
def share_list(
    numbers: Annotated[
        Path, typer.Argument(help="Text file of all numbers that may be meant, as written, one a line.")
    ],
    out: Annotated[Path, typer.Option(help="New file for the list.")],
    store_key: Annotated[Path, typer.Option(help="Key file of the tokens in verdicts and findings.")],
    key: SharingKey,
    signing_key: SigningKey,
    epoch: Annotated[int, typer.Option(help="Grows with each list: an earlier one is no longer taken.")],
    verdicts: Annotated[Path | None, typer.Option(help="What `callsieve score --out` wrote.")] = None,
    findings: Annotated[Path | None, typer.Option(help="Findings (Parquet): number, nuisance, known_at.")] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="Numbers that were taken off: tokens, one a line, or exclusions.parquet.")
    ] = None,
    days: Annotated[float, typer.Option(help="How long it may be used.")] = 7.0,
    json: Json = False,
) -> None:
    """Make a signed, expiring list of numbers that were certified or confirmed, and not taken off since."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.serving.lists.token_list import write_token_list
    from callsieve.training.governance.sharing import choose, only, read_excluded

    chosen = choose(verdicts, findings, excluded=read_excluded(exclude))
    sharing = read_key(key, "sharing")
    with numbers.open(encoding="utf-8") as lines:
        meant = only((line.strip() for line in lines), chosen.tokens, read_key(store_key), sharing)
        facts = write_token_list(
            out, meant, sharing, read_signing_key(signing_key), epoch=epoch, valid_until=_after(days)
        )
    facts |= {name: getattr(chosen, name) for name in ("certified", "confirmed", "cleared", "excluded")}
    facts["not_found"] = len(chosen.tokens) - facts["tokens"] - facts["protected"]
    console.emit_json(facts) if json else console.show_facts(str(out), facts)


@commands.command()
def token_list(
    numbers: Annotated[Path, typer.Argument(help="Text file: a number as written on each line.")],
    out: Annotated[Path, typer.Option(help="New file for the list.")],
    key: SharingKey,
    signing_key: SigningKey,
    epoch: Annotated[int, typer.Option(help="Grows with each list: an earlier one is no longer taken.")],
    days: Annotated[float, typer.Option(help="How long it may be used.")] = 7.0,
    rate: Annotated[float, typer.Option(help="False positives at most, of numbers that are not listed.")] = 1e-6,
    json: Json = False,
) -> None:
    """Make a signed, expiring list of nuisance numbers that a handset can hold: keyed tokens, no number."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_signing_key
    from callsieve.serving.cli import console
    from callsieve.serving.lists.token_list import write_token_list

    lines = numbers.read_text(encoding="utf-8").splitlines()
    facts = write_token_list(
        out, lines, read_key(key, "sharing"), read_signing_key(signing_key), epoch=epoch, valid_until=_after(days),
        rate=rate,
    )  # fmt: skip
    console.emit_json(facts) if json else console.show_facts(str(out), facts)


@commands.command()
def listed(
    tokens: Annotated[Path, typer.Argument(help="A list that token-list made.")],
    key: SharingKey,
    trust: Trust = None,
    minimum_epoch: Annotated[int, typer.Option(help="Earlier lists are refused.")] = 0,
    json: Json = False,
) -> None:
    """Look up numbers, one on each line of standard input: "yes" or "no" for each, in order."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.bundle.signing import read_public_key, signer_path
    from callsieve.serving.cli import console
    from callsieve.serving.lists.token_list import TokenList

    signer = read_public_key(signer_path(tokens, trust))
    held = TokenList.open(tokens, read_key(key, "sharing"), [signer], minimum_epoch=minimum_epoch)
    found = (held.lists(line.strip()) for line in sys.stdin)
    if json:
        console.emit_json({"listed": list(found)})
        return
    for one in found:
        typer.echo("yes" if one else "no")


def _after(days: float) -> str:
    """The moment so many days from now, as a list tells it. Raises ValueError: if it is not to come."""
    from datetime import UTC, datetime, timedelta

    from callsieve.features.files.dates import days_ahead
    from callsieve.serving.lists.token_list import MOMENT

    return (datetime.now(UTC) + timedelta(days=days_ahead(days))).strftime(MOMENT)
