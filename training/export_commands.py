"""Commands that carry verdicts elsewhere: into MLflow, onto handsets, to Asterisk. Thin: each step has its module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .shared_options import Json

commands = typer.Typer()

Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) that must have signed; by default signer.pub beside the file."),
]
SharingKey = Annotated[
    Path, typer.Option("--key", help="Key file of the tokens that are shared; never the key of stored tokens.")
]


@commands.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="Folder of a signed bundle.")],
    mlflow: Annotated[Path | None, typer.Option(help="New folder, for `mlflow models serve` and Spark.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="New file, for a handset: of the yes-no model alone.")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Write a verified bundle as an MLflow model, or as ONNX with its numeric difference told."""
    from . import console

    signer = trust or bundle.parent / "signer.pub"
    if (mlflow is None) == (onnx is None):
        console.fail("export: expected either --mlflow FOLDER or --onnx FILE", code=2)
    if mlflow is not None:
        from .flavour import TRUST, save_model

        save_model(bundle, mlflow, signer=signer)
        next_step = f"{TRUST}={signer} mlflow models serve -m {mlflow} --env-manager local"
        console.emit_json({"mlflow": str(mlflow)}) if json else console.say(f"{mlflow}: written\nnext     {next_step}")
        return
    from .handset import export as write

    assert onnx is not None  # noqa: S101 - one of the two is given, as checked above
    found = write(bundle, onnx, signer=signer)
    if json:
        console.emit_json(found)
        return
    console.say(f"{onnx}: model {found['model']}, {len(found['features'])} features, {found['bytes']:,} bytes")
    rows = [
        (
            name, f"{told['rows']:,}", f"{told['raw']:.1e}", f"{told['probability']:.1e}", str(told["bands"]),
            f"{told['float32_raw']:.1e}", str(told["float32_bands"]),
        )
        for name in ("golden", "thresholds") for told in [found[name]]
    ]  # fmt: skip
    head = ("rows", "number", "raw score", "probability", "other bands", "raw, from float32", "other bands")
    console.show_table("largest differences from the bundle", head, rows)


@commands.command()
def token_list(
    numbers: Annotated[Path, typer.Argument(help="Text file: a number as written on each line.")],
    out: Annotated[Path, typer.Option(help="New file for the list.")],
    key: SharingKey,
    signing_key: Annotated[Path, typer.Option(help="Ed25519 key (PEM) that signs the list.")],
    epoch: Annotated[int, typer.Option(help="Grows with each list: an earlier one is no longer taken.")],
    days: Annotated[float, typer.Option(help="How long it may be used.")] = 7.0,
    rate: Annotated[float, typer.Option(help="False positives at most, of numbers that are not listed.")] = 1e-6,
    json: Json = False,
) -> None:
    """Make a signed, expiring list of nuisance numbers that a handset can hold: keyed tokens, no number."""
    from datetime import UTC, datetime, timedelta

    from ..features.pseudonyms import read_key
    from ..serving.signing import read_signing_key
    from ..serving.tokenlist import MOMENT, make
    from . import console

    until = (datetime.now(UTC) + timedelta(days=days)).strftime(MOMENT)
    lines = numbers.read_text(encoding="utf-8").splitlines()
    facts = make(
        out, lines, read_key(key, "sharing"), read_signing_key(signing_key), epoch=epoch, valid_until=until, rate=rate
    )
    if json:
        console.emit_json(facts)
    else:
        console.show_table(str(out), ("", ""), [(name, f"{value:,}") if isinstance(value, int) else (name, str(value))
                                                for name, value in facts.items()])  # fmt: skip


@commands.command()
def listed(
    tokens: Annotated[Path, typer.Argument(help="A list that token-list made.")],
    key: SharingKey,
    trust: Trust = None,
    minimum_epoch: Annotated[int, typer.Option(help="Earlier lists are refused.")] = 0,
) -> None:
    """Look up numbers, one on each line of standard input: "yes" or "no" for each, in order."""
    from ..features.pseudonyms import read_key
    from ..serving.signing import read_public_key
    from ..serving.tokenlist import TokenList

    signer = read_public_key(trust or tokens.parent / "signer.pub")
    held = TokenList.open(tokens, read_key(key, "sharing"), [signer], minimum_epoch=minimum_epoch)
    for line in sys.stdin:
        typer.echo("yes" if held.lists(line.strip()) else "no")


@commands.command()
def agi(
    bundle: Annotated[Path, typer.Option("--bundle", help="Folder of a signed bundle.")],
    key: Annotated[Path, typer.Option("--key", help="Key file for the tokens of numbers.")],
    state: Annotated[Path, typer.Option("--state", help="Folder of what outlives the process.")],
    trust: Trust = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="Policy file; the shipped one by default.")] = None,
    registers: Annotated[
        Path | None, typer.Option("--registers", help="Folder that `callsieve registers` wrote.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4573,
    zone: Annotated[str, typer.Option(help="Time zone of hours and days.")] = "Asia/Shanghai",
) -> None:
    """Serve verdicts to Asterisk over FastAGI; the dialplan is in the text of serving/agi.py."""
    import asyncio

    from ..features.intake import Intake
    from ..features.pseudonyms import read_key
    from ..serving import Swap, read_policy, read_public_key
    from ..serving.agi import serve
    from ..serving.live import Live
    from ..serving.unlisted import FILE, Unlisted

    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = read_public_key(trust or bundle.parent / "signer.pub")
    judge = Swap(trusted=[signer], policy=read_policy(policy), registers=registers, epoch_file=state / "epoch",
                 unlisted=Unlisted(state / FILE))  # fmt: skip
    judge.load(bundle)
    live = Live(judge, Intake(read_key(key), zone), state)
    try:
        asyncio.run(serve(live, host, port))
    finally:
        live.close()
